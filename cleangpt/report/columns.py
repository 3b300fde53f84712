"""Columns out of JSON lines, without making an object of every line.

The files of many long runs have millions of lines. Where all lines are flat objects of numbers, as in every
metrics.jsonl that a run writes, a column is found by one pattern; other files go through the JSON parser.
"""

import contextlib
import json
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

AXES = ("step", "tokens", "seconds")
SCORES = re.compile(rb'"(train/[^"]*)":'), re.compile(rb'"(val/[^"]*)":')


class Column(NamedTuple):
    """One quantity of a run where it was logged; NaN where it was logged and not finite."""

    steps: np.ndarray  # (n,) float64, rising
    values: np.ndarray  # (n,) float64


def read(path: Path) -> tuple[dict[str, Column], int]:
    """tokens, seconds and every train/… and val/… of a metrics file, and how many lines can't be read.

    A last line without an end is one that is being written, or was when the run died: no mistake.
    """
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    with contextlib.suppress(ValueError):
        json.loads(data[end:])
        data, end = data + b"\n", len(data) + 1
    data = data[:end]
    try:
        found, bad = (_by_pattern(data), 0) if _is_flat(data) else _by_parser(data)
    except (ValueError, TypeError):
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
    """Whether each line is one object without escapes, so that `"name":` can only be a name of that object."""
    lines = data.count(b"\n")
    return data.count(b"{") == data.count(b"}") == lines and b"\\" not in data and b"\0" not in data


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
            found[name] = where, np.array(json.loads(b"[" + b",".join(values) + b"]"), float)
    return found


def _by_parser(data: bytes) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], int]:
    """The same for any file, and how many of its lines are no JSON objects."""
    rows: dict[str, list[tuple[int, float]]] = {}
    bad = 0
    for line, text in enumerate(data.split(b"\n")[:-1]):
        try:
            items = json.loads(text).items()
        except (ValueError, AttributeError):
            bad += 1
            continue
        for name, value in items:
            number = value is None or (isinstance(value, int | float) and not isinstance(value, bool))
            if number and (name in AXES or name.startswith(("train/", "val/"))):
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
