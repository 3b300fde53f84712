"""A string that is said backwards."""

import numpy as np

from cleangpt.tasks.lab import figures, operation


class Operation(operation.Operation):
    symbol, plural, least, most, strings = "", "strings backwards", 1, 1, True

    def figures(self, operands: list[np.ndarray]) -> np.ndarray:
        (text,) = operands
        place = figures.counts(text)[:, None] - 1 - np.arange(text.shape[1])
        return np.where(place >= 0, np.take_along_axis(text, np.maximum(place, 0), axis=1), figures.NONE)

    def width(self, widths: list[int]) -> int:
        return widths[0]
