"""A fixed sample of the problems of a huge split, stratified by the lengths of their operands."""

import numpy as np

from cleangpt.basics.seeds import Permutation, integers
from cleangpt.tasks.contract import COMPLETE
from cleangpt.tasks.lab import figures
from cleangpt.tasks.lab.sources.universe import PairTask

POOL = 100_000  # problems that are drawn of a split that is a tiny part of its universe


def sample(task: PairTask, digits: int, split: str, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose exactly `limit` problems, some of each pair of operand lengths, though short operands are rare.

    Half of the sample is shared out evenly, half in proportion. Each problem is weighted by what its stratum is of
    the split (of all problems, where the split is too large to be counted), so that weighted means are those of the
    whole split.
    """
    widths = [10] + [9 * 10**k for k in range(1, digits)]
    strata = sorted((wa * wb, i, j) for i, wa in enumerate(widths) for j, wb in enumerate(widths))
    total = task.universe.numbers**2
    fair = [limit // (2 * len(strata)) + round(limit / 2 * (size / total)) for size, _, _ in strata]
    if task.count(split) <= COMPLETE or task.count(split) < total // 100:
        pools = _pools(task, digits, split, limit, strata)
    else:  # what a stratum holds of the split is found quickly by looking into the stratum
        places = [((i, j), (widths[i], widths[j])) for _, i, j in strata]
        wanted = [*fair[:-1], limit]  # the largest may have to stand in for those that are too small
        pools = [_draw(task, split, *place, want) for place, want in zip(places, wanted, strict=True)]
    if task.count(split) <= COMPLETE:
        sizes = [len(pool) for pool in pools]
    else:
        sizes = [size for size, _, _ in strata]
    taken = _shares(limit, fair, [len(pool) for pool in pools])
    found = [(pool[:n], np.full(n, float(size) / n)) for pool, n, size in zip(pools, taken, sizes, strict=True) if n]
    index, weights = (np.concatenate(part) for part in zip(*found, strict=True))
    return index, weights / weights.sum()


def _shares(limit: int, fair: list[int], available: list[int]) -> list[int]:
    """Share out a sample: to each stratum its fair share where it has as many, the rest from the largest on."""
    taken = [min(share, has) for share, has in zip(fair, available, strict=True)]
    for n in reversed(range(len(taken))):
        taken[n] += max(min(limit - sum(taken), available[n] - taken[n]), -taken[n])
    return taken


def _pools(task: PairTask, digits: int, split: str, limit: int, strata: list[tuple[int, int, int]]) -> list[np.ndarray]:
    """Sort a split, in a fixed random order, into strata: all of it, or as many problems as a sample can need."""
    count = task.count(split)
    order = Permutation(task.size(split), task.key("score", split))
    size = count if count <= COMPLETE else min(count, max(4 * limit, POOL))
    index = order(np.arange(size))
    a, b = (figures.lengths(figures.digits_of(x, digits)) - 1 for x in task.pairs(split, index))
    return [index[(a == i) & (b == j)] for _, i, j in strata]


def _draw(task: PairTask, split: str, places: tuple[int, int], widths: tuple[int, int], wanted: int) -> np.ndarray:
    """Draw up to `wanted` problems of a split with operands of these lengths, in a fixed random order."""
    number = integers(task.universe.numbers)
    lowest = [0 if place == 0 else 10**place for place in places]
    size = widths[0] * widths[1]
    order = Permutation(size, task.key("score", split, *places))
    found = np.empty(0, task.universe.cell_type)
    start, block = 0, max(1024, 8 * wanted)
    while len(found) < wanted and start < size:
        cell = order(np.arange(start, min(start + block, size)))
        a = (cell // widths[1]).astype(number) + lowest[0]
        b = (cell % widths[1]).astype(number) + lowest[1]
        found = np.concatenate([found, task.locate(split, a, b)[1]])
        start += block
    return found[:wanted]
