"""Sums of any number of numbers."""

from typing import ClassVar

import numpy as np

from cleangpt.tasks.lab import figures, operation
from cleangpt.tasks.lab.operation import Slices


class Operation(operation.Operation):
    symbol, plural, most, modular = "+", "sums", None, True
    words: ClassVar = {**operation.CARRIES, "by_cascade": "By longest cascade of a carry through nines"}

    def figures(self, operands: list[np.ndarray]) -> np.ndarray:
        return figures.written(self._settled(operands)[0])

    def width(self, widths: list[int]) -> int:
        largest = sum(self.base**width - 1 for width in widths)
        return operation.digits_needed(largest, self.base)

    def of_values(self, values: list[np.ndarray]) -> np.ndarray:
        return np.sum(np.stack(values), axis=0)

    def _settled(self, operands: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Add up: digits, carries out of the columns, and the sums of the columns, (n, W) each."""
        columns = figures.aligned(operands).sum(axis=0)
        wider = self.width([x.shape[1] for x in operands]) - columns.shape[1]
        columns = np.pad(columns, ((0, 0), (0, wider)))
        return *figures.settle(columns, self.base), columns

    def slices(self, operands: list[np.ndarray]) -> Slices:
        _, carries, columns = self._settled(operands)
        carried = carries > 0
        return {
            "carries": carried.sum(axis=1),
            "longest_carry_run": {"run": figures.longest_run(carried)},
            "cascade": figures.longest_run(carried & (columns == self.base - 1)),
        }
