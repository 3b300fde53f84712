"""Columns out of JSON lines, without making an object of every line.

The files of many long runs have millions of lines. Where all lines are flat objects of numbers, as in every
metrics.jsonl that a run writes, a column is found by one pattern; other files go through the JSON parser.
"""

import json
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cleangpt.rundir import read_row

AXES = ("step", "tokens", "seconds")
OTHER = [b"\\", b"\0", b"["] + [colon + word for colon in (b":", b": ") for word in (b"t", b"f", b"N", b"I", b"-I")]
SCORES = re.compile(rb'"(train/[^"]*)":'), re.compile(rb'"(val/[^"]*)":')


class Column(NamedTuple):
    """One quantity of a run where it was logged; NaN where it was logged and not finite."""

    steps: np.ndarray  # (n,) float64, rising
    values: np.ndarray  # (n,) float64


def read(path: Path) -> tuple[dict[str, Column], int]:
    """tokens, seconds and every train/… and val/… of a metrics file, and how many lines are no rows.

    A last line without an end is one that is being written, or was when the run died: no mistake.
    """
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    data = data + b"\n" if read_row(data[end:]) is not None else data[:end]
    try:
        found, bad = (_by_pattern(data), 0) if _is_flat(data) else _by_parser(data)
    except (ValueError, TypeError, OverflowError, RecursionError):
        found, bad = _by_parser(data)
    if "step" not in found:
        return {}, bad
    lines, steps = found.pop("step")
    columns = {}
    for name, (where, values) in found.items():
        places = np.searchsorted(lines, where)
        known = (places < len(lines)) & (lines[np.minimum(places, len(lines) - 1)] == where)
        columns[name] = _rising(steps[places[known]], values[known])
    return columns, bad


def _is_flat(data: bytes) -> bool:
    """Whether each line looks like one object of numbers, without escapes: then `"name":` can only be a name of it."""
    lines = data.count(b"\n")
    objects = data.count(b"{") == data.count(b"}") == lines and data.count(b'"') == 2 * data.count(b'":')
    return objects and data.isascii() and not any(part in data for part in OTHER)


def _by_pattern(data: bytes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """name → (lines, values) of a file of flat objects; a ValueError where a value is no number."""
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
    scores = {name for pattern in SCORES for name in pattern.findall(data)}
    found = {}
    for name in [*AXES, *sorted(name.decode() for name in scores)]:
        pattern = re.compile(b'"' + re.escape(name.encode()) + rb'": ?([^,}]+)')
        values = pattern.findall(data)
        if len(values) == len(ends):  # an object has a name once, so it is in every line
            where = np.arange(len(ends))
        else:
            where = np.searchsorted(ends, [match.start() for match in pattern.finditer(data)])
        if values:
            numbers = np.array(json.loads(b"[" + b",".join(values) + b"]"), float)
            if np.isinf(numbers).any():
                raise ValueError(f"{name} is infinite")
            found[name] = where, numbers
    where, steps = found.get("step", ((), np.empty(0)))
    if len(where) < len(ends) or not np.all((steps >= 0) & (steps == np.floor(steps))):
        raise ValueError("a line without a step")
    return found


def _by_parser(data: bytes) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], int]:
    """The same for any file, and how many of its lines are no rows."""
    rows: dict[str, list[tuple[int, float]]] = {}
    bad = 0
    for line, text in enumerate(data.split(b"\n")[:-1]):
        if (row := read_row(text)) is None:
            bad += 1
            continue
        for name, value in row.items():
            if name in AXES or name.startswith(("train/", "val/")):
                rows.setdefault(name, []).append((line, np.nan if value is None else value))
    return {
        name: (np.array([line for line, _ in pairs]), np.array([value for _, value in pairs], float))
        for name, pairs in rows.items()
    }, bad


def _rising(steps: np.ndarray, values: np.ndarray) -> Column:
    """In the order of steps; of a step that stands twice, what was written last."""
    if np.all(np.diff(steps) > 0):
        return Column(steps, values)
    order = np.argsort(steps, kind="stable")
    steps, values = steps[order], values[order]
    last = np.append(steps[1:] != steps[:-1], True)
    return Column(steps[last], values[last])
