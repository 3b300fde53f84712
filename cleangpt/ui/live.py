"""The runs as rows of a table. Nothing is looked at while nobody asks, and at most every so often while many do."""

import hashlib
import secrets
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from cleangpt.basics import untrusted
from cleangpt.basics.shown import visible
from cleangpt.follow.index import Entry, Index
from cleangpt.report.differences import IGNORED, MISSING, show, text
from cleangpt.sweeps import jobs

EVERY = 0.5  # seconds from one look at the disk to the next, at least
CLOSER = 0.1  # seconds of each that go to what was not read whole, while nothing is trained; else one run a look
SHOWN = ("train/", "val/", "test/")  # quantities that the table can have
Row = dict[str, Any]
MOST_NOTE, MOST_TAG, MOST_TAGS = 2000, 100, 20


def id_of(path: Path) -> str:
    """Name a run for the page, which never sends a path."""
    return hashlib.sha256(str(path).encode(errors="surrogateescape")).hexdigest()[:16]


class Live:
    """The runs below some folders, and the version of the table in which each row changed."""

    def __init__(self, folders: list[Path]):
        self.index = Index(folders)
        self.start, self.version = secrets.token_hex(4), 0
        self.rows: dict[Path, Row] = {}
        self.changed: dict[Path, int] = {}  # the version of a row, also of one that is gone
        self.paths: dict[str, Path] = {}
        self.telling: dict[Path, set[str] | None] = {}  # of a folder: the keys that tell its runs apart
        self.looking, self.looked = threading.Lock(), 0.0

    def entry(self, number: str) -> Entry | None:
        """Find a run by its id."""
        path = self.paths.get(number)
        return None if path is None else self.index.entries.get(path)

    def since(self, version: str) -> dict[str, Any]:
        """List what changed since a version of the table; of another server's version, and of none, everything."""
        start, _, number = version.partition("-")
        is_ours = start == self.start and number.isdecimal() and len(number) < 16
        since = int(number) if is_ours else 0
        with self.looking:
            self._look()
            changed = [path for path, when in self.changed.items() if when > since]
            return {
                "version": f"{self.start}-{self.version}",
                "all": not is_ours,
                "rows": [self.rows[path] for path in changed if path in self.rows],
                "gone": [id_of(path) for path in changed if path not in self.rows] if is_ours else [],
            }

    def refresh(self, now: bool = False) -> None:
        """Look at the disk, unless somebody just did."""
        with self.looking:
            self._look(now)

    def _look(self, now: bool = False) -> None:
        if now or time.monotonic() - self.looked >= EVERY:
            changed = self.index.refresh()
            trains = any(entry.status == "running" for entry in self.index.entries.values())
            self._renew(changed | self.index.look_closer(0.0 if trains else CLOSER))
            self.looked = time.monotonic()

    def _renew(self, changed: set[Path]) -> None:
        if not changed:
            return
        around = defaultdict(list)
        for path in self.index.entries:
            around[path.parent].append(path)
        version = self.version + 1
        for path in changed - self.index.entries.keys():
            if self.rows.pop(path, None):
                self.changed[path] = version
                self.paths.pop(id_of(path), None)
        for folder in {path.parent for path in changed}:
            entries = [self.index.entries[path] for path in around[folder]]
            before, telling = self.telling.get(folder), _telling(entries)
            self.telling[folder] = telling
            for entry in entries:
                if entry.path in changed or before != telling:
                    row = _safe_row(entry, telling)
                    if row != self.rows.get(entry.path):
                        self.rows[entry.path], self.changed[entry.path] = row, version
                        self.paths[row["id"]] = entry.path
        self.version = version


def changes(entry: Entry) -> dict[str, Any]:
    """List what a run has otherwise than conf/ has it."""
    changed = entry.record.get("changed")
    if not isinstance(changed, dict):
        return {}
    return {key: value.get("here") for key, value in changed.items() if isinstance(value, dict) and key not in IGNORED}


def _telling(entries: list[Entry]) -> set[str] | None:
    """Find the keys that tell the runs of a folder apart; None where there is nothing to tell apart."""
    try:
        return _keys_apart(entries)
    except untrusted.DAMAGE:
        return None


def _keys_apart(entries: list[Entry]) -> set[str] | None:
    found = [changes(entry) for entry in entries if entry.record]
    if len(found) < 2:
        return None
    every = {key for changed in found for key in changed}
    return {key for key in every if any(key not in c or c[key] != found[0].get(key) for c in found)}


def _differs(entry: Entry, telling: set[str] | None) -> list[list[str]]:
    """Say in what a run differs: from those beside it, or alone from what conf/ has."""
    changed = changes(entry)
    keys = changed if telling is None else [key for key in (entry.config or changed) if key in telling]
    return [[key, show(changed.get(key, entry.config.get(key, MISSING)))] for key in keys]


def _safe_row(entry: Entry, telling: set[str] | None) -> Row:
    """Make a row also of a run whose files are not what they should be: the others want to be seen."""
    try:
        return _row(entry, telling)
    except untrusted.DAMAGE:
        return _row(Entry(entry.run, entry.name, notes=entry.notes), None)


def _row(entry: Entry, telling: set[str] | None) -> Row:
    logged = {name: value for name, value in (entry.summary | entry.last).items() if name.startswith(SHOWN)}
    is_job = jobs.number_in(entry.path) is not None
    folder, _, name = entry.name.rpartition("/")
    return {
        "id": id_of(entry.path),
        "name": entry.name,
        "job": name if is_job else "",
        "sweep": (folder or entry.path.parent.name) if is_job else "",
        "status": entry.status,
        "step": entry.step,
        "steps": entry.steps,
        "left": entry.seconds_left(),
        "speed": _number(entry.last.get("tokens_per_second")),
        "started": entry.started,
        "seed": show(entry.config.get("seed", MISSING)),
        "model": show(entry.config.get("model.name", MISSING)),
        "dataset": show(entry.config.get("dataset.name", MISSING)),
        "differs": _differs(entry, telling),
        "values": {name: _number(value) for name, value in logged.items()},
        "best": {name: list(found) for name, found in entry.best.items()},
        "whole": entry.is_whole or not entry.read.to,
        "setting": setting(entry),
        "read": [entry.read.inode, entry.read.to],  # whether its curves are longer than they were
        "note": visible(entry.notes.note)[:MOST_NOTE],
        "tags": [visible(tag)[:MOST_TAG] for tag in entry.notes.tags[:MOST_TAGS]],
        "hidden": entry.notes.hidden,
    }


def setting(entry: Entry) -> str:
    """Tell a configuration from others, whatever its seed; a run without one is like no other."""
    if not entry.config:
        return id_of(entry.path)
    config = {key: value for key, value in entry.config.items() if key not in IGNORED}
    return hashlib.sha256(text(config).encode()).hexdigest()[:16]


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
