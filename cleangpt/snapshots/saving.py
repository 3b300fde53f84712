"""Copy what a training needs to go on, and write it: alone, or together with the processes that have the other rows."""

import json
import os
import secrets
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from cleangpt.basics import files
from cleangpt.basics.errors import UserError
from cleangpt.config.experiment import Config
from cleangpt.disk import weights
from cleangpt.disk.rundir import WEIGHTS, RunDir, write_config
from cleangpt.models.contract import LanguageModel
from cleangpt.optimizers import optim
from cleangpt.snapshots.snapshot import BEST, MANIFEST, OPTIMIZER, STATE, discard
from cleangpt.snapshots.state import State
from cleangpt.snapshots.together import Together
from cleangpt.stored import pieces, tensorfile
from cleangpt.stored.tensorfile import Tensors
from cleangpt.tokens.tokenizers import Tokenizer

if TYPE_CHECKING:
    from cleangpt.sharding.divide import Divided


@dataclass
class Copy:
    """What a process keeps of a snapshot: all of it, or its rows of weights and optimizer together."""

    weights: Tensors
    optimizer: Tensors
    places: dict[str, Any]  # of rows in their wholes
    together: Together | None  # with whom it is written

    @property
    def leads(self) -> bool:
        return self.together is None or self.together.place == 0

    def drop(self) -> None:
        """Tell the others that nothing is written."""
        if self.together is not None and self.leads:
            self.together.lead(None)


def copy(model: LanguageModel, optimizer: optim.Optimizer, divided: "Divided | None" = None) -> Copy | None:
    """Copy weights and optimizer as they are now; None in a process that keeps nothing of what is divided."""
    if divided is not None:
        if not divided.keeps:
            return None
        tensors, places = divided.held(remembered(divided, optimizer))
        return Copy(tensors, {}, places, Together.next(divided.place, divided.parts))
    kept = remembered(model, optimizer)
    own = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in kept.items()}
    return Copy(weights.copy(model), own, {}, None)


def save(run: RunDir, copied: Copy, state: State, config: Config, tokenizer: Tokenizer) -> None:
    """Write a snapshot, then delete all but `keep_snapshots`. One that is there is left as it is."""
    if not copied.leads:
        _help(copied, state)
        return
    folder = run.snapshots / f"step_{state.step:08d}"
    temporary = run.snapshots / f".{folder.name}.{secrets.token_hex(8)}.tmp"
    try:
        if folder.exists():
            copied.drop()
            return
        run.snapshots.mkdir(exist_ok=True)
        temporary.mkdir()
    except BaseException:
        copied.drop()
        raise
    try:
        _write(run, temporary, copied, state, config, tokenizer)
        os.rename(temporary, folder)
        files.sync(run.snapshots)
    except BaseException:
        discard(temporary)
        raise
    if config.train.keep_snapshots is not None:
        for old in run.snapshot_folders()[: -config.train.keep_snapshots]:
            discard(old)


def _write(run: RunDir, folder: Path, copied: Copy, state: State, config: Config, tokenizer: Tokenizer) -> None:
    """Write all files of a snapshot. What others write is listed as they tell it, and the manifest comes last."""
    others: dict[str, Any] = {}
    if copied.together is None:
        weights.save(folder, copied.weights, config, tokenizer, {"step": state.step})
        files.replace(folder / OPTIMIZER, lambda file: tensorfile.write(file, copied.optimizer))
    else:
        copied.together.lead(str(folder))
        _write_shard(folder, copied, state)
        write_config(folder / "config.json", config)
        files.write_json(folder / "tokenizer.json", tokenizer.to_json())
    files.write_json(folder / STATE, asdict(state))
    if state.best is not None and (run.best / WEIGHTS).exists():
        duplicate(run.best / WEIGHTS, folder / BEST)
    own = [path for path in sorted(folder.iterdir()) if copied.together is None or _is_own(path, copied.together)]
    manifest = {path.name: _entry(path) for path in own}
    if copied.together is not None:
        others = copied.together.others()
    files.write_json(folder / MANIFEST, {"step": state.step, "files": dict(sorted((manifest | others).items()))})


def _is_own(path: Path, together: Together) -> bool:
    """Tell a file of the first process from those that others are writing."""
    shard = pieces.shard_name(together.place, together.count)
    return path.name == shard or not path.name.lstrip(".").startswith("shard_")


def _help(copied: Copy, state: State) -> None:
    """Write the rows that lie here into the snapshot that the first process makes."""
    assert copied.together is not None
    folder = copied.together.where()
    if folder is None:
        return
    try:
        path = _write_shard(Path(folder), copied, state)
        copied.together.done({"name": path.name, **_entry(path)})
    except BaseException as error:
        copied.together.done({"wrong": str(getattr(error, "strerror", None) or error)})
        if not isinstance(error, OSError):  # which the first one says
            raise


def _write_shard(folder: Path, copied: Copy, state: State) -> Path:
    assert copied.together is not None
    path = folder / pieces.shard_name(copied.together.place, copied.together.count)
    about = {"cleangpt": json.dumps({"step": state.step, "pieces": copied.places})}
    files.replace(path, lambda file: tensorfile.write(file, copied.weights, about))
    return path


def _entry(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": files.sha256(path)}


def duplicate(source: Path, path: Path) -> None:
    """Write a file once more."""
    with source.open("rb") as original:
        files.replace(path, lambda file: shutil.copyfileobj(original, file, 1 << 20))


def remembered(model: "LanguageModel | Divided", optimizer: optim.Optimizer) -> Tensors:
    """Collect the state of the optimizer, by the names of its parameters."""
    found = {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }
    if wrong := [name for name, value in found.items() if not isinstance(value, Tensor)]:
        raise UserError(f"the optimizer's state of {wrong[0]} is no tensor, and snapshots hold tensors: make it one")
    return found
