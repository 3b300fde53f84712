"""Estimates from a few seeds about all seeds: mean, standard deviation, and Student's interval of the mean."""

import math
from functools import cache
from typing import NamedTuple

import numpy as np

LEVEL = 0.95


class Estimate(NamedTuple):
    """A mean over `count` seeds. One seed has no spread, and so neither `sd` nor an interval."""

    count: int
    mean: float | None
    sd: float | None  # of single seeds, with count - 1 in the denominator
    low: float | None  # the interval that holds the mean of all seeds with 95% confidence
    high: float | None


def estimate(values: list[float], limits: tuple[float, float] = (-math.inf, math.inf)) -> Estimate:
    """Estimate the mean of all seeds. `limits` are what the quantity can be at all: an interval is cut there."""
    count = len(values)
    if count == 0:
        return Estimate(0, None, None, None, None)
    mean = math.fsum(values) / count
    if count == 1:
        return Estimate(1, mean, None, None, None)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = student_t(count - 1) * sd / math.sqrt(count)
    return Estimate(count, mean, sd, max(limits[0], mean - half), min(limits[1], mean + half))


def difference(one: Estimate, other: Estimate) -> tuple[float, float, float] | None:
    """Estimate one - other with its 95% interval, spreads not taken to be equal (Welch, 1947).

    None without two seeds each, or where no seed differs from another: there is no spread to judge by.
    """
    if not (one.sd is not None and other.sd is not None and one.sd + other.sd > 0):
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
