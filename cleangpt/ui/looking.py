"""One run as its page shows it: configuration, the log's tail, samples, scores, pictures, and commands to copy."""

import contextlib
import os
import re
import shlex
from pathlib import Path
from typing import Any

from cleangpt.basics import untrusted, verbs
from cleangpt.basics.shown import visible, visible_in
from cleangpt.config.command_line import split
from cleangpt.disk.rundir import RunDir, leads_out, weights_in
from cleangpt.follow.index import Entry
from cleangpt.report.differences import show

TAIL = 1 << 16  # bytes of a log or of samples that are sent at first
MOST = 1 << 18  # at a time
MOST_SCORE = 1 << 25
MOST_FILES = 100
USUAL = re.compile(r"[+~]*(?!hydra\b)\w[\w./@]*(=|$)")  # a word that says where to write is no part of a run
PICTURES, SCORES = ("plots", "score", "report"), "score"


def run(entry: Entry) -> dict[str, Any]:
    """Describe a run."""
    place = RunDir(entry.path)
    changed = entry.record.get("changed")
    changed = changed if isinstance(changed, dict) else {}
    first = {
        key: [show(value.get("here")), show(value["default"]) if "default" in value else ""]
        for key, value in changed.items()
        if isinstance(value, dict)
    }
    return {
        "path": visible(place.shown()),
        "changed": [[key, *values] for key, values in first.items()],
        "config": [[key, show(value)] for key, value in entry.config.items() if key not in first],
        "record": _record(entry),
        "summary": [[key, _plain(value)] for key, value in entry.summary.items()],
        "weights": weights(place),
        "pictures": [visible(str(path.relative_to(place.path))) for path in _pictures(place)],
        "scores": [visible(path.stem) for path in _scores(place)],
        "commands": _commands(entry, place),
    }


def weights(place: RunDir) -> list[str]:
    """Name the weights that can be asked: the best ones first, then the final ones, then snapshots from the newest."""
    folders = [place.best, place.final, *reversed(place.snapshot_folders())]
    return [folder.name for folder in folders if (path := weights_in(folder)) and readable(path, place)]


def folder_of(place: RunDir, label: str) -> Path | None:
    """Find the folder of some weights by their name."""
    if label not in weights(place):
        return None
    return place.path / label if label in ("best", "final") else place.snapshots / label


def readable(path: Path, place: RunDir) -> bool:
    """Tell whether something is a file of this run: no link to elsewhere, no pipe."""
    with contextlib.suppress(OSError, ValueError):
        inside = Path(os.path.realpath(path)).is_relative_to(os.path.realpath(place.path))
        return inside and path.is_file() and not leads_out(path, place.path)
    return False


def _record(entry: Entry) -> list[list[str]]:
    """Say on what it was trained."""
    machine, versions = (entry.record.get(name) for name in ("machine", "versions"))
    found = dict(machine) if isinstance(machine, dict) else {}
    found |= {"processes": entry.record.get("world_size"), "started": entry.started}
    found |= versions if isinstance(versions, dict) else {}
    git = entry.record.get("git")
    if isinstance(git, dict) and git.get("commit"):
        found["commit"] = f"{git['commit']}{', changed since' if git.get('dirty') else ''}"
    parameters = entry.record.get("parameters")
    if isinstance(parameters, dict):
        found |= {f"parameters, {name.replace('_', ' ')}": value for name, value in parameters.items()}
    return [[str(key), _plain(value)] for key, value in found.items() if value is not None]


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else show(value)


def _commands(entry: Entry, place: RunDir) -> list[list[str]]:
    """Write commands that a person may want to go on with."""
    where, train = shlex.quote(place.shown()), verbs.shown("train")
    words = [word for word in _overrides(place) if split(word)[0] not in ("seed", "resume")]
    seed = entry.config.get("seed")
    found = []
    if entry.status not in ("running", "completed", "early_stopped"):
        found.append(["Go on", f"{train} resume={where}"])
    if entry.steps:
        found.append(["Train longer", f"{train} resume={where} train.steps={2 * entry.steps}"])
    if type(seed) is int:
        found.append(["Another seed", shlex.join([*train.split(), *words, f"seed={seed + 1}"])])
    for what, verb in (("Sample", "sample"), ("Score", "score")):
        found.append([what, f"{verbs.shown(verb)} run={where}"])
    return [[what, visible(command)] for what, command in found]


def _overrides(place: RunDir) -> list[str]:
    with contextlib.suppress(OSError, ValueError):
        words = untrusted.json_object(place.run).get("overrides", [])
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return [word for word in words if USUAL.match(word)]
    return []


# ---- files that grow


def log(entry: Entry, begin: int | None) -> dict[str, Any]:
    """Read the log from a place on, by default its end."""
    text, start, end = _new_lines(entry, "train.log", begin)
    return {"text": visible(text.decode("utf-8", errors="replace")), "from": start, "to": end}


def samples(entry: Entry, begin: int | None) -> dict[str, Any]:
    """Read samples from a place on, by default the newest."""
    text, start, end = _new_lines(entry, "samples.jsonl", begin)
    rows = []
    for line in text.split(b"\n"):
        with contextlib.suppress(*untrusted.DAMAGE):
            rows.append(visible_in(untrusted.parsed_object(line)))
    return {"rows": rows, "from": start, "to": end}


def _new_lines(entry: Entry, name: str, begin: int | None) -> tuple[bytes, int, int]:
    """Read whole lines from a place on; of a file that became shorter from its beginning."""
    path = entry.path / name
    if not readable(path, RunDir(entry.path)):
        return b"", 0, 0
    with untrusted.opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        start = max(0, size - TAIL) if begin is None else begin if begin <= size else 0
        start = max(start, size - MOST)
        file.seek(max(0, start - 1))
        before = file.read(min(start, 1))
        text = file.read(size - start)
    if before not in (b"", b"\n"):  # in the middle of a line
        skipped = text.find(b"\n") + 1
        start, text = start + skipped, text[skipped:]
    whole = text.rfind(b"\n") + 1
    return text[:whole], start, start + whole


# ---- scores and pictures


def _files(place: RunDir, folder: str, ending: str) -> list[Path]:
    with contextlib.suppress(OSError):
        found = sorted((place.path / folder).glob(f"*{ending}"))
        return [path for path in found if readable(path, place)][:MOST_FILES]
    return []


def _scores(place: RunDir) -> list[Path]:
    return _files(place, SCORES, ".json")


def _pictures(place: RunDir) -> list[Path]:
    return [path for folder in PICTURES for path in _files(place, folder, ".png")]


def picture(entry: Entry, number: int) -> Path | None:
    """Find a picture by its place in the list."""
    found = _pictures(RunDir(entry.path))
    return found[number] if number < len(found) else None


def score(entry: Entry, number: int) -> Any:
    """Read a score by its place in the list; None where there is none that can be read."""
    found = _scores(RunDir(entry.path))
    with contextlib.suppress(*untrusted.DAMAGE):
        if number < len(found) and found[number].stat().st_size <= MOST_SCORE:
            return visible_in(untrusted.json_object(found[number]))
    return None
