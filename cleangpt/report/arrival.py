"""When runs arrive at a share of right answers: the first evaluation that shows it, and the median over seeds.

Seeds differ wildly in this, and some never arrive: those count as later than any that do.
"""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cleangpt.report.collect import Run

SHARES = {"50%": 0.5, "90%": 0.9, "99%": 0.99, "99.9%": 0.999}
ACCURACY = "val/accuracy"


class Arrival(NamedTuple):
    """The arrival of several runs."""

    arrived: int
    step: float | None  # the median; None where half of them or more did not arrive
    tokens: float | None


def are_known(runs: Sequence[Run]) -> bool:
    """Tell whether any run has right answers to count."""
    return any(ACCURACY in run.columns for run in runs)


def of(runs: Sequence[Run], share: float) -> Arrival:
    """Find when these runs arrive at a share of right answers."""
    found = [_one(run, share) for run in runs]
    if not found:
        return Arrival(0, None, None)
    there = sum(math.isfinite(step) for step, _ in found)
    step, tokens = (statistics.median_high(values) for values in zip(*found, strict=True))
    return Arrival(there, step if math.isfinite(step) else None, tokens if math.isfinite(tokens) else None)


def _one(run: Run, share: float) -> tuple[float, float]:
    """Find the step and the tokens of one run; infinite where it did not arrive."""
    if ACCURACY not in run.columns:
        return math.inf, math.inf
    steps, values = run.columns[ACCURACY]
    places = np.flatnonzero(values >= share)
    if not len(places):
        return math.inf, math.inf
    step = float(steps[places[0]])
    if "tokens" not in run.columns:
        return step, math.inf
    return step, float(np.interp(step, *run.columns["tokens"]))
