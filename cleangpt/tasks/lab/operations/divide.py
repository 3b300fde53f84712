"""Quotients modulo a prime: the number that gives a again when it is multiplied by b."""

import numpy as np

from cleangpt.tasks.lab import operation


class Operation(operation.Operation):
    symbol, plural, commutes, modular = "/", "quotients", False, True

    def __init__(self, base: int = 10, modulus: int | None = None):
        super().__init__(base, modulus)
        self.inverses = np.array([0, *(pow(b, -1, modulus) for b in range(1, modulus or 1))])

    @classmethod
    def why_not(cls, modulus: int | None) -> str | None:
        if modulus is None or any(modulus % d == 0 for d in range(2, int(modulus**0.5) + 1)):
            return "is modulo a prime: set dataset.modulus to one, as 97"
        return None

    def figures(self, operands: list[np.ndarray]) -> np.ndarray:
        raise AssertionError("which has no answer without a modulus")

    def width(self, widths: list[int]) -> int:
        return widths[0]

    def of_values(self, values: list[np.ndarray]) -> np.ndarray:
        return values[0] * self.inverses[values[1].astype(np.int64)]
