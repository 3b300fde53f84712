"""Read columns of numbers from JSON lines, one by one: a file of a million lines takes no more than its numbers."""

import math
from array import array
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cleangpt.basics import untrusted
from cleangpt.disk.rundir import read_row

AXES = {"step": "optimizer step", "tokens": "tokens", "seconds": "minutes of wall time"}  # to draw columns along
SCORES = ("train/*", "val/*")


class Column(NamedTuple):
    """One quantity of a run where it was logged; NaN where it was logged and not finite."""

    steps: np.ndarray  # (n,) float64, rising
    values: np.ndarray  # (n,) float64


class Metrics(NamedTuple):
    """The contents of a metrics file."""

    columns: dict[str, Column]
    last: dict[str, float]  # the newest value of everything, by name in alphabetical order
    bad: int  # lines that are no rows


def read(path: Path, asked: Sequence[str] = ()) -> Metrics:
    """Read tokens, seconds, every train/… and val/…, and what else is asked for by name or by pattern (weight_norm/*).

    A last line without an end is one that is being written, or was when the run died: no mistake.
    """
    found: dict[str, tuple[array[float], array[float]]] = {}
    last: dict[str, float | None] = {}
    bad = 0

    @cache
    def is_wanted(name: str) -> bool:
        return name != "step" and any(fnmatchcase(name, pattern) for pattern in (*AXES, *SCORES, *asked))

    with untrusted.opened(path) as file:
        for line in file:
            row = read_row(line)
            if row is None:
                bad += line.endswith(b"\n")
                continue
            last |= row
            for name in filter(is_wanted, row):
                steps, values = found.setdefault(name, (array("d"), array("d")))
                steps.append(row["step"])
                values.append(_number(row[name]))
    columns = {name: _rising(np.array(steps), np.array(values)) for name, (steps, values) in found.items()}
    return Metrics(columns, {name: _number(last[name]) for name in sorted(last)}, bad)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _rising(steps: np.ndarray, values: np.ndarray) -> Column:
    """Put a column in the order of steps; of a step that stands twice, what was written last counts."""
    order = np.argsort(steps, kind="stable")
    steps, values = steps[order], values[order]
    last = np.append(steps[1:] != steps[:-1], True)
    return Column(steps[last], values[last])
