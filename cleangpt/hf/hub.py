"""Find a model in Hugging Face's format: in a local folder, in the hub's cache, or on the hub itself.

Only safetensors and JSON are fetched and read: nothing of them is code, and nothing is unpickled.
"""

import contextlib
import re
import sys
from pathlib import Path

from cleangpt.basics import untrusted
from cleangpt.basics.errors import UserError
from cleangpt.disk.rundir import holds_foreign_model

SHORT = {name: f"openai-community/{name}" for name in ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")}
REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+(@[\w./-]+)?")
ONE_FILE, INDEX = "model.safetensors", "model.safetensors.index.json"


def is_named(source: str) -> bool:
    """Test whether this names a model in Hugging Face's format, and not a run of ours."""
    path = Path(source)
    if path.exists():
        return holds_foreign_model(path)
    if source.partition("@")[0] in SHORT:
        return True
    # outputs/adder is a run that is not there, and no repository, where there is a folder outputs
    return REPOSITORY.fullmatch(source) is not None and not Path(path.parts[0]).exists()


def locate(source: str) -> Path:
    """Find the folder of a model: itself, or the repository's in the cache, fetched if it is not there."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    if Path(source).is_dir():
        return _whole(Path(source).resolve(), source)
    name, _, revision = source.partition("@")
    names = [name] if name not in SHORT else [SHORT[name], name]  # the short name is a redirection of the hub's
    for repository in names:
        try:
            folder = _fetched(repository, revision or None, local_files_only=True)
        except LocalEntryNotFoundError:
            continue
        with contextlib.suppress(UserError):  # an interrupted download, say
            return _whole(folder, source)
    return _whole(_download(names[0], revision or None), source)


def weight_files(folder: Path) -> list[Path]:
    """List the safetensors files of a model, one or several."""
    if (folder / ONE_FILE).exists():
        return [folder / ONE_FILE]
    if not (folder / INDEX).exists():
        return []
    with untrusted.reading(folder / INDEX, "a list of weights", ": fetch it again"):
        names = sorted(set(untrusted.json_object(folder / INDEX)["weight_map"].values()))
        wrong = [name for name in names if Path(name).name != name]
    if wrong:
        raise UserError(f"{folder / INDEX} names {wrong[0]}, which is no file of that folder")
    return [folder / name for name in names]


def _whole(folder: Path, source: str) -> Path:
    if (folder / "run.json").exists():
        raise UserError(f"{source} is a run of CleanGPT already, which can be sampled and scored as it is")
    if not (folder / "config.json").exists():
        raise UserError(f"{source} holds no config.json: it is no model in Hugging Face's format")
    found = weight_files(folder)
    if not found:
        raise UserError(
            f"{source} has no {ONE_FILE}. Pickles such as pytorch_model.bin can hold code and are not read: convert it "
            "where you trust it, by transformers' from_pretrained and save_pretrained"
        )
    if missing := [path.name for path in found if not path.exists()]:
        raise UserError(f"{source} lacks {missing[0]}, which its {INDEX} lists: fetch it again")
    return folder


def _fetched(repository: str, revision: str | None, local_files_only: bool) -> Path:
    """Fetch what the cache lacks of a repository, if that is allowed; its folder there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        folder = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=["*.safetensors", "*.json"],
            ignore_patterns=["*/*"],
            local_files_only=local_files_only,
        )
    except HFValidationError as error:
        raise UserError(f"{repository} can't be the name of a repository: {error}") from None
    return Path(folder)


def _download(repository: str, revision: str | None) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    offline = (
        f"fetch it where there is a network (`hf download {repository}`), and name that folder here, or copy the cache "
        "and set HF_HOME to it"
    )
    if constants.HF_HUB_OFFLINE:
        raise UserError(
            f"{repository} is not in the cache {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE is set: {offline}"
        )
    try:
        return _fetched(repository, revision, local_files_only=False)
    except Exception as error:
        known = {
            GatedRepoError: "is given to those only who accepted its licence: do so on its page, then `hf auth login`",
            RevisionNotFoundError: f"has no revision {revision}: leave it out for the newest",
            RepositoryNotFoundError: "is neither a folder here nor a repository of the hub (or a private one: "
            "`hf auth login`)",
        }
        if why := next((why for kind, why in known.items() if isinstance(error, kind)), None):
            raise UserError(f"{repository} {why}") from None
        client = type(error).__module__.partition(".")[0]  # whose errors the hub's library passes on
        if not isinstance(error, HfHubHTTPError | OSError) and client not in ("httpx", "httpcore", "requests"):
            raise
        raise UserError(f"{repository} can't be fetched from the hub ({_reason(error)}): {offline}") from None


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}"[:200] if lines else type(error).__name__
