"""The contract of operations: what is asked of one or several numbers, or of a string."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from cleangpt.tasks.lab import figures

CARRIES = {  # how tables call the slices of what carries
    "by_carries": "By number of carries",
    "by_longest_carry_run": "By longest run of carries",
    "run": "longest run of carries",
}
Slices = Mapping[str, np.ndarray | dict[str, np.ndarray]]


class Operation(ABC):
    """An operation of a base, and perhaps modulo a number. Operands are figures (n, W) each, see figures.py."""

    symbol: ClassVar[str]  # between two operands
    plural: ClassVar[str]  # of what is asked, for headings: sums
    most: ClassVar[int | None] = 2  # operands, at most; None: any number
    least: ClassVar[int] = 2
    commutes: ClassVar[bool] = True  # in another order the answer is the same
    strings: ClassVar[bool] = False  # of strings, in which a zero in front counts
    signed: ClassVar[bool] = False  # whether an answer may be negative
    modular: ClassVar[bool] = False  # whether `of_values` is there

    def __init__(self, base: int = 10, modulus: int | None = None):
        self.base, self.modulus = base, modulus

    @classmethod
    def why_not(cls, modulus: int | None) -> str | None:
        """Say what speaks against this modulus, as the end of a sentence that begins with the operation's name."""
        if modulus is not None and not cls.modular:
            return "has no meaning modulo a number: set dataset.modulus=null"
        return None

    @abstractmethod
    def figures(self, operands: list[np.ndarray]) -> np.ndarray:
        """Compute the right answers (n, W), as they are written without zeros in front."""

    @abstractmethod
    def width(self, widths: list[int]) -> int:
        """Count the figures of the longest answer to operands of so many figures, its sign included."""

    def of_values(self, values: list[np.ndarray]) -> np.ndarray:
        """Compute it on integers (n,), for a modulus."""
        raise AssertionError("only operations that are `modular` are asked for this")

    def slices(self, operands: list[np.ndarray]) -> Slices:
        """Name whole numbers (n,) by which a score is cut, as `TaskWithAnswers.slices` does."""
        return {}

    words: ClassVar[dict[str, str]] = {}  # how tables call the slices

    # ---- what follows from these

    @property
    def is_signed(self) -> bool:
        return self.signed and self.modulus is None

    def answer(self, operands: list[np.ndarray]) -> np.ndarray:
        """Compute the right answers (n, W), modulo a number where there is one."""
        if self.modulus is None:
            return self.figures(operands)
        values = self.of_values([figures.values_of(x, self.base) for x in operands]) % self.modulus
        return figures.written(figures.digits_of(values, self.answer_width([]), self.base))

    def answer_width(self, widths: list[int]) -> int:
        """Count the figures of the longest answer, modulo a number where there is one."""
        if self.modulus is None:
            return self.width(widths)
        return digits_needed(self.modulus - 1, self.base)

    def cuts(self, operands: list[np.ndarray]) -> dict[str, Any]:
        """Cut by what the operation says, and by the lengths of the operands."""
        found: dict[str, Any] = dict(self.slices(operands)) if self.modulus is None else {}
        lengths = [figures.counts(x) for x in operands]
        if self.modulus is not None and self.base >= self.modulus:
            return found
        if len(lengths) == 1:
            return {**found, "length": lengths[0]}
        if len(lengths) == 2:
            return {**found, "operand_lengths": dict(zip("ab", lengths, strict=True))}
        return {**found, "longest": np.max(lengths, axis=0)}


def digits_needed(value: int, base: int) -> int:
    """Count the digits of a number; zero has one."""
    count = 1
    while value >= base:
        value //= base
        count += 1
    return count
