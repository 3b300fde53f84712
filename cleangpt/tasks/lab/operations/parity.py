"""Whether the digits of a string add up to an odd number: 1 if they do, 0 if not."""

import numpy as np

from cleangpt.tasks.lab import operation
from cleangpt.tasks.lab.operation import Slices


class Operation(operation.Operation):
    symbol, plural, least, most, strings = "", "parities", 1, 1, True

    def figures(self, operands: list[np.ndarray]) -> np.ndarray:
        return np.maximum(operands[0], 0).sum(axis=1, keepdims=True) % 2

    def width(self, widths: list[int]) -> int:
        return 1

    def slices(self, operands: list[np.ndarray]) -> Slices:
        return {"sum": np.maximum(operands[0], 0).sum(axis=1)}
