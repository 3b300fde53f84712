"""Sorting: `3142=` is answered by `1234` and an end token. Every string of a few digits is a question."""

from typing import Any, Literal

import numpy as np
from pydantic import Field

from cleangpt.tasks import held_out
from cleangpt.tasks.strings import Strings, inversions, repeats
from cleangpt.tokens.tokenizers import Characters

DIGITS, EQUALS, END, PAD = "0123456789", "=", "\n", " "


class Settings(held_out.HeldOut):
    name: Literal["sort"] = Field(description="what is to be learned")
    base: int = Field(ge=2, le=10, description="different digits, from 0 on")
    length: int = Field(ge=1, le=100, description="digits to sort, at most")
    split_seed: held_out.Seed
    val_fraction: held_out.ValFraction
    test_fraction: held_out.TestFraction
    train_size: held_out.TrainSize
    val_size: held_out.ValSize

    @property
    def strings(self) -> Strings:
        return Strings(DIGITS[: self.base], self.length)

    @property
    def problems(self) -> int:
        return self.strings.count

    @property
    def sequence_length(self) -> int:
        return 2 * self.length + 1


class Task(held_out.NumberedTask):
    settings: Settings

    def __init__(self, settings: Settings, context: int | None = None):
        super().__init__(settings)
        self.tokenizer = Characters([*settings.strings.alphabet, EQUALS, END, PAD], end=END, pad=PAD)

    def write(self, number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        digits = self.settings.strings.letters(number)  # which are tokens
        return self.closed(digits, EQUALS), self.closed(np.sort(digits, axis=1), END)

    def number(self, text: str) -> int:
        return self.settings.strings.number(text.strip().removesuffix(EQUALS))

    def read_question(self, tokens: list[int]) -> str:
        return super().read_question(tokens).removesuffix(EQUALS)

    def slices(self, split: str, index: np.ndarray) -> dict[str, Any]:
        digits = self.settings.strings.letters(self.numbers(split, index))
        both = {"length": (digits >= 0).sum(axis=1), "repeats": repeats(digits)}
        return {"inversions": inversions(digits), "length_and_repeats": both}
