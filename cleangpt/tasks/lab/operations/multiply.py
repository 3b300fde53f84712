"""Products of any number of numbers."""

from functools import reduce
from typing import ClassVar

import numpy as np

from cleangpt.tasks.lab import figures, operation
from cleangpt.tasks.lab.operation import Slices


class Operation(operation.Operation):
    symbol, plural, most, modular = "*", "products", None, True
    words: ClassVar = operation.CARRIES

    def figures(self, operands: list[np.ndarray]) -> np.ndarray:
        numbers = [np.maximum(x, 0) for x in operands]
        return figures.written(reduce(lambda a, b: self._product(a, b)[0], numbers))

    def width(self, widths: list[int]) -> int:
        return sum(widths)

    def of_values(self, values: list[np.ndarray]) -> np.ndarray:
        return reduce(lambda a, b: a * b % self.modulus, values)

    def _product(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Multiply (n, A) and (n, B): (n, A + B) digits, and the carries out of their columns."""
        columns = np.zeros((len(a), a.shape[1] + b.shape[1]), np.int64)
        for k in range(a.shape[1]):
            columns[:, k : k + b.shape[1]] += a[:, k : k + 1] * b
        return figures.settle(columns, self.base)

    def slices(self, operands: list[np.ndarray]) -> Slices:
        if len(operands) > 2:
            return {}
        carried = self._product(*(np.maximum(x, 0) for x in operands))[1] > 0
        return {"carries": carried.sum(axis=1), "longest_carry_run": {"run": figures.longest_run(carried)}}
