"""Which problems a score looks at: all of a split, or a fixed stratified sample of a huge one."""

from dataclasses import dataclass

import numpy as np

from cleangpt.seeds import Permutation, derive, integers
from cleangpt.tasks.arithmetic import COMPLETE, Task

SAMPLE = 100_000  # problems that stand for a split which is too large to be looked at whole


@dataclass(frozen=True)
class Sample:
    a: np.ndarray
    b: np.ndarray
    weights: np.ndarray  # (n,) what a problem stands for, relative to the others
    universe: int  # problems in the split
    complete: bool


def problems(task: Task, split: str, limit: int | None) -> Sample:
    count = task.size(split)
    if limit is None and count > COMPLETE:
        limit = SAMPLE
    if limit is None or limit >= count:
        a, b = task.problems(split, np.arange(count))
        return Sample(a, b, np.ones(count), count, complete=True)
    return stratified(task, split, limit)


def stratified(task: Task, split: str, limit: int) -> Sample:
    """Exactly `limit` problems, some of each pair of operand lengths, though short operands are rare.

    Half of the sample is shared out evenly, half in proportion. Each problem is weighted by what its stratum is
    of all problems, so that weighted means are those of the whole split.
    """
    widths = [10] + [9 * 10**k for k in range(1, task.settings.digits)]
    strata = sorted(((wa * wb, i, j) for i, wa in enumerate(widths) for j, wb in enumerate(widths)))
    total = task.universe.numbers**2
    left, a, b, weights = limit, [], [], []
    for n, (size, i, j) in enumerate(strata):
        fair = limit // (2 * len(strata)) + round(limit / 2 * (size / total))
        wanted = left if n == len(strata) - 1 else min(left, fair)  # the largest takes what is left over
        stratum_a, stratum_b = _draw(task, split, (i, j), (widths[i], widths[j]), wanted)
        left -= len(stratum_a)
        if len(stratum_a):
            a.append(stratum_a)
            b.append(stratum_b)
            weights.append(np.full(len(stratum_a), size / total / len(stratum_a)))
    return Sample(np.concatenate(a), np.concatenate(b), np.concatenate(weights), task.size(split), complete=False)


def _draw(
    task: Task, split: str, places: tuple[int, int], widths: tuple[int, int], wanted: int
) -> tuple[np.ndarray, np.ndarray]:
    """Up to `wanted` problems of a split with operands of these lengths, in a fixed random order."""
    number = integers(np.int64, task.universe.numbers)
    lowest = [0 if place == 0 else 10**place for place in places]
    size = widths[0] * widths[1]
    order = Permutation(size, derive(task.settings.split_seed, "score", split, *places))
    found_a, found_b = np.empty(0, number), np.empty(0, number)
    start, block = 0, max(1024, 8 * wanted)
    while len(found_a) < wanted and start < size:
        cell = order(np.arange(start, min(start + block, size)))
        a = (cell // widths[1]).astype(number) + lowest[0]
        b = (cell % widths[1]).astype(number) + lowest[1]
        inside = task.belongs(split, a, b)
        found_a, found_b = np.concatenate([found_a, a[inside]]), np.concatenate([found_b, b[inside]])
        start += block
    return found_a[:wanted], found_b[:wanted]
