"""Write, verify, find and restore snapshots.

A snapshot is a folder that appears whole or not at all: it is written under a hidden name, every file of it is
synced, and a manifest with sizes and checksums comes last, before the rename. Tensors are kept as safetensors,
everything else as JSON, so that opening one never runs code.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file
from torch import Tensor

from cleangpt.basics import files, untrusted
from cleangpt.basics.errors import UserError
from cleangpt.config.experiment import Config
from cleangpt.disk import weights
from cleangpt.disk.rundir import RunDir, read_config
from cleangpt.disk.state import State
from cleangpt.disk.weights import Tensors
from cleangpt.machine import distributed
from cleangpt.models.contract import LanguageModel
from cleangpt.optimizers import optim
from cleangpt.tokens.tokenizers import Tokenizer

if TYPE_CHECKING:
    from cleangpt.sharding.divide import Divided

OPTIMIZER, STATE, MANIFEST = "optimizer.safetensors", "state.json", "manifest.json"
BEST = "best.safetensors"  # the best weights as of this step


def copy(model: LanguageModel, optimizer: optim.Optimizer, divided: "Divided | None" = None) -> tuple[Tensors, Tensors]:
    """Copy weights and optimizer as they are now; of what is divided rank 0 gets all, one tensor after the other."""
    if divided is not None:
        return divided.copied(_remembered(divided, optimizer))
    kept = _remembered(model, optimizer)
    return weights.copy(model), {name: value.detach().to("cpu", copy=True).contiguous() for name, value in kept.items()}


def save(run: RunDir, tensors: tuple[Tensors, Tensors], state: State, config: Config, tokenizer: Tokenizer) -> None:
    """Write a snapshot, then delete all but `keep_snapshots`. One that is there is left as it is."""
    folder = run.snapshots / f"step_{state.step:08d}"
    if folder.exists():
        return
    temporary = run.snapshots / f".{folder.name}.tmp"
    _discard(temporary)
    try:
        run.snapshots.mkdir(exist_ok=True)
        temporary.mkdir()
        weights.save(temporary, tensors[0], config, tokenizer, {"step": state.step})
        files.replace(temporary / OPTIMIZER, lambda file: weights.write(file, tensors[1]))
        files.write_json(temporary / STATE, asdict(state))
        if state.best is not None and (run.best / weights.WEIGHTS).exists():
            _copy(run.best / weights.WEIGHTS, temporary / BEST)
        manifest = {
            path.name: {"bytes": path.stat().st_size, "sha256": files.sha256(path)}
            for path in sorted(temporary.iterdir())
        }
        files.write_json(temporary / MANIFEST, {"step": state.step, "files": manifest})
        os.rename(temporary, folder)
        files.sync(run.snapshots)
    except Exception:
        _discard(temporary)
        raise
    if config.train.keep_snapshots is not None:
        for old in run.snapshot_folders()[: -config.train.keep_snapshots]:
            _discard(old)


def _discard(folder: Path) -> None:
    """Delete a folder, under a hidden name first, so that no half of it is ever taken for a snapshot."""
    hidden = folder if folder.name.startswith(".") else folder.with_name(f".{folder.name}.old")
    with contextlib.suppress(OSError):
        if hidden != folder:
            os.rename(folder, hidden)
        if hidden.is_symlink():
            hidden.unlink()
        shutil.rmtree(hidden, ignore_errors=True)


def _copy(source: Path, path: Path) -> None:
    with source.open("rb") as original:
        files.replace(path, lambda file: shutil.copyfileobj(original, file, 1 << 20))


def damage(folder: Path) -> str | None:
    """Find what is wrong with a snapshot; None if nothing is."""
    try:
        manifest = files.read_json(folder / MANIFEST)["files"]
        if lacking := {weights.WEIGHTS, OPTIMIZER, STATE, "config.json", "tokenizer.json"} - set(manifest):
            return f"{MANIFEST} does not list {min(lacking)}"
        for name, expected in manifest.items():
            path = folder / name
            if path.parent != folder or Path(name).name != name or (path.exists() and not path.is_file()):
                return f"{MANIFEST} lists {name}, which is no file of it"
            if not path.exists():
                return f"{name} is missing"
            if path.stat().st_size != expected["bytes"]:
                return f"{name} has {path.stat().st_size} bytes instead of {expected['bytes']}"
            if files.sha256(path) != expected["sha256"]:
                return f"{name} has another checksum"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} can't be read ({error})"
    return None


def refuse_damage(folder: Path) -> None:
    """Refuse a damaged snapshot by its manifest; best/ and final/ are looked at when they are read."""
    if (folder / MANIFEST).exists() and (wrong := damage(folder)):
        raise UserError(f"{folder} is damaged ({wrong}): use another snapshot, best/ or final/")


def newest_good(run: RunDir) -> tuple[Path | None, list[str]]:
    """Find the newest snapshot that verifies; a sentence on each that did not, which is kept aside."""
    complaints: list[str] = []
    for folder in reversed(run.snapshot_folders()):
        wrong = damage(folder)
        if wrong is None:
            return folder, complaints
        aside = _set_aside(folder, "damaged")
        complaints.append(f"snapshot {folder.name} is damaged ({wrong}): kept aside as {aside.name}, not used")
    return None, complaints


def _set_aside(folder: Path, why: str) -> Path:
    """Rename a snapshot, so that it is no candidate any more."""
    aside, number = folder.with_name(f"{why}_{folder.name}"), 1
    while aside.exists():
        number += 1
        aside = folder.with_name(f"{why}_{folder.name}_{number}")
    with contextlib.suppress(OSError):
        os.rename(folder, aside)
    return aside


def choose(run: RunDir, resume: Path) -> tuple[Path | None, list[str]]:
    """Choose the snapshot to continue: the named one, or the newest good one of the run. Rank 0 decides for all."""
    if not resume.name.startswith("step_"):
        return newest_good(run)
    if wrong := damage(resume):
        raise UserError(f"resume={resume} is damaged ({wrong}): name the run to use its newest good snapshot")
    complaints = []
    for folder in run.snapshot_folders():
        if folder.name > resume.name:  # another future, which this run is about to leave
            aside = _set_aside(folder, "superseded")
            complaints.append(f"snapshot {folder.name} is newer than {resume.name}: kept aside as {aside.name}")
    return resume, complaints


def restore_best(folder: Path, run: RunDir, model: LanguageModel) -> None:
    """Put best/ back to what it was at this snapshot: the run may have gone on before it was interrupted."""
    if (folder / BEST).exists():
        weights.refuse_others(model, folder / BEST)
        read_config(folder / "config.json")
        weights.load_tokenizer(folder)
        run.best.mkdir(exist_ok=True)
        _copy(folder / BEST, run.best / weights.WEIGHTS)
        for name in ("config.json", "tokenizer.json"):
            _copy(folder / name, run.best / name)


def remove_leftovers(run: RunDir) -> None:
    """Remove the files that a killed run was writing or deleting."""
    for leftover in run.snapshots.glob(".step_*"):
        _discard(leftover)
    for folder in (run.path, run.best, run.final, run.plots):
        files.remove_leftovers(folder)
    files.remove_leftovers(run.score, idle=files.LONG)  # where eval/score.py may be writing


def restore(folder: Path, model: LanguageModel, optimizer: optim.Optimizer, divided: "Divided | None" = None) -> State:
    """Put weights and optimizer back, and return the rest. Rank 0 reads, and tells the others."""
    weights.load_into(model, folder / weights.WEIGHTS)
    held = model if divided is None else divided
    kept = _remembered(held, optimizer)
    wanted = kept if divided is None else {name: divided.like(name.rpartition("/")[0], kept[name]) for name in kept}
    # Optimizers of torch make their state in their first step: those have none yet, and take what is there.
    bare = {name: p for name, p in held.named_parameters() if p.requires_grad and not optimizer.state.get(p)}
    tensors = distributed.tensors_from_main(lambda: _read_optimizer(folder / OPTIMIZER, wanted, bare))
    with torch.no_grad():
        for name, tensor in tensors.items():
            parameter, _, key = name.rpartition("/")
            if name in kept:
                kept[name].copy_(tensor if divided is None else divided.part(parameter, tensor))
            else:
                own = optimizer.state.setdefault(bare[parameter], {})
                own[key] = tensor.to(bare[parameter].device) if tensor.dim() else tensor
    return distributed.from_main(lambda: _read_state(folder))


def _read_state(folder: Path) -> State:
    with untrusted.reading(folder / STATE, "the state of a training"):
        stored = json.dumps(untrusted.json_object(folder / STATE))
        state = TypeAdapter(State).validate_json(stored, strict=True)
        if state.step < 0 or folder.name != f"step_{state.step:08d}":
            raise ValueError(f"it is of step {state.step}")
        return state


def _read_optimizer(path: Path, kept: Tensors, bare: Mapping[str, Tensor]) -> Tensors:
    with weights.reading(path):
        tensors = load_file(path)
    own = {name: bare.get(name.rpartition("/")[0]) for name in tensors.keys() - kept.keys()}
    fits = {name for name, p in own.items() if p is not None and tensors[name].shape in (p.shape, torch.Size())}
    wanted = kept | {name: tensors[name] for name in fits}
    weights.refuse_misfit(weights.shapes(tensors), weights.shapes(wanted), f"{path} does not fit the optimizer")
    return tensors


def _remembered(model: "LanguageModel | Divided", optimizer: optim.Optimizer) -> Tensors:
    """Collect the state of the optimizer, by the names of its parameters."""
    found = {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }
    if wrong := [name for name, value in found.items() if not isinstance(value, Tensor)]:
        raise UserError(f"the optimizer's state of {wrong[0]} is no tensor, and snapshots hold tensors: make it one")
    return found
