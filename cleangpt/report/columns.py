"""Columns out of JSON lines, without making an object of every line.

The files of many long runs have millions of lines. Where all lines are flat objects of numbers, as in every
metrics.jsonl that a run writes, a column is found by one pattern; other files go through the JSON parser.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cleangpt.runs.rundir import read_row

AXES = ("step", "tokens", "seconds")
SCORES = ("train/*", "val/*")
NAME = re.compile(rb'"([^"]+)":')
OTHER = [b"\\", b"\0", b"["] + [colon + word for colon in (b":", b": ") for word in (b"t", b"f", b"N", b"I", b"-I")]


class Column(NamedTuple):
    """One quantity of a run where it was logged; NaN where it was logged and not finite."""

    steps: np.ndarray  # (n,) float64, rising
    values: np.ndarray  # (n,) float64


def read(path: Path, asked: Sequence[str] = ()) -> tuple[dict[str, Column], int]:
    """tokens, seconds, every train/… and val/… of a metrics file, and what else is asked for by name or by pattern
    (weight_norm/*); and how many lines are no rows.
    """
    data = _whole_lines(path)

    def is_wanted(name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in (*AXES, *SCORES, *asked))

    try:
        found, bad = (_by_pattern(data, is_wanted), 0) if _is_flat(data) else _by_parser(data, is_wanted)
    except (ValueError, TypeError, OverflowError, RecursionError):
        found, bad = _by_parser(data, is_wanted)
    if "step" not in found:
        return {}, bad
    lines, steps = found.pop("step")
    columns = {}
    for name, (where, values) in found.items():
        places = np.searchsorted(lines, where)
        known = (places < len(lines)) & (lines[np.minimum(places, len(lines) - 1)] == where)
        columns[name] = _rising(steps[places[known]], values[known])
    return columns, bad


def last(path: Path) -> dict[str, float]:
    """The newest value of every column of a metrics file."""
    data = _whole_lines(path)
    try:
        if _is_flat(data):
            newest = {name: pattern.match(data, data.rfind(head)) for name, head, pattern in _columns(data)}
            return {name: _number(json.loads(match[1])) for name, match in newest.items()}
    except (ValueError, TypeError, OverflowError, RecursionError):
        pass  # the parser has to read it
    return {name: _number(value) for _, row in _rows(data) for name, value in row.items()}


def _whole_lines(path: Path) -> bytes:
    """A last line without an end is one that is being written, or was when the run died: no mistake."""
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    return data + b"\n" if read_row(data[end:]) is not None else data[:end]


def _is_flat(data: bytes) -> bool:
    """Whether each line looks like one object of numbers, without escapes: then `"name":` can only be a name of it."""
    lines = data.count(b"\n")
    objects = data.count(b"{") == data.count(b"}") == lines and data.count(b'"') == 2 * data.count(b'":')
    return objects and data.isascii() and not any(part in data for part in OTHER)


def _columns(data: bytes) -> Iterator[tuple[str, bytes, re.Pattern[bytes]]]:
    """Of each column of a file of flat objects: its name, how it begins there, and what finds a value."""
    for name in sorted({match[1] for match in NAME.finditer(data)}):
        head = b'"' + name + b'":'
        yield name.decode(), head, re.compile(re.escape(head) + rb" ?([^,}]+)")


def _by_pattern(data: bytes, is_wanted: Callable[[str], bool]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """name → (lines, values) of a file of flat objects; a ValueError where a value is no number."""
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
    found = {}
    for name, _, pattern in _columns(data):
        if not is_wanted(name):
            continue
        values = pattern.findall(data)
        if len(values) == len(ends):  # an object has a name once, so it is in every line
            where = np.arange(len(ends))
        else:
            where = np.searchsorted(ends, [match.start() for match in pattern.finditer(data)])
        numbers = np.array(json.loads(b"[" + b",".join(values) + b"]"), float)
        if np.isinf(numbers).any():
            raise ValueError(f"{name} is infinite")
        found[name] = where, numbers
    where, steps = found.get("step", ((), np.empty(0)))
    if len(where) < len(ends) or not np.all((steps >= 0) & (steps == np.floor(steps))):
        raise ValueError("a line without a step")
    return found


def _by_parser(data: bytes, is_wanted: Callable[[str], bool]) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], int]:
    """The same for any file, and how many of its lines are no rows."""
    found: dict[str, list[tuple[int, float]]] = {}
    read = 0
    for line, row in _rows(data):
        read += 1
        for name in filter(is_wanted, row):
            found.setdefault(name, []).append((line, _number(row[name])))
    return {
        name: (np.array([line for line, _ in pairs]), np.array([value for _, value in pairs], float))
        for name, pairs in found.items()
    }, data.count(b"\n") - read


def _rows(data: bytes) -> Iterator[tuple[int, dict[str, float | None]]]:
    """The lines that are rows, by their number."""
    for line, text in enumerate(data.split(b"\n")[:-1]):
        if (row := read_row(text)) is not None:
            yield line, row


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _rising(steps: np.ndarray, values: np.ndarray) -> Column:
    """In the order of steps; of a step that stands twice, what was written last."""
    if np.all(np.diff(steps) > 0):
        return Column(steps, values)
    order = np.argsort(steps, kind="stable")
    steps, values = steps[order], values[order]
    last = np.append(steps[1:] != steps[:-1], True)
    return Column(steps[last], values[last])
