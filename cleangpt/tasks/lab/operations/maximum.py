"""The largest of several numbers."""

from functools import reduce

import numpy as np

from cleangpt.tasks.lab import figures, operation
from cleangpt.tasks.lab.operation import Slices


class Operation(operation.Operation):
    symbol, plural, most = ",", "largest numbers", None

    def figures(self, operands: list[np.ndarray]) -> np.ndarray:
        return figures.written(reduce(self._larger, figures.aligned(operands)))

    def width(self, widths: list[int]) -> int:
        return max(widths)

    def _larger(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        differs = (a != b)[:, ::-1]
        highest = a.shape[1] - 1 - differs.argmax(axis=1)[:, None]  # at which they differ, if at all
        return np.where(np.take_along_axis(a, highest, axis=1) >= np.take_along_axis(b, highest, axis=1), a, b)

    def slices(self, operands: list[np.ndarray]) -> Slices:
        """Count the highest digits that the first two operands share."""
        a, b = figures.aligned(operands)[:2]
        return {"shared_digits": (np.cumsum((a != b)[:, ::-1], axis=1) == 0).sum(axis=1)}
