"""What a task gives: samples as batches, and questions to which one answer is right."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Batch:
    """n samples of T tokens to read, as numpy arrays, or as tensors where the data lies on the device.

    What is padding has neither weight nor answer.
    """

    inputs: Any  # (n, T) int64
    targets: Any  # (n, T) int64, the token that follows
    loss_weights: np.ndarray | None  # (n, T) float32, what a target counts in the loss; None: 1
    answer: np.ndarray | None  # (n, T) bool, targets that have to be right for the sample to be right; None: no answer
    real: np.ndarray | None  # (n, T) bool, inputs that are not padding; None: all
    documents: Any = None  # (n, T) int64, the number of each token's document, where attention stays within it


@dataclass(frozen=True)
class Question:
    """Something to ask a model, to which one answer is right."""

    text: str  # as a person writes it
    tokens: list[int]  # as the model reads it
    right: list[int]  # the tokens of the right answer, its end included
    new_tokens: int  # of the longest answer
    read: Callable[[list[int]], str]  # an answer's tokens as a person writes them

    def is_right(self, answer: list[int]) -> bool:
        return answer[: len(self.right)] == self.right

    def verdict(self, answer: list[int]) -> str:
        marked = "✓" if self.is_right(answer) else f"✗ it is {self.read(self.right)}"
        return f"{self.text} = {self.read(answer)} {marked}"
