"""What a snapshot holds, and which are good.

A snapshot is a folder that appears whole or not at all: it is written under a hidden name, every file of it is
synced, and a manifest with sizes and checksums comes last, before the rename. Tensors are kept as safetensors,
everything else as JSON, so that opening one never runs code. Of a model that is divided, each process writes a file
with its own rows of weights and optimizer.
"""

import contextlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cleangpt.basics import files, untrusted
from cleangpt.basics.errors import UserError
from cleangpt.disk.rundir import WEIGHTS, RunDir
from cleangpt.stored import pieces

OPTIMIZER, STATE, MANIFEST = "optimizer.safetensors", "state.json", "manifest.json"
BEST = "best.safetensors"  # the best weights as of this step
READERS = 8  # files that are read at once


def discard(folder: Path) -> None:
    """Delete a folder, under a hidden name first, so that no half of it is ever taken for a snapshot."""
    hidden = folder if folder.name.startswith(".") else folder.with_name(f".{folder.name}.old")
    with contextlib.suppress(OSError):
        if hidden != folder:
            os.rename(folder, hidden)
        if hidden.is_symlink():
            hidden.unlink()
        shutil.rmtree(hidden, ignore_errors=True)


def damage(folder: Path) -> str | None:
    """Find what is wrong with a snapshot; None if nothing is."""
    try:
        manifest = untrusted.json_object(folder / MANIFEST)["files"]
        divided = [path.name for path in pieces.shards(folder, remedy="")]
        wanted = {STATE, "config.json", "tokenizer.json", *(divided or (WEIGHTS, OPTIMIZER))}
        if lacking := wanted - set(manifest):
            return f"{MANIFEST} does not list {min(lacking)}"
        if others := {path.name for path in folder.glob("*.safetensors")} - set(manifest):
            return f"{MANIFEST} does not list {min(others)}"
        if divided and {WEIGHTS, OPTIMIZER} & set(manifest):
            return f"{MANIFEST} lists tensors twice, whole and in pieces"
        with ThreadPoolExecutor(READERS) as readers:
            for wrong in readers.map(lambda item: _damage_of(folder, *item), manifest.items()):
                if wrong:
                    return wrong
        if divided:
            pieces.Stored([folder / name for name in divided], in_pieces=True, remedy="")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} can't be read ({error})"
    except UserError as error:
        return str(error)
    return None


def _damage_of(folder: Path, name: str, expected: dict[str, Any]) -> str | None:
    path = folder / name
    if path.parent != folder or Path(name).name != name or (path.exists() and not path.is_file()):
        return f"{MANIFEST} lists {name}, which is no file of it"
    if not path.exists():
        return f"{name} is missing"
    if path.stat().st_size != expected["bytes"]:
        return f"{name} has {path.stat().st_size} bytes instead of {expected['bytes']}"
    return None if files.sha256(path) == expected["sha256"] else f"{name} has another checksum"


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


def remove_leftovers(run: RunDir) -> None:
    """Remove the files that a killed run was writing or deleting."""
    for leftover in run.snapshots.glob(".step_*"):
        discard(leftover)
    for folder in (run.path, run.best, run.final, run.plots):
        files.remove_leftovers(folder)
    files.remove_leftovers(run.score, idle=files.LONG)  # where eval/score.py may be writing
