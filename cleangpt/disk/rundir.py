"""The run directory: where things lie in it, how it begins, and how other programs find one."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cleangpt.basics import files, schema, untrusted, verbs
from cleangpt.basics.errors import ConfigError, UserError
from cleangpt.config.experiment import Config, Imported, parse
from cleangpt.disk import migrations

MOST_STEPS = 1 << 53
LATEST = Path("outputs") / "latest"
WEIGHTS = "model.safetensors"


class RunDir:
    """The names of what a run directory holds."""

    def __init__(self, path: Path):
        self.path = path.absolute()
        self.config = self.path / "config.json"
        self.run = self.path / "run.json"
        self.metrics = self.path / "metrics.jsonl"
        self.log = self.path / "train.log"
        self.summary = self.path / "summary.json"
        self.snapshots = self.path / "snapshots"
        self.best = self.path / "best"
        self.final = self.path / "final"
        self.plots = self.path / "plots"
        self.profile = self.path / "profile"
        self.card = self.path / "card.md"
        self.score = self.path / "score"
        self.samples = self.path / "samples.jsonl"
        self.alive = self.path / "alive"  # while it is trained
        self.stop = self.path / "stop"  # what asks it to end
        self.notes = self.path / "notes.json"  # what a person wrote about it

    def holds_a_run(self) -> bool:
        return self.config.exists() or self.metrics.exists() or self.snapshots.exists()

    def snapshot_folders(self) -> list[Path]:
        """List the snapshots from the oldest to the newest. Half-written and damaged ones have other names."""
        found = self.snapshots.glob("step_*") if self.snapshots.exists() else []
        return sorted(folder for folder in found if folder.name.removeprefix("step_").isdigit())

    def shown(self) -> str:
        """Write the path as a person would type it here."""
        with contextlib.suppress(ValueError):
            return str(self.path.relative_to(Path.cwd()))
        return str(self.path)


@contextlib.contextmanager
def writable(run: RunDir) -> Iterator[None]:
    """Refuse a run that can't write its first files."""
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"{run.shown()} can't be written ({why}): make room, or choose another hydra.run.dir") from None


def leads_out(path: Path, folder: Path) -> bool:
    """Test whether something is a link to what is not in a folder, or to nothing at all."""
    end = Path(os.path.realpath(path))
    return path.is_symlink() and (end.is_symlink() or not end.is_relative_to(os.path.realpath(folder)))


def refuse_links_outside(folder: Path) -> None:
    """Refuse a run, which may be somebody else's, with links through which files would land outside of it.

    What wandb keeps in its own folder has links of wandb's own, and is not looked at: each run of it is a new folder.
    """
    for parent, folders, names in os.walk(folder):
        here = [Path(parent) / name for name in (*folders, *names)]
        folders[:] = [name for name in folders if Path(parent) / name != folder / "wandb"]
        for path in here:
            if leads_out(path, folder):
                raise UserError(f"{path} is a link that leads out of the run: put in its place what it leads to")
            if path.exists() and not (path.is_file() or path.is_dir()):
                raise UserError(f"{path} is no file and no folder: remove it")


def point_latest_to(run: RunDir) -> None:
    """Renew outputs/latest in one rename: a link, or where links are not to be had, a file that names the run."""
    with contextlib.suppress(OSError):
        LATEST.parent.mkdir(exist_ok=True)
        outputs = LATEST.parent.absolute()
        target = run.path.relative_to(outputs) if run.path.is_relative_to(outputs) else run.path
        temporary = LATEST.with_name(f".latest.{os.getpid()}")
        try:
            temporary.symlink_to(target)
        except OSError:  # Windows lets few make links
            temporary.write_text(f"{target}\n", encoding="utf-8")
        os.replace(temporary, LATEST)


def latest() -> Path | None:
    """Find the newest run here: where a link leads, or a file says."""
    if LATEST.is_file():
        return LATEST.parent / LATEST.read_text(encoding="utf-8").strip()
    return LATEST if LATEST.exists() else None


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a metrics file; one that was being written when a run died is not there yet."""
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    return [row for row in map(read_row, lines) if row is not None]


def read_row(line: bytes) -> dict[str, Any] | None:
    """Read a line of a metrics file: a step and numbers by name, null for one that was not finite. Else None."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # also what is no UTF-8
        return None
    if not isinstance(row, dict) or type(row.get("step")) is not int or not 0 <= row["step"] < MOST_STEPS:
        return None
    numbers = [value for value in row.values() if value is not None]
    finite = all(type(value) in (int, float) and abs(value) <= sys.float_info.max for value in numbers)
    return row if finite else None


def read_step(line: bytes) -> int | None:
    """Read which step a line of JSON is about; None where it is no such line."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    step = row.get("step") if isinstance(row, dict) else None
    return step if type(step) is int and step >= 0 else None


def write_config(path: Path, config: Config | Imported) -> None:
    files.write_json(path, migrations.stamped(config.model_dump(mode="json")))


def read_config(path: Path) -> Config | Imported:
    """Read a stored configuration: plain JSON, checked like any other, with no interpolation and nothing to run."""
    try:
        with untrusted.reading(path, "a configuration"):
            data = migrations.to_today(untrusted.json_object(path))
            config = schema.parse(data, Imported) if "source" in data else parse(data)
            if nulls := schema.left_open(config):
                raise ValueError(f"its `{nulls[0]}` is null, and in a stored one every value is given")
            return config
    except ConfigError as error:
        raise UserError(f"{path} is not a configuration of this version: {'; '.join(error.mistakes)}") from None


def weights_in(folder: Path) -> Path | None:
    """Find the file with the weights of a folder; of several, in which their pieces lie, the first."""
    one = folder / WEIGHTS
    return one if one.exists() else min(folder.glob("shard_00001_of_*.safetensors"), default=None)


def holds_foreign_model(folder: Path) -> bool:
    """Test whether a model in Hugging Face's format lies there: its config.json names the type of the model."""
    try:
        return "model_type" in untrusted.json_object(folder / "config.json")
    except (OSError, ValueError):
        return False


class Opened(NamedTuple):
    """The weights that `run=` named, and where they come from."""

    folder: Path  # with weights, config.json, tokenizer.json
    label: str  # best, final, or step_00000500
    run: RunDir | None  # the run directory around them, if they still lie in one


def find(run: str, key: str = "run") -> Opened:
    """Find a run directory, one of its snapshots, its best/ or final/, or `latest`. `key` is what named it."""
    path = latest() if run == "latest" else Path(run)
    if path is None:
        raise UserError(f"{key}=latest: there is no {LATEST} here: train a model first, or name a run directory")
    if not path.is_dir():
        raise UserError(f"{key}={run} is no folder: name a run directory, one of its snapshots, or its best/ or final/")
    path = path.resolve()
    if holds_foreign_model(path):
        raise UserError(
            f"{key}={run} is a model in Hugging Face's format: make it one of ours by "
            f"`{verbs.shown('export')} run={run} format=cleangpt out=<folder>`, and name that folder"
        )
    if weights_in(path):
        parents = [path.parent, path.parent.parent]
        around = next((RunDir(parent) for parent in parents if (parent / "metrics.jsonl").exists()), None)
        return Opened(path, path.name, around)
    here = RunDir(path)
    for folder in (here.best, here.final, *reversed(here.snapshot_folders())):
        if weights_in(folder):
            return Opened(folder, folder.name, here)
    if here.holds_a_run():
        raise UserError(f"{key}={run} has no weights yet: it has neither best/ nor final/ nor a snapshot")
    raise UserError(f"{key}={run} is no run directory: it has no config.json and no weights")
