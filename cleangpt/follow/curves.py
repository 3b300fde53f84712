"""Columns of metrics files that grow: read as far as they are new, and thinned out so that spikes stay."""

import math
from array import array
from bisect import bisect_left
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cleangpt.basics import untrusted
from cleangpt.basics.shown import visible
from cleangpt.disk.rundir import read_row
from cleangpt.follow.reading import Reading
from cleangpt.report.columns import Column

AXES = ("step", "tokens", "seconds", "flops")
KEPT = 128  # files, of which the columns are kept


class Rows:
    """The columns of one metrics file."""

    def __init__(self, path: Path):
        self.path, self.read = path, Reading()
        self._forget()

    def _forget(self) -> None:
        self.steps: array[int] = array("q")
        self.columns: dict[str, tuple[array[int], array[float]]] = {}  # numbers of rows, and values

    def refresh(self) -> None:
        """Read what was added; of a file that was written anew, or became shorter, all of it."""
        try:
            with untrusted.opened(self.path) as file:
                size = self.read.begin(file)
                if not self.read.to:
                    self._forget()
                for line in self.read.lines(file, size):
                    if (row := read_row(line)) is not None:
                        self._add(row)
        except OSError:
            self.read = Reading()
            self._forget()

    def _add(self, row: dict[str, Any]) -> None:
        step = row.pop("step")
        if self.steps and step < self.steps[-1]:  # a resumed run has forgotten what came later
            self._cut(bisect_left(self.steps, step))
        if not self.steps or step > self.steps[-1]:
            self.steps.append(step)
        number = len(self.steps) - 1
        for name, value in row.items():
            numbers, values = self.columns.setdefault(name, (array("q"), array("d")))
            if numbers and numbers[-1] == number:  # of a step that stands twice, what was written last counts
                numbers.pop(), values.pop()
            numbers.append(number)
            values.append(math.nan if value is None else value)

    def _cut(self, rows: int) -> None:
        del self.steps[rows:]
        for numbers, values in self.columns.values():
            place = bisect_left(numbers, rows)
            del numbers[place:], values[place:]

    def names(self) -> list[str]:
        return sorted(visible(name) for name in self.columns)

    def column(self, name: str) -> Column | None:
        """Take one column as reports have it."""
        for own, (numbers, values) in self.columns.items():
            if visible(own) == name and len(numbers):
                return Column(np.array(self.steps, np.float64)[np.array(numbers)], np.array(values))
        return None


class Line(NamedTuple):
    """A column to draw."""

    steps: np.ndarray  # (n,)
    x: np.ndarray  # (n,)
    y: np.ndarray  # (n,) NaN where it was not finite

    def at(self, places: Any) -> "Line":
        return Line(self.steps[places], self.x[places], self.y[places])


def line(rows: Rows, name: str, axis: str, flops_per_token: int | None) -> Line | None:
    """Place a column along an axis; None where the run has not both."""
    found = rows.column(name)
    if found is None:
        return None
    if axis == "step":
        return Line(found.steps, found.steps, found.values)
    along = rows.column("seconds" if axis == "seconds" else "tokens")
    if along is None or (axis == "flops" and not flops_per_token):
        return None
    places = np.interp(found.steps, along.steps, along.values, right=np.nan)
    places = places * (flops_per_token or 1) if axis == "flops" else places
    return Line(found.steps, places, found.values).at(np.isfinite(places))


def part(whole: Line, begin: float | None, end: float | None) -> Line:
    """Cut out what lies between two places, and a point on either side, to which the line leads."""
    low = 0 if begin is None else max(0, int(np.searchsorted(whole.x, begin)) - 1)
    high = len(whole.x) if end is None else int(np.searchsorted(whole.x, end, side="right")) + 1
    return whole.at(slice(low, high))


def thinned(whole: Line, points: int) -> Line:
    """Keep the lowest and the highest value of each of so many buckets, in their order, and one gap of each."""
    count = len(whole.x)
    if count <= points:
        return whole
    finite = np.isfinite(whole.y)
    buckets = max(1, (points - 2) // (2 if finite.all() else 3))  # and both ends
    size = -(-count // buckets)
    begins = np.arange(0, count, size)

    def first(values: np.ndarray, beyond: float) -> np.ndarray:
        """Find the place of the least value of each bucket."""
        padded = np.full(len(begins) * size, beyond)
        padded[:count] = values
        return begins + padded.reshape(-1, size).argmin(axis=1)

    low, high = (first(np.where(finite, sign * whole.y, np.inf), np.inf) for sign in (1, -1))
    gaps = first(finite.astype(np.float64), 1.0)
    kept = np.unique(np.concatenate([low[finite[low]], high[finite[high]], gaps[~finite[gaps]], [0, count - 1]]))
    return whole.at(kept)


def smoothed(whole: Line, weight: float, every: int = 1) -> Line:
    """Take the exponential mean of all values so far, with this weight on what came before a value.

    It begins at the first value instead of at 0; gaps stay gaps. `every` says how many values a point stands for.
    """
    kept, found, mean, mass = weight**every, np.full(len(whole.y), np.nan), 0.0, 0.0
    for place, value in enumerate(whole.y.tolist()):
        if math.isfinite(value):
            mean, mass = kept * mean + (1 - kept) * value, kept * mass + (1 - kept)
            found[place] = mean / mass
    return Line(whole.steps, whole.x, found)


class Curves:
    """The files whose columns are looked at."""

    def __init__(self) -> None:
        self.kept: OrderedDict[Path, Rows] = OrderedDict()

    def of(self, path: Path) -> Rows:
        """Have the columns of a metrics file as it is now."""
        rows = self.kept.setdefault(path, Rows(path))
        self.kept.move_to_end(path)
        rows.refresh()
        while len(self.kept) > KEPT:
            self.kept.popitem(last=False)
        return rows
