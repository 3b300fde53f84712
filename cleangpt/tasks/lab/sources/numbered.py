"""Every string of digits up to a length, by number: the shortest first."""

import numpy as np

from cleangpt.basics.seeds import integers
from cleangpt.tasks import held_out
from cleangpt.tasks.lab import figures


class Numbered(held_out.Numbers):
    """The strings of 1 to `longest` digits, cut into train, val and test by a permutation of their numbers."""

    def __init__(self, base: int, longest: int, split_seed: int, val_fraction: float, test_fraction: float):
        self.base, self.longest = base, longest
        self.firsts = [0]
        for length in range(1, longest + 1):
            self.firsts.append(self.firsts[-1] + base**length)
        super().__init__(self.firsts[-1], split_seed, val_fraction, test_fraction)

    def is_apart(self, operands: list[np.ndarray]) -> np.ndarray:
        """Tell which strings (n,) are neither trained on nor validated."""
        (text,) = operands
        length = figures.counts(text)
        apart = length > self.longest
        inside = ~apart
        values = figures.values_of(text[inside, : self.longest], self.base)
        number = np.array(self.firsts, values.dtype)[length[inside] - 1] + values
        start, size = self.cuts["test"]
        place = self.order.inverse(number)
        apart[inside] = ((place >= start) & (place < start + size)).astype(bool)
        return apart

    def problems(self, split: str, item: np.ndarray) -> list[np.ndarray]:
        """Look up the one operand (n, longest) of these items of a split."""
        number = self.items(split, item)
        firsts = np.array(self.firsts, integers(self.firsts[-1]))
        length = np.searchsorted(firsts, number, side="right")
        digits = figures.digits_of(number - firsts[length - 1], self.longest, self.base)
        return [np.where(np.arange(self.longest) < length[:, None], digits, figures.NONE)]
