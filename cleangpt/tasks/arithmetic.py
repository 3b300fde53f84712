"""Addition and multiplication: generated, split without leaks, written as tokens.

Nothing is materialised: problem k of a split is computed from k, for operands of 1 to 20 digits. The universe
is every ordered problem (a, b) with 0 <= a, b < 10^digits. It is split by unordered pair, so that b+a is never
trained on when a+b is held out; `split: ordered` splits (a, b) itself, as others do, and so leaks.
"""

import re
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from cleangpt.basics.errors import UserError
from cleangpt.basics.seeds import integers
from cleangpt.basics.words import counted
from cleangpt.tasks import digits as decimal
from cleangpt.tasks import held_out, strata
from cleangpt.tasks.contract import Batch, Question
from cleangpt.tasks.pairs import PairTask, Universe
from cleangpt.tokens.tokenizers import Characters

END, PAD = "\n", " "
VOCABULARY = [*"0123456789+*=", END, PAD]
PLUS, TIMES, EQUALS = (VOCABULARY.index(symbol) for symbol in "+*=")


class Settings(held_out.HeldOut):
    name: Literal["adder", "multiplier"] = Field(description="what is to be learned")
    digits: int = Field(ge=1, le=20, description="digits of an operand, at most")
    padded: bool = Field(description="numbers are filled with zeros to one length")
    reversed: bool = Field(description="the answer is written lowest digit first")
    symbols: bool = Field(description="the operator and = are written")
    end_token: bool = Field(description="an end token follows the answer")
    loss: Literal["answer", "all"] = Field(description="tokens that are trained on")
    split: Literal["unordered", "ordered"] = Field(description="hold out pairs, or ordered pairs, which leaks")
    split_seed: held_out.Seed
    val_fraction: held_out.ValFraction
    test_fraction: held_out.TestFraction
    train_size: held_out.TrainSize
    val_size: held_out.ValSize

    @field_validator("symbols")
    @classmethod
    def _readable(cls, symbols: bool, info: ValidationInfo) -> bool:
        if not symbols and info.data.get("padded") is False:
            raise ValueError("must be true with dataset.padded=false: without either, 1 12 and 11 2 read the same")
        return symbols

    @field_validator("end_token")
    @classmethod
    def _terminated(cls, end_token: bool, info: ValidationInfo) -> bool:
        if not end_token and info.data.get("padded") is False:
            raise ValueError("must be true with dataset.padded=false: nothing else says where an answer ends")
        return end_token

    def universe(self) -> Universe:
        return Universe(self.digits, self.split, self.split_seed, self.val_fraction, self.test_fraction)

    @property
    def answer_digits(self) -> int:
        return self.digits + 1 if self.name == "adder" else 2 * self.digits

    @property
    def prompt_length(self) -> int:
        """Count the tokens of a padded prompt, which are the most of any."""
        return 2 * self.digits + 2 * self.symbols

    @property
    def sequence_length(self) -> int:
        return self.prompt_length + self.answer_digits + self.end_token - 1


class Task(PairTask):
    settings: Settings
    words: ClassVar = {
        "by_carries": "By number of carries",
        "by_longest_carry_run": "By longest run of carries",
        "run": "longest run of carries",
        "by_operand_lengths": "By digits of the operands",
        "a": "digits of a",
        "b": "digits of b",
        "operand_lengths.png": "lengths.png",
        "sample": "stratified sample",
        "leaked": "leaked: b, a is trained on",
        "clean": "clean: neither is",
    }

    def __init__(self, settings: Settings, context: int | None = None):
        super().__init__(settings)
        self.tokenizer = Characters(VOCABULARY, end=END, pad=PAD)

    @property
    def title(self) -> str:
        return f"{self.settings.digits}-digit {'sums' if self.settings.name == 'adder' else 'products'}"

    @property
    def answer_length(self) -> int:
        return self.settings.answer_digits + self.settings.end_token

    def facts(self, split: str) -> dict[str, Any]:
        return {"digits": self.settings.digits, "split": split, "split_by": self.settings.split}

    def batch(self, split: str, index: np.ndarray, epoch_keys: np.ndarray | None = None) -> Batch:
        return self.encode(*self.problems(split, index))

    def sample(self, split: str, limit: int) -> tuple[np.ndarray, np.ndarray]:
        return strata.sample(self, split, limit)

    def slices(self, split: str, index: np.ndarray) -> dict[str, Any]:
        a, b = self.problems(split, index)
        carried = self.answer(a, b)[1] > 0
        lengths = [decimal.lengths(decimal.digits_of(x, self.settings.digits)) for x in (a, b)]
        return {
            "carries": carried.sum(axis=1),
            "longest_carry_run": {"run": decimal.longest_run(carried)},
            "operand_lengths": dict(zip("ab", lengths, strict=True)),
        }

    def positions(self, split: str, index: np.ndarray) -> dict[str, np.ndarray]:
        """Find the tokens of the answers as they are written, named by the power of ten that they stand for."""
        answer, _ = self.answer(*self.problems(split, index))
        n, digits = answer.shape
        written = np.full(n, digits) if self.settings.padded else decimal.lengths(answer)
        if self.settings.reversed:
            found = {f"10^{k}": np.where(k < written, k, -1) for k in range(digits)}
        else:
            found = {f"10^{k}": np.maximum(written - 1 - k, -1) for k in reversed(range(digits))}
        return {**found, "end": written} if self.settings.end_token else found

    def answer(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute the digits of the right answer (n, W), lowest first, and the carries out of their columns."""
        width = self.settings.digits
        operation = decimal.add if self.settings.name == "adder" else decimal.multiply
        return operation(decimal.digits_of(a, width), decimal.digits_of(b, width))

    def encode(self, a: np.ndarray, b: np.ndarray) -> Batch:
        """Write problems as tokens: a [+] b [=] answer [end], and which of them count."""
        s, n = self.settings, len(a)
        numbers = [decimal.digits_of(a, s.digits), decimal.digits_of(b, s.digits), self.answer(a, b)[0]]
        if not s.padded:  # nor are zeros before a number written
            numbers = [np.where(np.arange(x.shape[1]) < decimal.lengths(x)[:, None], x, -1) for x in numbers]
        left, right, answer = numbers
        symbol = np.full((n, 1), PLUS if s.name == "adder" else TIMES, np.int64)
        question = [left[:, ::-1], symbol, right[:, ::-1], np.full((n, 1), EQUALS, np.int64)]
        answer = answer if s.reversed else answer[:, ::-1]
        if s.end_token:
            answer = np.pad(answer, ((0, 0), (0, 1)), constant_values=self.tokenizer.ids[END])
        questions = np.concatenate(question if s.symbols else question[::2], axis=1)
        return Batch.of(questions, answer, self.tokenizer.pad, s.loss)

    def question(self, a: int, b: int) -> str:
        """Write a problem as a person does."""
        return f"{a}{'+' if self.settings.name == 'adder' else '*'}{b}"

    def read_question(self, tokens: list[int]) -> str:
        text = self.tokenizer.decode(tokens)
        if not self.settings.symbols:
            return self.question(int(text[: self.settings.digits]), int(text[self.settings.digits :]))
        return self.question(*map(int, re.findall("[0-9]+", text)))

    def read_answer(self, tokens: list[int]) -> str:
        """Write an answer as a person does: highest digit first. What is no number is shown as it is."""
        text = self.tokenizer.decode(tokens).split(END)[0].rstrip(PAD)
        if not text.isdigit():
            return text
        return str(int(text[::-1] if self.settings.reversed else text))

    def ask(self, text: str) -> Question:
        """Read a problem as a person types it; refuse what the model could not have learned."""
        adds = self.settings.name == "adder"
        found = re.fullmatch(r"\s*([0-9]+)\s*([-+*/×x])\s*([0-9]+)\s*=?\s*", text)
        if not found or (found[2] == "+") != adds or found[2] in "-/":
            what = "sum" if adds else "product"
            raise UserError(
                f"this model knows {what}s only, and {text!r} is none: write it like {self.question(12, 7)}"
            )
        numbers = [digits.lstrip("0") or "0" for digits in (found[1], found[3])]
        for number in numbers:
            if len(number) > self.settings.digits:
                shown = number if len(number) < 30 else number[:30] + "…"
                raise UserError(
                    f"{shown} has {counted(len(number), 'digit')}, and this model learned numbers of at most "
                    f"{self.settings.digits}: ask with smaller ones"
                )
        wide = integers(10**self.settings.digits)
        return self.questions(self.encode(*(np.array([int(number)], wide) for number in numbers)))[0]
