"""The digit and the carry of each column before the sum: 128+367=A->5,C->1;A->9,C->0;A->4,C->0.495

The simplified scratchpad of Lee et al., "Teaching Arithmetic to Small Transformers", 2023, with ; for a new line.
"""

import numpy as np

from cleangpt.tasks.lab import figures, format


class Format(format.Scratchpad):
    SYMBOLS = "AC->,;."

    def steps(self, operands: list[np.ndarray]) -> list[np.ndarray]:
        digits, carries = figures.settle(figures.aligned(operands).sum(axis=0), self.operation.base)
        width, found = self.padding(operands), []
        for k in range(digits.shape[1]):
            inside = k < width
            step = [*self.text("A->", inside), digits[:, k], *self.text(",C->", inside), carries[:, k]]
            last = k == width - 1
            step.append(np.where(last, self.ids["."], self.ids[";"]))
            found += [np.where(inside, column, format.NO_TOKEN) for column in step]
        return found
