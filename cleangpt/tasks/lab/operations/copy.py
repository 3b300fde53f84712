"""A string that is said again."""

import numpy as np

from cleangpt.tasks.lab import operation


class Operation(operation.Operation):
    symbol, plural, least, most, strings = "", "copies", 1, 1, True

    def figures(self, operands: list[np.ndarray]) -> np.ndarray:
        return operands[0]

    def width(self, widths: list[int]) -> int:
        return widths[0]
