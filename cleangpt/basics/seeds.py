"""Randomness without state: every number is a pure function of a seed, a purpose and an index.

Initialisation, data order, dropout and sampling each derive a key of their own from `seed`, so that none
disturbs another, and nothing has to be saved for a run to go on exactly.
"""

import hashlib
from collections.abc import Callable
from math import isqrt

import numpy as np

_MASK = (1 << 64) - 1


def derive(seed: int, *purpose: str | int) -> int:
    """Hash a seed and a purpose to a key of 63 bits."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def scramble(values: np.ndarray, key: int) -> np.ndarray:
    """Hash each value to 64 pseudo-random bits (the finaliser of SplitMix64), as uint64."""
    if values.dtype == object:  # wider than 64 bits: fold the high part in first
        values = np.array([(v ^ (v >> 64) * 0x9E3779B97F4A7C15) & _MASK for v in values.flat], np.uint64)
    z = values.astype(np.uint64) + np.uint64((key * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) & _MASK)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniforms(key: int, index: np.ndarray) -> np.ndarray:
    """Draw a number above 0 and below 1 for each index, as float64."""
    return ((scramble(index, key) >> np.uint64(32)).astype(np.float64) + 0.5) / 2.0**32


def integers(limit: int) -> np.dtype:
    """Choose int64 if sums of two numbers below `limit` fit it, else Python's own integers."""
    return np.dtype(np.int64 if limit < 1 << 62 else object)


class Grid:
    """A seeded bijection of the cells (row, column) of a grid: a Feistel network with modular addition.

    The rows are shifted by a hash of the column and the columns by a hash of the row, in turn. It needs no
    memory, works for any number of rows and columns, and can be undone.
    """

    ROUNDS = 8

    def __init__(self, rows: int, columns: int, key: int):
        self.rows, self.columns = rows, columns
        self.dtype = integers(max(rows, columns))
        self.keys = [derive(key, "round", r) for r in range(self.ROUNDS)]

    def forward(self, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        for r, key in enumerate(self.keys):
            if r % 2 == 0:
                row = (row + self._shift(column, key, self.rows)) % self.rows
            else:
                column = (column + self._shift(row, key, self.columns)) % self.columns
        return row, column

    def inverse(self, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        for r, key in reversed(list(enumerate(self.keys))):
            if r % 2 == 0:
                row = (row - self._shift(column, key, self.rows)) % self.rows
            else:
                column = (column - self._shift(row, key, self.columns)) % self.columns
        return row, column

    def cell(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map the cell that is number `index`, row by row, to where it goes."""
        row, column = index // self.columns, index % self.columns
        return self.forward(row.astype(self.dtype), column.astype(self.dtype))

    def index(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Find the number that goes to this cell: the inverse of `cell`."""
        wide = integers(self.rows * self.columns)
        row, column = self.inverse(row.astype(self.dtype), column.astype(self.dtype))
        return row.astype(wide) * self.columns + column.astype(wide)

    def _shift(self, values: np.ndarray, key: int, modulus: int) -> np.ndarray:
        bits = scramble(values, key)
        if self.dtype == object:
            # 64 bits are too few to reach every residue of a wider modulus: take 128.
            return (bits.astype(object) << 64 | scramble(bits, key + 1).astype(object)) % modulus
        return (bits % np.uint64(modulus)).astype(np.int64)


class Permutation:
    """A seeded permutation of 0 … size-1, computed index by index and never stored."""

    def __init__(self, size: int, key: int):
        self.size = size
        columns = isqrt(max(size - 1, 0)) + 1
        self.grid = Grid(-(-size // columns) or 1, columns, key)
        self.dtype = integers(self.grid.rows * columns)

    def __call__(self, index: np.ndarray) -> np.ndarray:
        return self._walk(index, self.grid.forward)

    def inverse(self, index: np.ndarray) -> np.ndarray:
        return self._walk(index, self.grid.inverse)

    def _walk(self, index: np.ndarray, step: Callable[..., tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """Step through the grid until inside the range, than which it is a little larger."""
        value: np.ndarray = np.asarray(index).astype(self.dtype)
        outside = np.ones(value.shape, bool)
        while outside.any():
            row, column = value[outside] // self.grid.columns, value[outside] % self.grid.columns
            row, column = step(row.astype(self.grid.dtype), column.astype(self.grid.dtype))
            value[outside] = row.astype(self.dtype) * self.grid.columns + column.astype(self.dtype)
            outside = value >= self.size
        return value
