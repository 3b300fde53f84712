"""An index of runs that is kept up to date by `stat` alone: files are read again only where they changed."""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cleangpt.basics import untrusted
from cleangpt.basics.shown import visible, visible_in
from cleangpt.disk import alive, migrations
from cleangpt.disk.rundir import LATEST, RunDir, read_row
from cleangpt.report.collect import PARTS_OF_A_RUN, dotted, is_run

TAIL = 1 << 16  # bytes at the end of a metrics file that are read of a run seen for the first time
WATCHED = ("config", "run", "metrics", "summary")


@dataclass
class Entry:
    """A run as its files tell of it."""

    path: Path
    name: str  # below the folder that was asked for
    status: str = "unreadable"
    config: dict[str, Any] = field(default_factory=dict)  # by dotted key
    summary: dict[str, Any] = field(default_factory=dict)
    started: str = ""  # its newest part
    last: dict[str, float | None] = field(default_factory=dict)  # the newest value of everything
    signature: tuple[Any, ...] = ()
    read_to: int = 0  # bytes of the metrics file
    inode: int = 0  # of that

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


class Index:
    """The runs at and below some folders."""

    def __init__(self, folders: list[Path]):
        self.folders = [folder.resolve() for folder in folders]
        self.entries: dict[Path, Entry] = {}
        self._inner: dict[Path, tuple[int, bool, list[Path]]] = {}  # of a folder: when it changed, whether it is a run

    def refresh(self) -> bool:
        """Look what is new, what changed and what is gone; tell whether anything did."""
        found = {path: folder for folder in self.folders for path in self._below(folder)}
        changed = bool(self.entries.keys() - found.keys())
        self.entries = {path: entry for path, entry in self.entries.items() if path in found}
        for path, folder in found.items():
            entry = self.entries.get(path)
            if entry is None:
                name = path.name if path == folder else str(path.relative_to(folder))
                entry = self.entries[path] = Entry(path, visible(name))
            if self._renew(entry):
                changed = True
        return changed

    def _below(self, folder: Path) -> Iterator[Path]:
        waiting, seen = [folder], set()
        while waiting:
            here = waiting.pop()
            if here in seen:
                continue
            seen.add(here)
            try:
                changed = here.stat().st_mtime_ns
            except OSError:
                self._inner.pop(here, None)
                continue
            known = self._inner.get(here)
            if known is None or known[0] != changed or time.time_ns() - changed < 2_000_000_000:
                known = self._inner[here] = (changed, is_run(here), _folders_in(here))
            _, itself, inner = known
            if itself:
                yield here
            waiting += [path for path in inner if not (itself and path.name in PARTS_OF_A_RUN)]

    def _renew(self, entry: Entry) -> bool:
        run = RunDir(entry.path)
        signature = tuple(_signature(getattr(run, name)) for name in WATCHED)
        before = entry.signature
        status = entry.status
        if signature != before:
            entry.signature = signature
            changed = {
                name for name, one, other in zip(WATCHED, before or ((),) * 4, signature, strict=True) if one != other
            }
            self._read(entry, run, changed)
        ended = entry.summary.get("status")
        entry.status = alive.status(run, str(ended) if ended else None) if entry.config or ended else "unreadable"
        return signature != before or status != entry.status

    def _read(self, entry: Entry, run: RunDir, changed: set[str]) -> None:
        if "config" in changed:
            entry.config = {}
            with contextlib.suppress(OSError, ValueError):
                entry.config = dotted(visible_in(migrations.to_today(untrusted.json_object(run.config))))
        if "run" in changed:
            with contextlib.suppress(OSError, ValueError, AttributeError, IndexError, TypeError):
                record = untrusted.json_object(run.run)
                part = [record, *record.get("resumed", [])][-1]
                entry.started = visible(str(part.get("started", "")))
        if "metrics" in changed:
            self._read_metrics(entry, run.metrics)
        if changed & {"summary", "metrics"}:
            entry.summary = {}
            with contextlib.suppress(OSError, ValueError):
                summary = visible_in(untrusted.json_object(run.summary))
                ended = summary.get("step")
                went_on = type(ended) is int and (entry.last.get("step") or 0) > ended
                entry.summary = {} if went_on else summary

    def _read_metrics(self, entry: Entry, path: Path) -> None:
        """Read the lines that are new, or of a file that was not read before, or was written anew, its last ones."""
        try:
            with path.open("rb") as file:
                found = os.fstat(file.fileno())
                size = found.st_size
                if size < entry.read_to or found.st_ino != entry.inode:  # written anew, as a resume does
                    entry.read_to, entry.last, entry.inode = 0, {}, found.st_ino
                begin = entry.read_to or max(0, size - TAIL)
                file.seek(begin)
                text = file.read(size - begin)
        except OSError:
            entry.read_to, entry.last = 0, {}
            return
        whole = text.rfind(b"\n") + 1
        entry.read_to = begin + whole
        for line in text[:whole].split(b"\n"):
            row = read_row(line)
            if row is not None:
                if row["step"] < (entry.last.get("step") or 0):  # a resumed run has forgotten what came later
                    entry.last = {}
                entry.last |= {visible(name): value for name, value in row.items()}


def _folders_in(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError), os.scandir(folder) as inside:
        return sorted(
            Path(entry.path).resolve()
            for entry in inside
            if entry.is_dir() and not entry.name.startswith(".") and entry.name != LATEST.name
        )
    return []


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
