"""Products with their rows as on paper, which training leaves out step by step: implicit chain of thought.

123*452=4821+05061(43371)+002460.43518 is 321 * 254, lowest digit first: 321 * 4, then 321 * 50 with the sum so far in
brackets, then 321 * 200, and behind a point the last sum, which is the answer.

Deng et al., "From Explicit CoT to Implicit CoT: Learning to Internalize CoT Step by Step", 2024.
"""

import numpy as np

from cleangpt.tasks.lab import figures, format


class Format(format.Scratchpad):
    SYMBOLS, OF, removable = "+().", ("multiply", "products"), True

    def steps(self, operands: list[np.ndarray]) -> list[np.ndarray]:
        base = self.operation.base
        a, b = (np.maximum(operand, 0) for operand in operands)
        long, rows = (figures.counts(operand) for operand in operands)
        total = np.zeros((len(a), a.shape[1] + b.shape[1]), np.int64)
        found: list[np.ndarray] = []
        for k in range(b.shape[1]):
            there, last = k < rows, k == rows - 1
            row = np.zeros_like(total)
            row[:, k : k + a.shape[1]] = a * b[:, k : k + 1]
            row, _ = figures.settle(row, base)
            total, _ = figures.settle(total + row, base)
            width = k + long + 1  # that of a row, and of the sum of all rows so far
            step = [*(self.text("+", there) if k else []), *self._digits(row, width)]
            if k:
                summed = [*self.text("(", there), *self._digits(total, width), *self.text(")", there)]
                step += [np.where(last, format.NO_TOKEN, column) for column in summed]
            step.append(np.where(last, self.ids["."], format.NO_TOKEN))
            found += [np.where(there, column, format.NO_TOKEN) for column in step]
        return found

    def _digits(self, number: np.ndarray, width: np.ndarray) -> list[np.ndarray]:
        """Write so many digits (n,) of numbers (n, W), the lowest first."""
        return [np.where(power < width, column, format.NO_TOKEN) for power, column in enumerate(number.T)]
