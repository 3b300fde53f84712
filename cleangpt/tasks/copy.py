"""Copying: `abba=` is answered by `abba` and an end token. Every string of a few letters is a question."""

from typing import Literal

import numpy as np
from pydantic import Field

from cleangpt.tasks import held_out
from cleangpt.tasks.strings import Strings, repeats
from cleangpt.tokens.tokenizers import Characters

LETTERS, EQUALS, END, PAD = "abcdefghijklmnopqrstuvwxyz", "=", "\n", " "


class Settings(held_out.HeldOut):
    name: Literal["copy"] = Field(description="what is to be learned")
    letters: int = Field(ge=2, le=26, description="letters of the alphabet, from a on")
    length: int = Field(ge=1, le=100, description="letters of a string, at most")
    split_seed: held_out.Seed
    val_fraction: held_out.ValFraction
    test_fraction: held_out.TestFraction
    train_size: held_out.TrainSize
    val_size: held_out.ValSize

    @property
    def strings(self) -> Strings:
        return Strings(LETTERS[: self.letters], self.length)

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
        letters = self.settings.strings.letters(number)  # places in the alphabet, and so tokens
        return self.closed(letters, EQUALS), self.closed(letters, END)

    def number(self, text: str) -> int:
        return self.settings.strings.number(text.strip().removesuffix(EQUALS))

    def read_question(self, tokens: list[int]) -> str:
        return super().read_question(tokens).removesuffix(EQUALS)

    def slices(self, split: str, index: np.ndarray) -> dict[str, np.ndarray]:
        letters = self.settings.strings.letters(self.numbers(split, index))
        return {"length": (letters >= 0).sum(axis=1), "repeats": repeats(letters)}
