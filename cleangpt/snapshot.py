"""Snapshots: write, verify, find, restore.

A snapshot is a folder that appears whole or not at all: it is written under a hidden name, every file of it is
synced, and a manifest with sizes and checksums comes last, before the rename. Tensors are kept as safetensors,
everything else as JSON, so that opening one never runs code.
"""

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from cleangpt import files, weights
from cleangpt.config import Config
from cleangpt.errors import UserError
from cleangpt.models.layers import Decoder
from cleangpt.rundir import RunDir

OPTIMIZER, STATE, MANIFEST = "optimizer.safetensors", "state.json", "manifest.json"


def save(
    run: RunDir,
    step: int,
    model: Decoder,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    config: Config,
    tokenizer: Any,
) -> Path:
    """The snapshot of this step. One that is there already is left as it is."""
    folder = run.snapshots / f"step_{step:08d}"
    if folder.exists():
        return folder
    temporary = run.snapshots / f".{folder.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    weights.save(temporary, model, config, tokenizer, {"step": step})
    save_file(_optimizer_tensors(model, optimizer), temporary / OPTIMIZER)
    files.write_json(temporary / STATE, state)
    names = sorted(path.name for path in temporary.iterdir())
    for name in names:
        files.sync(temporary / name)
    manifest = {
        name: {"bytes": (temporary / name).stat().st_size, "sha256": files.sha256(temporary / name)} for name in names
    }
    files.write_json(temporary / MANIFEST, {"step": step, "files": manifest})
    os.rename(temporary, folder)
    files.sync(run.snapshots)
    return folder


def damage(folder: Path) -> str | None:
    """What is wrong with a snapshot, or None."""
    try:
        manifest = files.read_json(folder / MANIFEST)["files"]
        for name, expected in manifest.items():
            path = folder / name
            if not path.exists():
                return f"{name} is missing"
            if path.stat().st_size != expected["bytes"]:
                return f"{name} has {path.stat().st_size} bytes instead of {expected['bytes']}"
            if files.sha256(path) != expected["sha256"]:
                return f"{name} has another checksum"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} can't be read ({error})"
    return None


def newest_good(run: RunDir) -> tuple[Path | None, list[str]]:
    """The newest snapshot that verifies, and a sentence on each that did not, which is kept aside."""
    complaints = []
    for folder in reversed(run.snapshot_folders()):
        wrong = damage(folder)
        if wrong is None:
            return folder, complaints
        aside = folder.with_name(f"damaged_{folder.name}")
        number = 1
        while aside.exists():
            number += 1
            aside = folder.with_name(f"damaged_{folder.name}_{number}")
        with contextlib.suppress(OSError):
            os.rename(folder, aside)
        complaints.append(f"snapshot {folder.name} is damaged ({wrong}): kept aside as {aside.name}, not used")
    return None, complaints


def choose(run: RunDir, resume: Path) -> tuple[Path | None, list[str]]:
    """The snapshot to continue: the one that was named, or the newest good one of the run."""
    if resume.name.startswith("step_"):
        wrong = damage(resume)
        if wrong:
            raise UserError(f"resume={resume} is damaged ({wrong}): name the run to use its newest good snapshot")
        return resume, []
    return newest_good(run)


def restore(folder: Path, model: Decoder, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Put weights and optimizer back; the rest of the state is returned."""
    weights.load_into(model, folder / weights.WEIGHTS)
    tensors = load_file(folder / OPTIMIZER)
    state: dict[int, dict[str, torch.Tensor]] = {}
    for number, name in enumerate(_parameter_names(model, optimizer)):
        kept = {key.rpartition("/")[2]: value for key, value in tensors.items() if key.rpartition("/")[0] == name}
        if kept:
            state[number] = kept
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return files.read_json(folder / STATE)


def prune(run: RunDir, keep: int | None) -> None:
    """Keep the newest `keep` snapshots; None keeps all."""
    if keep is not None:
        for folder in run.snapshot_folders()[:-keep]:
            shutil.rmtree(folder, ignore_errors=True)


def _parameter_names(model: Decoder, optimizer: torch.optim.Optimizer) -> list[str]:
    """The names of the optimizer's parameters, in its own order."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def _optimizer_tensors(model: Decoder, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    names = _parameter_names(model, optimizer)
    return {
        f"{names[number]}/{key}": value.detach().cpu().contiguous()
        for number, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }
