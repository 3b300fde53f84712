"""The digits of a string in order, the smallest first."""

import numpy as np

from cleangpt.tasks.lab import figures, operation
from cleangpt.tasks.lab.operation import Slices


class Operation(operation.Operation):
    symbol, plural, least, most, strings = "", "sorted strings", 1, 1, True

    def figures(self, operands: list[np.ndarray]) -> np.ndarray:
        ordered = -np.sort(-operands[0], axis=1)  # the largest is said last, and so is the lowest figure
        return np.where(ordered >= 0, ordered, figures.NONE)

    def width(self, widths: list[int]) -> int:
        return widths[0]

    def slices(self, operands: list[np.ndarray]) -> Slices:
        ordered = np.sort(operands[0], axis=1)
        return {"repeats": ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).sum(axis=1)}
