"""Find the runs that somebody wants compared, and read each, whatever state it is in. Nothing is dropped silently."""

import glob
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from cleangpt.basics import untrusted
from cleangpt.basics.errors import UserError
from cleangpt.basics.schema import leaves
from cleangpt.basics.shown import visible, visible_in
from cleangpt.basics.words import counted
from cleangpt.config.command_line import split
from cleangpt.disk import alike, alive, migrations
from cleangpt.disk.rundir import LATEST, RunDir, latest, weights_in
from cleangpt.report import columns
from cleangpt.report.columns import Column
from cleangpt.sweeps import jobs

PARTS_OF_A_RUN = ("snapshots", "best", "final", "plots", "profile", "score", "tensorboard", "wandb", "report")
FINISHED = jobs.DONE  # what a setting is judged by; others were cut off somewhere


@dataclass
class Run:
    """A run as its directory tells of it."""

    path: Path
    name: str = ""  # below the folder that all runs have in common
    status: str = "unreadable"  # or running, cut_off, or as summary.json says
    notes: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)  # by dotted key
    overrides: dict[str, str] = field(default_factory=dict)  # what its command line set
    parameters: int | None = None
    computed: dict[str, list[Any]] = field(default_factory=dict)  # dtype, device, threads, of each part of the run
    summary: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, Column] = field(default_factory=dict)  # scores, losses, and what else was asked for
    last: dict[str, float] = field(default_factory=dict)  # the newest value of everything that was logged
    more_is_better: list[str] | None = None  # scores, as its task says; None: an older run, which does not say

    @property
    def is_finished(self) -> bool:
        return self.status in FINISHED

    @property
    def ended(self) -> str:
        """Say how it ended."""
        return self.status.replace("_", " ")

    @property
    def step(self) -> int | None:
        steps = [int(column.steps[-1]) for column in self.columns.values()]
        ended = self.summary.get("step")
        return max([*steps, int(ended)] if _is_number(ended) else steps, default=None)

    def final(self, name: str) -> float | None:
        """Find the last value of a quantity: NaN if that was not finite, None if there is none."""
        if name in self.columns:
            return float(self.columns[name].values[-1])
        value = self.summary.get(name)
        return float(value) if _is_number(value) else None

    def best(self, name: str, sign: int) -> tuple[float, int] | None:
        """Find the highest (sign = 1) or lowest (-1) value at any evaluation, and its step."""
        if name not in self.columns or np.isnan(self.columns[name].values).all():
            return None
        steps, values = self.columns[name]
        place = np.nanargmax(sign * values)
        return float(values[place]), int(steps[place])

    def total(self, name: str) -> float | None:
        """Find the tokens or seconds of the whole run."""
        value = self.summary.get(name)
        return float(value) if _is_number(value) else self.final(name)


def _is_number(value: Any) -> TypeGuard[float]:
    is_one = isinstance(value, int | float) and not isinstance(value, bool)
    return is_one and not abs(value) > sys.float_info.max  # NaN is one


# ---- find


def find(asked: str | list[str]) -> list[Path]:
    """Find the run directories that `runs=` names, each once, in the order of their names."""
    words = [asked] if isinstance(asked, str) else asked
    found: dict[Path, None] = {}
    for word in words:
        for path in _paths(word):
            runs = list(_below(path))
            if not runs and not glob.has_magic(word):
                raise UserError(
                    f"runs={word}: there is no run in {path}: name run directories, or a folder around some"
                )
            found.update(dict.fromkeys(runs))
    if not found:
        raise UserError(f"runs={','.join(words)}: no run is among what that matches")
    return sorted(found, key=lambda path: _natural(str(path)))


def folders(asked: str | list[str]) -> list[Path]:
    """Find the folders that `runs=` names, where runs may be, or come to be."""
    return [path for word in ([asked] if isinstance(asked, str) else asked) for path in _paths(word)]


def _paths(word: str) -> list[Path]:
    if word == "latest":
        newest = latest()
        if newest is None:
            raise UserError(f"runs=latest: there is no {LATEST} here: train a model first, or name a run directory")
        return [newest]
    if Path(word).is_dir():
        return [Path(word)]
    if not glob.has_magic(word):
        raise UserError(
            f"runs={word} is no folder: name a run directory, a folder that holds some, or a pattern with *"
        )
    if matched := [Path(path) for path in glob.glob(word, recursive=True) if os.path.isdir(path)]:
        return matched
    raise UserError(f"runs={word} matches no folder: name run directories, or a folder that holds some")


def _below(path: Path) -> Iterator[Path]:
    """Find the run directories at or below a folder. best/, final/ and snapshots stand for the run around them."""
    path = path.resolve()
    if weights_in(path):
        around = [parent for parent in (path.parent, path.parent.parent) if is_run(parent)]
        yield from around[:1]
        return
    seen = set()
    for folder, inner, _ in os.walk(path, followlinks=True):
        here = Path(folder).resolve()
        if here in seen:
            inner.clear()
            continue
        seen.add(here)
        if is_run(here):
            yield here
            inner[:] = [name for name in inner if name not in PARTS_OF_A_RUN]
        # outputs/latest points to a run that has a place of its own.
        inner[:] = [name for name in inner if not name.startswith(".") and name != LATEST.name]


def is_run(path: Path) -> bool:
    """Tell a run directory, also of a run that failed before it began, which leaves no more than a log or a summary."""
    run, is_weights = RunDir(path), weights_in(path)
    return not is_weights and (run.holds_a_run() or run.summary.exists() or run.log.exists())


def _natural(text: str) -> list[Any]:
    """Make a key that puts job 10 after job 9."""
    parts = re.findall(r"[0-9]+|.", f"{text}\0", re.DOTALL)
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]


def missing_jobs(paths: list[Path]) -> list[str]:
    """Say which jobs of a sweep left no run: each job knows its number, and a sweep how many it has."""
    notes = []
    for folder in sorted({path.parent for path in paths if jobs.number_in(path) is not None}):
        found = (jobs.number_in(path) for path in folder.iterdir() if is_run(path))
        there = {number for number in found if number is not None}
        total = max(jobs.count_in(folder), 1 + max(there))
        if gaps := list(islice((number for number in range(total) if number not in there), 11)):
            shown = ", ".join(map(str, gaps[:10])) + (" …" if len(gaps) > 10 else "")
            which = f"{RunDir(folder).shown()}: {'job' if len(gaps) == 1 else 'jobs'} {shown} of its {total}"
            notes.append(f"{which} left no run: refused, removed, or not begun.")
    return notes


def common_folder(paths: list[Path]) -> Path:
    return Path(os.path.commonpath([str(path) for path in paths]))


# ---- read


def read(paths: list[Path], seen: Callable[[], None] = lambda: None, curves: Sequence[str] = ()) -> list[Run]:
    """Read each run; `curves` are columns to read besides losses and scores, by name or by pattern."""
    around = common_folder(paths)
    runs = []
    for path in paths:
        runs.append(run := read_run(path, curves))
        run.name = visible(path.name if path == around else str(path.relative_to(around)))
        seen()
    return runs


def read_run(path: Path, curves: Sequence[str] = ()) -> Run:
    run, place = Run(path), RunDir(path)
    try:
        run.config = dotted(migrations.to_today(_read(place.config)))
        run.status = alive.status(place, None)
    except FileNotFoundError:
        run.notes.append("config.json is not there: the run failed before it began, or its folder is not complete.")
    except (OSError, ValueError) as error:
        run.notes.append(f"config.json can't be read: {error}.")
    try:
        found = columns.read(place.metrics, curves)
        run.columns = {visible(name): column for name, column in found.columns.items()}
        run.last = {visible(name): value for name, value in found.last.items()}
        if found.bad:
            run.notes.append(f"{counted(found.bad, 'line')} of metrics.jsonl can't be read.")
    except FileNotFoundError:
        run.notes.append("metrics.jsonl is not there.")
    except OSError as error:
        run.notes.append(f"metrics.jsonl can't be read: {error.strerror}.")
    _read_record(run, place)
    _read_summary(run, place)
    return run


def _read_record(run: Run, place: RunDir) -> None:
    try:
        record = _read(place.run)
        parts = [record, *record.get("resumed", [])]
        pairs = [split(word) for part in parts for word in part.get("overrides", [])]
        run.overrides = {key: value.strip("'\"") for key, value in pairs}
        run.parameters = record.get("parameters", {}).get("total")
        run.more_is_better = parts[-1].get("more_is_better")
        run.computed = alike.throughout(part.get("machine", {}) for part in parts)
        if run.config.get("dtype") == "auto" and "dtype" in run.computed:
            run.config["dtype"] = run.computed["dtype"][-1]  # what that meant
    except FileNotFoundError:
        pass  # what it says is said elsewhere too
    except (OSError, ValueError, AttributeError, TypeError) as error:
        run.notes.append(f"run.json can't be read: {error}.")


def _read_summary(run: Run, place: RunDir) -> None:
    """Read how a run ended, if it has. A summary of an earlier part of a run that went on since is not its end."""
    logged, status = run.step, alive.status(place, None)
    try:
        summary = _read(place.summary)
        ended = summary.get("step")
        if logged is not None and _is_number(ended) and logged > ended:
            how = str(summary.get("status", status)).replace("_", " ")
            run.notes.append(f"It went on after it {how} at step {ended}.")
        elif status == "running":
            run.notes.append(f"It runs on from step {ended}.")
        else:
            run.summary, status = summary, str(summary.get("status", status))
            run.notes += [str(summary["error"])] if summary.get("error") else []
    except FileNotFoundError:
        if place.metrics.exists():
            written = time.strftime("%Y-%m-%d %H:%M", time.localtime(place.metrics.stat().st_mtime))
            how = "It is being trained" if status == "running" else "It was cut off: a crash, a kill or a power cut"
            run.notes.append(f"{how}. Its last line is of {written}.")
    except (OSError, ValueError) as error:
        run.notes.append(f"summary.json can't be read, so how it ended is unknown: {error}.")
    if run.config or status == "failed":
        run.status = status


def _read(path: Path) -> dict[str, Any]:
    return visible_in(untrusted.json_object(path))


def dotted(config: dict[str, Any]) -> dict[str, Any]:
    """List a configuration by dotted key. What is no plain value is kept as its JSON text."""
    return {key: json.dumps(value) if isinstance(value, list) else value for key, value in leaves(config).items()}
