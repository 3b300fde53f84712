"""All that a sum on paper needs, column by column, before the sum.

128+367=[1,2,8]+[3,6,7],A=[],C=0,8+7+0=15,A->5,C->1;[1,2]+[3,6],A=[5],C=1,2+6+1=9,A->9,C->0;…;[]+[],A=[4,9,5],C=0.495

The detailed scratchpad of Lee et al., "Teaching Arithmetic to Small Transformers", 2023, with ; for a new line.
"""

import numpy as np

from cleangpt.tasks.lab import figures, format


class Format(format.Scratchpad):
    SYMBOLS = "AC->,;.[]+="

    def steps(self, operands: list[np.ndarray]) -> list[np.ndarray]:
        base, width = self.operation.base, self.padding(operands)
        a, b = (format.filled_up(x, width)[:, : width.max(initial=1)] for x in operands)
        digits, carries = figures.settle(np.maximum(a, 0) + np.maximum(b, 0), base)
        found: list[np.ndarray] = []
        for k in range(a.shape[1] + 1):
            there, done = k <= width, k == width  # the last one has nothing left to add
            carry = carries[:, k - 1] if k else np.zeros(len(a), np.int64)
            step = [*self._listed(a, k, there), *self.text("+", there), *self._listed(b, k, there)]
            sums = np.where(np.arange(digits.shape[1]) < np.minimum(k, width)[:, None], digits, figures.NONE)
            step += [*self.text(",A=", there), *self._listed(sums, 0, there), *self.text(",C=", there), carry]
            if k < a.shape[1]:
                total = np.maximum(a[:, k], 0) + np.maximum(b[:, k], 0) + carry
                work = [*self.text(",", there), a[:, k], *self.text("+", there), b[:, k], *self.text("+", there), carry]
                tens = np.where(total >= base, total // base, format.NO_TOKEN)
                work += [*self.text("=", there), tens, total % base, *self.text(",A->", there), digits[:, k]]
                work += [*self.text(",C->", there), carries[:, k], *self.text(";", there)]
                step += [np.where(done, format.NO_TOKEN, column) for column in work]
            step.append(np.where(done, self.ids["."], format.NO_TOKEN))
            found += [np.where(there, column, format.NO_TOKEN) for column in step]
        return found

    def _listed(self, number: np.ndarray, lowest: int, there: np.ndarray) -> list[np.ndarray]:
        """Write the digits of a number from the highest down to a power, as a list."""
        found = self.text("[", there)
        for power in reversed(range(lowest, number.shape[1])):
            written = number[:, power] >= 0
            comma = written & (power > lowest)
            found += [number[:, power], np.where(comma, self.ids[","], format.NO_TOKEN)]
        return found + self.text("]", there)
