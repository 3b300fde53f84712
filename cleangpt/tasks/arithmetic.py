"""Arithmetic: what is asked, how it is written, and which problems, as keys put together from files of lab/.

Nothing that is trained on is materialised: problem k of a split is computed from k. Where there are two numbers of up
to 20 digits, the universe is every ordered problem (a, b); it is split by unordered pair, so that b+a is never trained
on when a+b is held out; `split: ordered` splits (a, b) itself, as others do, and so leaks.
"""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from cleangpt.basics.errors import UserError
from cleangpt.basics.words import counted
from cleangpt.tasks import held_out
from cleangpt.tasks.contract import Batch, Question
from cleangpt.tasks.lab import choices, figures
from cleangpt.tasks.lab.format import Format, Style
from cleangpt.tasks.lab.operation import Operation
from cleangpt.tasks.lab.sources import strata
from cleangpt.tasks.lab.sources.numbered import Numbered
from cleangpt.tasks.lab.sources.universe import PairTask, Universe
from cleangpt.tokens.tokenizers import Characters

if TYPE_CHECKING:
    OperationName = FormatName = str
else:
    OperationName, FormatName = (Literal[tuple(choices.modules(kind))] for kind in choices.ROOMS)

UNIVERSE = 20  # digits of a number, at most, where all problems are numbered


class Settings(held_out.HeldOut):
    name: Literal["arithmetic", "adder", "multiplier"] = Field(description="what is to be learned")
    operation: OperationName = Field(description="what is asked")
    modulus: int | None = Field(ge=2, le=1_000_000, description="answers are modulo this; null: they are not")
    base: int = Field(ge=2, le=1_000_000, description="base of the digits; as large as the modulus: a number is a token")
    operands: int = Field(ge=1, le=20, description="numbers or strings in a problem")
    digits: int = Field(ge=1, le=1000, description="digits of an operand, at most")
    format: FormatName = Field(description="how a problem is written")
    padded: bool | Literal["operands", "answer"] = Field(description="numbers are filled with zeros to one length")
    reversed: bool | Literal["operands", "all"] = Field(
        description="the answer is written lowest digit first; or the operands are, or both"
    )
    symbols: bool = Field(description="the operator and = are written")
    operator: str | None = Field(max_length=1, description="the operator; null: the usual one")
    equals: str = Field(max_length=1, description="what stands before an answer; empty: nothing")
    start: str = Field(max_length=1, description="what stands before a problem; empty: nothing")
    space: str = Field(max_length=1, description="what stands around operator and =; empty: nothing")
    end_token: bool = Field(description="an end token follows the answer")
    vocabulary: Literal["usual", "used"] = Field(description="tokens: the usual ones, or only those that are used")
    loss: Literal["answer", "all"] = Field(description="tokens that are trained on")
    split: Literal["unordered", "ordered"] = Field(description="hold out pairs, or ordered pairs, which leaks")
    split_seed: held_out.Seed
    val_fraction: held_out.ValFraction
    test_fraction: held_out.TestFraction
    train_size: held_out.TrainSize
    val_size: held_out.ValSize

    @field_validator("modulus")
    @classmethod
    def _modular(cls, modulus: int | None, info: ValidationInfo) -> int | None:
        if name := info.data.get("operation"):
            if why := choices.load("operation", name).why_not(modulus):
                raise ValueError(f"does not fit: dataset.operation={name} {why}")
        return modulus

    @field_validator("operands")
    @classmethod
    def _as_many_as_it_takes(cls, operands: int, info: ValidationInfo) -> int:
        if name := info.data.get("operation"):
            chosen: type[Operation] = choices.load("operation", name)
            if operands < chosen.least or operands > (chosen.most or operands):
                most = "" if chosen.most == chosen.least else f" to {chosen.most}" if chosen.most else " or more"
                raise ValueError(f"must be {chosen.least}{most} with dataset.operation={name}, not {operands}")
        return operands

    @field_validator("symbols")
    @classmethod
    def _readable(cls, symbols: bool, info: ValidationInfo) -> bool:
        several = info.data.get("operands", 2) > 1
        if not symbols and several and info.data.get("padded") in (False, "answer"):
            raise ValueError("must be true with dataset.padded=false: without either, 1 12 and 11 2 read the same")
        return symbols

    @field_validator("end_token")
    @classmethod
    def _terminated(cls, end_token: bool, info: ValidationInfo) -> bool:
        if not end_token and info.data.get("padded") in (False, "operands"):
            raise ValueError("must be true with dataset.padded=false: nothing else says where an answer ends")
        return end_token

    def what(self) -> Operation:
        """Make the operation."""
        return choices.load("operation", self.operation)(self.base, self.modulus)

    def how(self) -> Format:
        """Make the format."""
        operation = self.what()
        style = Style(
            operator=(operation.symbol if self.operator is None else self.operator) if self.symbols else "",
            equals=self.equals if self.symbols else "",
            start=self.start,
            space=self.space,
            end="\n" if self.end_token else "",
            pad_operands=self.digits if self.padded in (True, "operands") else None,
            pad_answer=self.padded in (True, "answer"),
            reversed_operands=self.reversed in ("operands", "all"),
            reversed_answer=self.reversed in (True, "all"),
        )
        return choices.load("format", self.format)(operation, style, usual=self.vocabulary == "usual")

    @property
    def numbers(self) -> int:
        """Count the numbers that an operand may be."""
        return min(self.base**self.digits, self.modulus or self.base**self.digits)

    def universe(self) -> Universe | Numbered:  # type: ignore[override]
        if self.operands == 1:
            return Numbered(self.base, self.digits, self.split_seed, self.val_fraction, self.test_fraction)
        second_from = int(self.operation == "divide")
        fractions = self.val_fraction, self.test_fraction
        return Universe(self.numbers, self.split, self.split_seed, *fractions, second_from=second_from)

    @property
    def widths(self) -> list[int]:
        return [self.digits] * self.operands

    @property
    def sequence_length(self) -> int:
        how = self.how()
        return how.question_length(self.widths) + how.answer_length(self.widths) - 1


class Task(PairTask):
    settings: Settings

    def __init__(self, settings: Settings, context: int | None = None):
        super().__init__(settings)
        self.how = settings.how()
        self.operation = self.how.operation
        self.tokenizer = Characters(self.how.tokens, end=self.how.end, pad=self.how.pad)

    @cached_property
    def words(self) -> dict[str, str]:  # type: ignore[override]
        return {
            **self.operation.words,
            "by_operand_lengths": "By digits of the operands",
            "a": "digits of a",
            "b": "digits of b",
            "operand_lengths.png": "lengths.png",
            "sample": "stratified sample",
            "leaked": "leaked: b, a is trained on",
            "clean": "clean: neither is",
        }

    @property
    def title(self) -> str:
        modulo = f" modulo {self.settings.modulus}" if self.settings.modulus else ""
        if self.settings.base >= (self.settings.modulus or self.settings.base + 1):
            return f"{self.operation.plural}{modulo}"
        return f"{self.settings.digits}-digit {self.operation.plural}{modulo}"

    @property
    def answer_length(self) -> int:
        return self.how.answer_length(self.settings.widths)

    def facts(self, split: str) -> dict[str, Any]:
        return {"digits": self.settings.digits, "split": split, "split_by": self.settings.split}

    def problems(self, split: str, index: np.ndarray) -> list[np.ndarray]:
        """Look up the operands of these samples of a split, as figures."""
        if isinstance(self.universe, Universe):
            return self.figures(*self.pairs(split, index))
        return self.universe.problems(split, self.items(split, index))

    def figures(self, *values: np.ndarray) -> list[np.ndarray]:
        """Write integers (n,) as figures."""
        base, width = self.settings.base, self.settings.digits
        return [figures.written(figures.digits_of(x, width, base)) for x in values]

    def batch(self, split: str, index: np.ndarray, epoch_keys: np.ndarray | None = None) -> Batch:
        return self.encode(self.problems(split, index))

    def sample(self, split: str, limit: int) -> tuple[np.ndarray, np.ndarray]:
        s = self.settings
        if isinstance(self.universe, Universe) and self.universe.numbers == 10**s.digits and not self.universe.second_from:
            return strata.sample(self, s.digits, split, limit)
        return super().sample(split, limit)

    def slices(self, split: str, index: np.ndarray) -> Mapping[str, Any]:
        return self.operation.cuts(self.problems(split, index))

    def positions(self, split: str, index: np.ndarray) -> dict[str, np.ndarray]:
        """Find the tokens of the answers as they are written, named by the power of the base that they stand for."""
        line = self.how.write(self.problems(split, index))
        order = np.argsort(line.answer < 0, axis=1, kind="stable")
        tokens, powers = (np.take_along_axis(x, order, axis=1) for x in (line.answer, line.answer_powers))
        digits = self.how.answer_width(self.settings.widths) - self.operation.is_signed
        backwards = self.how.style.reversed_answer
        found = {}
        for power in range(digits) if backwards else reversed(range(digits)):
            here = powers == power
            found[f"{self.settings.base}^{power}"] = np.where(here.any(axis=1), here.argmax(axis=1), -1)
        if self.operation.is_signed:
            here = (powers < 0) & (tokens >= 0) & (tokens != self.tokenizer.end)
            found["sign"] = np.where(here.any(axis=1), here.argmax(axis=1), -1)
        written = (tokens >= 0).sum(axis=1) - 1
        return {**found, "end": written} if self.settings.end_token else found

    def leaked(self, split: str, index: np.ndarray) -> np.ndarray | None:
        if not (isinstance(self.universe, Universe) and self.operation.commutes):
            return None
        return super().leaked(split, index)

    def encode(self, operands: list[np.ndarray]) -> Batch:
        """Write problems as tokens, and which of them count."""
        line = self.how.write(operands)
        return Batch.of(line.question, line.answer, self.tokenizer.pad, self.settings.loss)

    # ---- for people

    def question(self, *operands: int | str) -> str:
        """Write a problem as a person does."""
        return self.operation.symbol.join(map(str, operands))

    def _shown(self, tokens: list[int]) -> str:
        """Write the digits of a number or a string, the highest first, as a person does."""
        text = "".join(self.how.tokens[token] for token in tokens)
        return text if self.operation.strings else text.lstrip("0") or "0"

    def read_question(self, tokens: list[int]) -> str:
        base, s = self.settings.base, self.how.style
        if self.settings.symbols or self.settings.operands == 1:
            parts: list[list[int]] = [[]]
            for token in tokens:
                if token < base:
                    parts[-1].append(token)
                elif self.how.tokens[token] == s.operator:
                    parts.append([])
        else:
            digits = [token for token in tokens if token < base]
            width = s.pad_operands or self.settings.digits
            parts = [digits[start : start + width] for start in range(0, len(digits), width)]
        return self.question(*(self._shown(part[::-1] if s.reversed_operands else part) for part in parts))

    def read_answer(self, tokens: list[int]) -> str:
        """Write an answer as a person does: highest digit first. What is no number is shown as it is."""
        if self.tokenizer.end in tokens:
            tokens = tokens[: tokens.index(self.tokenizer.end)]
        while tokens and tokens[-1] == self.tokenizer.pad:
            tokens = tokens[:-1]
        forwards = tokens[::-1] if self.how.style.reversed_answer else tokens
        signs = {self.how.ids[sign]: sign for sign in "+-" if sign in self.how.ids} if self.operation.is_signed else {}
        sign, digits = "", forwards
        if forwards and forwards[0] in signs:
            sign, digits = signs[forwards[0]].strip("+"), forwards[1:]
        if not digits or any(token >= self.settings.base for token in digits):
            return self.tokenizer.decode(tokens)
        return sign + self._shown(digits)

    def ask(self, text: str) -> Question:
        """Read a problem as a person types it; refuse what the model could not have learned."""
        s, symbol = self.settings, self.operation.symbol
        usual = {"*": "[*×x]"}.get(symbol, re.escape(symbol))
        number = "[0-9]+" if s.base <= 10 or s.base > 36 else "[0-9a-z]+"
        found = re.fullmatch(r"\s*" + rf"\s*{usual}\s*".join([f"({number})"] * s.operands) + r"\s*=?\s*", text)
        if not found:
            what = self.operation.plural
            example = self.question(*["12", "7", "5", "31"][: s.operands], *["4"] * (s.operands - 4))
            if s.base < 8:
                example = self.question(*["1"] * s.operands)
            raise UserError(f"this model knows {what} only, and {text!r} is none: write it like {example}")
        return self.questions(self.encode([self._figures_of(part) for part in found.groups()]))[0]

    def _figures_of(self, text: str) -> np.ndarray:
        """Read one operand (1, W); a UserError where it is longer or larger than any that was learned."""
        s = self.settings
        shown = text if len(text) < 30 else text[:30] + "…"
        if not self.operation.strings:
            text = text.lstrip("0") or "0"
        whole = s.base > 36  # a number is a token
        if not whole and len(text) > s.digits:
            raise UserError(
                f"{shown} has {counted(len(text), 'digit')}, and this model learned numbers of at most "
                f"{s.digits}: ask with smaller ones"
            )
        digits = [int(text)] if whole else [int(character, 36) for character in reversed(text)]
        if max(digits) >= s.base or (s.modulus and int(text, 10 if whole else s.base) >= self.settings.numbers):
            most = f"below {s.numbers}" if s.modulus else f"of the digits below {s.base}"
            raise UserError(f"this model learned numbers {most}, and {shown} is none")
        return np.array([digits])
