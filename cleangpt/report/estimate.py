"""What a few seeds say about all of them: the mean of a value with Student's interval, and curves with their band."""

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from cleangpt.report.collect import Run

LEVEL = 0.95
POINTS = 300  # of a drawn line; more than that are averaged in stretches


@dataclass(frozen=True)
class Estimate:
    """A mean over `count` seeds. One seed has no spread, and so neither `sd` nor an interval."""

    count: int
    mean: float | None = None
    sd: float | None = None  # of single seeds, with count - 1 in the denominator
    low: float | None = None  # the interval that holds the mean of all seeds with 95% confidence
    high: float | None = None


def estimate(values: list[float], limits: tuple[float, float] = (-math.inf, math.inf)) -> Estimate:
    """Estimate the mean of all seeds. `limits` are what the quantity can be at all: an interval is cut there."""
    count = len(values)
    if count == 0:
        return Estimate(0)
    mean = math.fsum(values) / count
    if count == 1:
        return Estimate(1, mean)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = student_t(count - 1) * sd / math.sqrt(count)
    return Estimate(count, mean, sd, max(limits[0], mean - half), min(limits[1], mean + half))


def difference(one: Estimate, other: Estimate) -> tuple[float, float, float] | None:
    """Estimate one - other with its 95% interval, spreads not taken to be equal (Welch, 1947).

    None without two seeds each, or where no seed differs from another: there is no spread to judge by.
    """
    if one.mean is None or one.sd is None or other.mean is None or other.sd is None or one.sd + other.sd == 0:
        return None
    middle = one.mean - other.mean
    a, b = one.sd**2 / one.count, other.sd**2 / other.count
    degrees = (a + b) ** 2 / (a**2 / (one.count - 1) + b**2 / (other.count - 1))
    half = student_t(degrees) * math.sqrt(a + b)
    return middle, middle - half, middle + half


@cache
def student_t(degrees: float, level: float = LEVEL) -> float:
    """Find t with P(|T| < t) = level, for at least 1 degree of freedom.

    With T = sqrt(degrees) tan(angle) the density of the angle is cos(angle)^(degrees - 1), which is smooth and
    has an end, so that a sum over a fine grid gives six digits.
    """
    angles = np.linspace(0, math.pi / 2, 200_001)
    density = np.cos(angles) ** (degrees - 1)
    mass = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    return math.sqrt(degrees) * math.tan(np.interp(level * mass[-1], mass, angles))


# ---- curves


class Curve(NamedTuple):
    """A quantity over the steps of several runs."""

    steps: np.ndarray  # (n,) of single steps, or the middles of stretches
    mean: np.ndarray  # (n,) NaN where not every run has a value
    low: np.ndarray
    high: np.ndarray
    averaged: int  # logged values behind a point of a run; 1: nothing was averaged


def curve(runs: list[Run], name: str, points: int = POINTS) -> Curve | None:
    """Average a quantity over the runs that have it, step by step, and find its lowest and highest value."""
    found = [run.columns[name] for run in runs if name in run.columns]
    if not found:
        return None
    steps = np.unique(np.concatenate([column.steps for column in found]))
    table = np.full((len(found), len(steps)), np.nan)
    for row, column in zip(table, found, strict=True):
        row[np.searchsorted(steps, column.steps)] = column.values
    averaged = -(-len(steps) // points)
    if averaged > 1:
        begins, known = np.arange(0, len(steps), averaged), np.isfinite(table)
        counts = np.add.reduceat(known, begins, axis=1)
        sums = np.add.reduceat(np.where(known, table, 0), begins, axis=1)
        table = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        steps = np.add.reduceat(steps, begins) / np.diff(np.append(begins, len(steps)))
    table = np.where(np.isfinite(table), table, np.nan)
    return Curve(steps, table.sum(axis=0) / len(found), np.fmin.reduce(table), np.fmax.reduce(table), averaged)


def along(runs: list[Run], axis: str, steps: np.ndarray) -> np.ndarray | None:
    """Place these steps on an axis: by their tokens or minutes, in the mean over the runs."""
    if axis == "step":
        return steps
    found = [run.columns[axis] for run in runs if axis in run.columns]
    if not found:
        return None
    places = np.array([np.interp(steps, column.steps, column.values, right=np.nan) for column in found])
    known = np.isfinite(places)
    sums = np.where(known, places, 0).sum(axis=0)
    mean = np.where(known.any(axis=0), sums / np.maximum(known.sum(axis=0), 1), np.nan)
    return mean / 60 if axis == "seconds" else mean
