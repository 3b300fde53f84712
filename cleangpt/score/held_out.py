"""Which problems a score looks at: all of a split, or a fixed stratified sample of a huge one."""

from dataclasses import dataclass

import numpy as np

from cleangpt.basics.seeds import Permutation, derive, integers
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
    count = task.count(split)
    if limit is None and count > COMPLETE:
        limit = SAMPLE
    if limit is None or limit >= count:
        a, b = task.problems(split, np.arange(count))
        return Sample(a, b, np.ones(count), count, complete=True)
    return stratified(task, split, limit)


def stratified(task: Task, split: str, limit: int) -> Sample:
    """Exactly `limit` problems, some of each pair of operand lengths, though short operands are rare.

    Half of the sample is shared out evenly, half in proportion. Each problem is weighted by what its stratum is of
    the split (of all problems, where the split is too large to be counted), so that weighted means are those of the
    whole split.
    """
    widths = [10] + [9 * 10**k for k in range(1, task.settings.digits)]
    strata = sorted((wa * wb, i, j) for i, wa in enumerate(widths) for j, wb in enumerate(widths))
    total = task.universe.numbers**2
    fair = [limit // (2 * len(strata)) + round(limit / 2 * (size / total)) for size, _, _ in strata]
    if task.count(split) <= COMPLETE or task.count(split) < total // 100:
        pools = _sorted_into(strata, *_pool(task, split, limit))
    else:  # what a stratum holds of the split is found quickly by looking into the stratum
        places = [((i, j), (widths[i], widths[j])) for _, i, j in strata]
        wanted = [*fair[:-1], limit]  # the largest may have to stand in for those that are too small
        pools = [_draw(task, split, *place, want) for place, want in zip(places, wanted, strict=True)]
    if task.count(split) <= COMPLETE:
        sizes = [len(a) for a, _ in pools]
    else:
        sizes = [size for size, _, _ in strata]
    taken = _shares(limit, fair, [len(a) for a, _ in pools])
    found = [
        (a[:n], b[:n], np.full(n, float(size) / n)) for (a, b), n, size in zip(pools, taken, sizes, strict=True) if n
    ]
    a, b, weights = (np.concatenate(part) for part in zip(*found, strict=True))
    return Sample(a, b, weights / weights.sum(), task.count(split), complete=False)


def common(few: Sample, many: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Where the problems that are in both stand in each."""
    place = {pair: n for n, pair in enumerate(zip(many.a.tolist(), many.b.tolist(), strict=True))}
    there = np.array([place.get(pair, -1) for pair in zip(few.a.tolist(), few.b.tolist(), strict=True)], np.int64)
    return np.flatnonzero(there >= 0), there[there >= 0]


def _shares(limit: int, fair: list[int], available: list[int]) -> list[int]:
    """How many of each stratum: its fair share where it has as many, what is left over from the largest on."""
    taken = [min(share, has) for share, has in zip(fair, available, strict=True)]
    for n in reversed(range(len(taken))):
        taken[n] += max(min(limit - sum(taken), available[n] - taken[n]), -taken[n])
    return taken


def _pool(task: Task, split: str, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """A split in a fixed random order: all of it, or as many problems as a sample can need."""
    count = task.count(split)
    order = Permutation(task.size(split), derive(task.settings.split_seed, "score", split))
    size = count if count <= COMPLETE else min(count, max(4 * limit, SAMPLE))
    return task.problems(split, order(np.arange(size)))


def _sorted_into(
    strata: list[tuple[int, int, int]], a: np.ndarray, b: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Problems by the lengths of their operands."""
    long_a, long_b = (np.array([len(str(n)) for n in x.tolist()]) - 1 for x in (a, b))
    chosen = [(long_a == i) & (long_b == j) for _, i, j in strata]
    return [(a[mask], b[mask]) for mask in chosen]


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
