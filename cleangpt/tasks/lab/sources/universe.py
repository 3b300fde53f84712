"""Every ordered problem (a, b) of two numbers below N, cut into train, val and test.

The cut is a seeded permutation that is computed and never stored, so that problem k of a split, and the split of
a problem, are known at once for operands of any length.
"""

import numpy as np

from cleangpt.basics.seeds import Grid, Permutation, derive, integers
from cleangpt.tasks.held_out import SPLITS, Cut, HeldOutTask, cut


class Universe:
    """All problems (a, b), cut into splits.

    Split by unordered pair, the N(N-1)/2 pairs a < b are the cells of a grid of N/2 rows and N-1 columns, or, where N
    is odd, of (N-1)/2 rows and N columns. Each stands for two problems, a+b and b+a; the N doubles a+a are cut apart,
    so that each split has its share. Split by ordered pair, the problems themselves are the cells, and b+a of a
    held-out a+b may be trained on.
    """

    def __init__(
        self,
        numbers: int,
        split: str,
        split_seed: int,
        val_fraction: float,
        test_fraction: float,
        *,
        second_from: int = 0,  # the smallest b, where they are split by ordered pair
    ):
        self.numbers, self.second_from = numbers, second_from
        self.ordered = split == "ordered"
        self.odd = numbers % 2
        rows, columns = numbers // 2, numbers - 1 + self.odd
        if self.ordered:
            rows, columns = numbers, numbers - second_from
        self.grid = Grid(rows, columns, derive(split_seed, "split", split))
        self.doubles = Permutation(self.numbers, derive(split_seed, "split", "doubles"))
        self.cells = cut(rows * columns, val_fraction, test_fraction)
        self.double_cells = cut(self.numbers, val_fraction, test_fraction)
        self.number_type = integers(self.numbers)
        self.cell_type = integers(2 * rows * columns)

    def count(self, split: str) -> int:
        """Count the problems of a split."""
        if self.ordered:
            return self.cells[split].size
        return 2 * self.cells[split].size + self.double_cells[split].size

    def problems(self, split: str, item: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Look up the operands of these items of a split: both orders of its pairs, then its doubles."""
        item = np.asarray(item).astype(self.cell_type)
        start, size = self.cells[split]
        if self.ordered:
            first, second = self.grid.cell(item + start)
            return first, second + self.second_from
        is_pair = (item < 2 * size).astype(bool)
        a = np.empty(len(item), self.number_type)
        b = np.empty_like(a)
        low, high = self._unfold(*self.grid.cell(item[is_pair] // 2 + start))
        swap = (item[is_pair] % 2 == 1).astype(bool)
        a[is_pair], b[is_pair] = np.where(swap, high, low), np.where(swap, low, high)
        double = self.doubles(item[~is_pair] - 2 * size + self.double_cells[split].start)
        a[~is_pair] = b[~is_pair] = double
        return a, b

    def locate(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the split of each problem, by its place in SPLITS, and which item of it: `problems` undone."""
        if self.ordered:
            return _locate(self.grid.index(a, b - self.second_from), self.cells)
        split = np.empty(len(a), np.int64)
        item = np.empty(len(a), self.cell_type)
        is_pair = (a != b).astype(bool)
        low, high = np.minimum(a, b)[is_pair], np.maximum(a, b)[is_pair]
        place, index = _locate(self.grid.index(*self._fold(low, high)), self.cells)
        split[is_pair], item[is_pair] = place, 2 * index + (a > b)[is_pair].astype(np.int64)
        place, index = _locate(self.doubles.inverse(a[~is_pair]), self.double_cells)
        pairs = np.array([2 * self.cells[name].size for name in SPLITS], self.cell_type)
        split[~is_pair], item[~is_pair] = place, index + pairs[place]
        return split, item

    def _unfold(self, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn a cell into a < b. Row i holds the pairs that begin with N-1-i (with N-2-i if N is odd), then those
        that begin with i.
        """
        begins_with_row = (column >= row + self.odd).astype(bool)
        last = self.numbers - 1
        low = np.where(begins_with_row, row, last - self.odd - row)
        return low, np.where(begins_with_row, column + 1 - self.odd, last - column)

    def _fold(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        begins_with_row = (low < self.numbers // 2).astype(bool)
        last = self.numbers - 1
        row = np.where(begins_with_row, low, last - self.odd - low)
        return row, np.where(begins_with_row, high - 1 + self.odd, last - high)


def _locate(index: np.ndarray, cells: dict[str, Cut]) -> tuple[np.ndarray, np.ndarray]:
    """Find the split that each permuted cell lies in, and where in it."""
    place = np.zeros(len(index), np.int64)
    for number, name in enumerate(SPLITS):
        start, size = cells[name]
        place[((index >= start) & (index < start + size)).astype(bool)] = number
    starts = np.array([cells[name].start for name in SPLITS], index.dtype)
    return place, index - starts[place]


class PairTask(HeldOutTask):
    """Problems (a, b) of such a universe."""

    universe: Universe

    def pairs(self, split: str, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Look up the operands (a, b) of these samples of a split, as integers."""
        return self.universe.problems(split, self.items(split, index))

    def locate(self, split: str, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Test which problems (n,) are samples of this split, and find the indices of those that are."""
        place, item = self.universe.locate(a, b)
        inside = place == SPLITS.index(split)
        index = item[inside]
        if split == "val":
            index = self.val_order.inverse(index)
        elif split == "train" and self.subset is not None:
            index = self.subset.inverse(index)
            chosen = (index < self.size("train")).astype(bool)
            inside[inside], index = chosen, index[chosen]
        return inside, index

    def leaked(self, split: str, index: np.ndarray) -> np.ndarray | None:
        """Tell where (n,) b, a is trained on when a, b is asked."""
        a, b = self.pairs(split, index)
        return self.locate("train", b, a)[0] & (a != b).astype(bool)
