"""Differences, which may be negative."""

from typing import ClassVar

import numpy as np

from cleangpt.tasks.lab import figures, operation
from cleangpt.tasks.lab.operation import Slices


class Operation(operation.Operation):
    symbol, plural, commutes, signed, modular = "-", "differences", False, True, True
    words: ClassVar = {
        "by_borrows": "By number of borrows",
        "by_longest_borrow_run": "By longest run of borrows",
        "run": "longest run of borrows",
        "by_negative": "By sign: 1 where the answer is negative",
    }

    def figures(self, operands: list[np.ndarray]) -> np.ndarray:
        digits, _, negative = self._settled(operands)
        found = figures.widened(figures.written(digits), digits.shape[1] + 1)
        found[np.flatnonzero(negative), figures.lengths(digits)[negative]] = figures.MINUS
        return found

    def width(self, widths: list[int]) -> int:
        return max(widths) + 1

    def of_values(self, values: list[np.ndarray]) -> np.ndarray:
        return values[0] - values[1]

    def _settled(self, operands: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Take the smaller from the larger: digits and borrows (n, W), and where the smaller came first (n,)."""
        a, b = figures.aligned(operands)
        negative = figures.settle(a - b, self.base)[1][:, -1] < 0
        digits, borrows = figures.settle(np.where(negative[:, None], b - a, a - b), self.base)
        return digits, -borrows, negative

    def slices(self, operands: list[np.ndarray]) -> Slices:
        _, borrows, negative = self._settled(operands)
        return {
            "borrows": borrows.sum(axis=1),
            "longest_borrow_run": {"run": figures.longest_run(borrows > 0)},
            "negative": negative.astype(np.int64),
        }
