"""An index of runs that is kept up to date by `stat` alone: files are read again only where they changed."""

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cleangpt.basics import untrusted
from cleangpt.basics.shown import visible, visible_in
from cleangpt.disk import alive, migrations, notes
from cleangpt.disk.notes import Notes
from cleangpt.disk.rundir import LATEST, RunDir, read_row
from cleangpt.follow.reading import Reading
from cleangpt.report.collect import PARTS_OF_A_RUN, dotted, is_run
from cleangpt.report.compare import SHARES

TAIL = 1 << 16  # bytes at the end of a metrics file that are read of a run seen for the first time
WATCHED = ("config", "run", "metrics", "summary", "notes")
NEWEST = 20  # lines of these that are read whatever they say; of the others those of evaluations
EVALUATION = b'"val/'
FRESH = 2_000_000_000  # nanoseconds, within which a folder may change again and have the same time
THOROUGH = 15  # looks, of which one goes by each file, and the others by folders and metrics alone
Signature = tuple[int, int, int]
Best = tuple[float, int]  # a value, and its step


@dataclass
class Entry:
    """A run as its files tell of it."""

    run: RunDir
    name: str  # below the folder that was asked for
    status: str = "unreadable"
    config: dict[str, Any] = field(default_factory=dict)  # by dotted key
    record: dict[str, Any] = field(default_factory=dict)  # of its newest part
    summary: dict[str, Any] = field(default_factory=dict)
    notes: Notes = field(default_factory=Notes)
    last: dict[str, float | None] = field(default_factory=dict)  # the newest value of everything
    best: dict[str, Best] = field(default_factory=dict)  # of each val/…, at any evaluation that was read
    is_whole: bool = False  # whether all evaluations were read
    signature: tuple[Signature | None, ...] = ()
    folder: int = 0  # when its directory changed
    read: Reading = field(default_factory=Reading)  # of its metrics

    @property
    def path(self) -> Path:
        return self.run.path

    @property
    def started(self) -> str:
        return str(self.record.get("started", ""))

    @property
    def step(self) -> int | None:
        found = self.last.get("step", self.summary.get("step"))
        return found if type(found) is int else None

    @property
    def steps(self) -> int | None:
        found = self.config.get("train.steps")
        return found if type(found) is int else None

    def seconds_left(self) -> float | None:
        """Estimate the time left of a run that is trained, from its mean speed so far."""
        seconds = self.last.get("seconds")
        if self.status != "running" or not self.step or not self.steps or not isinstance(seconds, int | float):
            return None
        return max(0.0, seconds / self.step * (self.steps - self.step))

    def more_is_better(self, name: str) -> bool:
        """Tell whether a score is better when it is higher: its task says so, or its name."""
        said = self.record.get("more_is_better")
        return name.partition("/")[2] in said if isinstance(said, list) else SHARES.search(name) is not None


class Index:
    """The runs at and below some folders."""

    def __init__(self, folders: list[Path]):
        self.folders = [Path(os.path.abspath(folder)) for folder in folders]
        self.around = Path(os.path.commonpath(self.folders))  # below which runs have their names
        self.entries: dict[Path, Entry] = {}
        self.looks = 0
        self._inner: dict[Path, tuple[int, bool, list[str]]] = {}  # of a folder: when it changed, whether it is a run

    def refresh(self) -> set[Path]:
        """Look what is new, what changed and what is gone, and name it."""
        found: dict[Path, tuple[Path, int]] = {}
        for folder in self.folders:
            for path, named, when in self._below(folder):
                found.setdefault(path, (named, when))
        changed = self.entries.keys() - found.keys()
        entries: dict[Path, Entry] = {}  # another one, since somebody may look at the old one
        self.looks += 1
        for path, (named, when) in found.items():
            entry = self.entries.get(path)
            if entry is None:
                name = named.name if named == self.around else str(named.relative_to(self.around))
                entry = Entry(RunDir(path), visible(name))
            entries[path] = entry
            if self._renew(entry, when):
                changed.add(path)
        self.entries = entries
        return changed

    def look_closer(self, seconds: float) -> set[Path]:
        """Read the evaluations of runs of which only the end was read, for so long, and name those that are done."""
        until, done = time.monotonic() + seconds, set()
        for path, entry in sorted(self.entries.items(), key=lambda pair: pair[1].status != "running"):
            if not entry.is_whole and entry.read.to:
                _read_evaluations(entry)
                done.add(path)
                if time.monotonic() > until:
                    break
        return done

    def _below(self, folder: Path) -> Iterator[tuple[Path, Path, int]]:
        """Yield each run: where it lies, the path that led there, and when its directory changed.

        Links are followed, as reports follow them, but none that leads out of a run, which may be somebody else's.
        """
        waiting, seen = [folder], set()
        while waiting:
            named = waiting.pop()
            here = Path(os.path.realpath(named)) if named.is_symlink() or named == folder else named
            if here in seen:
                continue
            seen.add(here)
            try:
                changed = os.stat(here).st_mtime_ns
            except OSError:
                self._inner.pop(here, None)
                continue
            known = self._inner.get(here)
            if known is None or known[0] != changed or time.time_ns() - changed < FRESH:
                itself = is_run(here)
                known = self._inner[here] = (changed, itself, _folders_in(here, follows=not itself))
            _, itself, inner = known
            if itself:
                yield here, named, changed
            waiting += [named / name for name in inner]

    def _renew(self, entry: Entry, when: int) -> bool:
        run, before, status = entry.run, entry.signature, entry.status
        if before and status != "running" and self.looks % THOROUGH:
            is_old = entry.folder == when and time.time_ns() - when > FRESH  # files come and go by being renamed
            if is_old and _signature(run.metrics) == before[WATCHED.index("metrics")]:
                return False
        entry.folder = when
        signature = tuple(_signature(getattr(run, name)) for name in WATCHED)
        lives = alive.lives(run)
        if signature != before:
            entry.signature = signature
            files = zip(WATCHED, before or ((),) * len(WATCHED), signature, strict=True)
            self._read(entry, run, {name for name, one, other in files if one != other})
        ended = entry.summary.get("status")
        known = entry.config or ended or lives
        entry.status = ("running" if lives else str(ended or alive.CUT_OFF)) if known else "unreadable"
        return signature != before or status != entry.status

    def _read(self, entry: Entry, run: RunDir, changed: set[str]) -> None:
        there = {name for name, found in zip(WATCHED, entry.signature, strict=True) if found}
        if "config" in changed:
            entry.config = {}
            with contextlib.suppress(*untrusted.DAMAGE):
                if "config" in there:
                    entry.config = dotted(visible_in(migrations.to_today(untrusted.json_object(run.config))))
        if "run" in changed:
            entry.record = {}
            with contextlib.suppress(*untrusted.DAMAGE):
                if "run" in there:
                    record = visible_in(untrusted.json_object(run.run))
                    entry.record = dict([record, *record.get("resumed", [])][-1])
        if "metrics" in changed:
            self._read_metrics(entry, run.metrics)
        if changed & {"summary", "metrics"}:
            entry.summary = {}
            with contextlib.suppress(*untrusted.DAMAGE):
                if "summary" in there:
                    summary = visible_in(untrusted.json_object(run.summary))
                    ended = summary.get("step")
                    went_on = type(ended) is int and (entry.last.get("step") or 0) > ended
                    entry.summary = {} if went_on else summary
        if "notes" in changed:
            entry.notes = notes.read(run.notes) if "notes" in there else Notes()

    def _read_metrics(self, entry: Entry, path: Path) -> None:
        """Read the lines that are new, or of a file that was not read before, or was written anew, its last ones."""
        try:
            with untrusted.opened(path) as file:
                size = entry.read.begin(file)
                if not entry.read.to:
                    entry.last, entry.best = {}, {}
                    entry.is_whole = size <= TAIL
                    entry.read.skip(file, max(0, size - TAIL))
                lines = entry.read.lines(file, size)
                if not entry.is_whole and not entry.last:  # the end of a long file
                    every = list(lines)
                    lines = iter([line for line in every[:-NEWEST] if EVALUATION in line] + every[-NEWEST:])
                for line in lines:
                    _note(entry, read_row(line))
        except OSError:
            entry.read, entry.last, entry.best = Reading(), {}, {}


def _note(entry: Entry, row: dict[str, Any] | None) -> None:
    if row is not None:
        if row["step"] < (entry.last.get("step") or 0):  # a resumed run has forgotten what came later
            entry.last, entry.best, entry.is_whole = {}, {}, False
        entry.last |= {visible(name): value for name, value in row.items()}
        _note_best(entry, row)


def _read_evaluations(entry: Entry) -> None:
    """Find the best values of a whole metrics file: only the lines of evaluations are parsed."""
    entry.is_whole = True
    with contextlib.suppress(OSError), untrusted.opened(entry.run.metrics) as file:
        if os.fstat(file.fileno()).st_ino != entry.read.inode:
            return
        entry.best = {}
        for line in untrusted.lines(file, entry.read.to):
            if EVALUATION in line and (row := read_row(line)) is not None:
                _note_best(entry, row)


def _note_best(entry: Entry, row: dict[str, Any]) -> None:
    for name, value in row.items():
        if name.startswith("val/") and value is not None:
            name = visible(name)
            best = entry.best.get(name)
            sign = 1 if entry.more_is_better(name) else -1
            if best is None or sign * value > sign * best[0]:
                entry.best[name] = (float(value), row["step"])


def _folders_in(folder: Path, follows: bool) -> list[str]:
    """Name the folders in one; in a run those of other runs, and no link."""
    with contextlib.suppress(OSError), os.scandir(folder) as inside:
        return sorted(
            entry.name
            for entry in inside
            if entry.is_dir(follow_symlinks=follows)
            and not entry.name.startswith(".")
            and entry.name != LATEST.name
            and (follows or entry.name not in PARTS_OF_A_RUN)
        )
    return []


def _signature(path: Path) -> Signature | None:
    """Tell a file from what it was; None of what is no file, or a link, which may lead anywhere."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None
