"""The gradients of a model that is divided."""

import math
from typing import Any

import torch
from torch import Tensor

from cleangpt.sharding.divide import Divided


class DividedGradients:
    """The gradients of a model that is divided, where each process has the sum over all of its own rows.

    Those of vectors lie in a flat buffer as ever, with the sums of the step and the squares of the others behind them.
    """

    def __init__(self, divided: Divided, small: Any):
        self.divided, self.small, self.sums = divided, small, small.sums
        self.pieces = [piece for piece in divided.pieces if piece.local.requires_grad and piece.is_divided]
        self.found: list[Tensor] = []

    def begin(self) -> None:
        self.small.begin()
        for piece in self.pieces:
            piece.parameter.grad = piece.local.grad = None

    def collect(self) -> None:
        self.small.collect()

    def before_last_pass(self) -> None:
        """Do nothing: each pass is summed at once, since whole gradients would take the memory that is saved."""

    def reduce(self) -> None:
        self.found = self.divided.gradients(self.pieces)
        if self.found:
            squares = torch.stack(torch._foreach_norm(self.found)).square().sum()
            self.sums[-1] += squares / self.divided.copies
        self.small.reduce()

    def summed(self) -> tuple[Any, float]:
        sums, norm = self.small.summed()
        return sums, math.sqrt(norm**2 + sums.squares)

    def scale(self, factor: float) -> None:
        self.small.scale(factor)
        if self.found:
            torch._foreach_mul_(self.found, factor)
