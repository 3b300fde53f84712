"""Addition and multiplication: generated, split without leaks, written as tokens.

Nothing is materialised: problem k of a split is computed from k, for operands of 1 to 20 digits. The universe
is every ordered problem (a, b) with 0 <= a, b < 10^digits. It is split by unordered pair, so that b+a is never
trained on when a+b is held out; `split: ordered` splits (a, b) itself, as others do, and so leaks.
"""

import re
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from cleangpt.basics.errors import UserError
from cleangpt.basics.schema import Section
from cleangpt.basics.seeds import Permutation, derive, integers
from cleangpt.basics.words import counted
from cleangpt.tasks.arithmetic import digits as decimal
from cleangpt.tasks.arithmetic.universe import SPLITS, Universe
from cleangpt.tasks.contract import Batch, Question
from cleangpt.tokens.tokenizers import Characters

END, PAD = "\n", " "
VOCABULARY = [*"0123456789+*=", END, PAD]
PLUS, TIMES, EQUALS = (VOCABULARY.index(symbol) for symbol in "+*=")
COMPLETE = 1_000_000  # a held-out set up to this size is looked at whole


class Settings(Section):
    name: Literal["adder", "multiplier"] = Field(description="what is to be learned")
    digits: int = Field(ge=1, le=20, description="digits of an operand, at most")
    padded: bool = Field(description="numbers are filled with zeros to one length")
    reversed: bool = Field(description="the answer is written lowest digit first")
    symbols: bool = Field(description="the operator and = are written")
    end_token: bool = Field(description="an end token follows the answer")
    loss: Literal["answer", "all"] = Field(description="tokens that are trained on")
    split: Literal["unordered", "ordered"] = Field(description="hold out pairs, or ordered pairs, which leaks")
    split_seed: int = Field(ge=0, lt=2**63, description="of the split, apart from the seed of the run")
    val_fraction: float = Field(gt=0, lt=1, description="of all problems, held out for validation")
    test_fraction: float = Field(gt=0, lt=1, description="of all problems, held out for the test")
    train_size: int | None = Field(ge=1, description="problems to train on; null: all that are not held out")
    val_size: int | None = Field(ge=1, description="most problems in one evaluation; null: all of validation")

    @field_validator("symbols")
    @classmethod
    def _readable(cls, symbols: bool, info) -> bool:
        if not symbols and info.data.get("padded") is False:
            raise ValueError("must be true with dataset.padded=false: without either, 1 12 and 11 2 read the same")
        return symbols

    @field_validator("end_token")
    @classmethod
    def _terminated(cls, end_token: bool, info) -> bool:
        if not end_token and info.data.get("padded") is False:
            raise ValueError("must be true with dataset.padded=false: nothing else says where an answer ends")
        return end_token

    @field_validator("test_fraction")
    @classmethod
    def _leave_some_of_each(cls, test_fraction: float, info) -> float:
        needed = ("digits", "split", "split_seed", "val_fraction")
        if all(key in info.data for key in needed):
            whole = Universe(**{key: info.data[key] for key in needed}, test_fraction=test_fraction)
            for split in SPLITS:
                if not whole.count(split):
                    val = info.data["val_fraction"]
                    raise ValueError(f"and dataset.val_fraction={val:g} leave nothing for {split}: lower one")
        return test_fraction

    @field_validator("train_size")
    @classmethod
    def _enough_to_train(cls, train_size: int | None, info) -> int | None:
        needed = ("digits", "split", "split_seed", "val_fraction", "test_fraction")
        if train_size is not None and all(key in info.data for key in needed):
            available = Universe(**{key: info.data[key] for key in needed}).count("train")
            if train_size > available:
                raise ValueError(f"must be at most {available}, the problems that are not held out, or null")
        return train_size

    def universe(self) -> Universe:
        return Universe(self.digits, self.split, self.split_seed, self.val_fraction, self.test_fraction)

    @property
    def answer_digits(self) -> int:
        return self.digits + 1 if self.name == "adder" else 2 * self.digits

    @property
    def prompt_length(self) -> int:
        """Tokens of a padded prompt, and the most of any."""
        return 2 * self.digits + 2 * self.symbols

    @property
    def sequence_length(self) -> int:
        return self.prompt_length + self.answer_digits + self.end_token - 1


class Task:
    has_answers = True  # a sample is right or wrong, so there is an accuracy
    more_is_better = ("accuracy",)
    reads_disk = False

    def __init__(self, settings: Settings, context: int | None = None):
        self.settings = settings
        self.tokenizer = Characters(VOCABULARY, end=END, pad=PAD)
        self.sequence_length = settings.sequence_length
        self.universe = settings.universe()
        # A subset to train on is the same whatever the seed of the run.
        self.subset = None
        if settings.train_size is not None:
            total = self.universe.count("train")
            self.subset = Permutation(total, derive(settings.split_seed, "train subset"))
        self.val_order = Permutation(self.universe.count("val"), derive(settings.split_seed, "val subset"))
        self.val_size = min(self.universe.count("val"), settings.val_size or COMPLETE)

    def count(self, split: str) -> int:
        """How many problems a split has."""
        if split == "train" and self.settings.train_size is not None:
            return self.settings.train_size
        return self.universe.count(split)

    def size(self, split: str) -> int:
        """How many of them are numbered, which is more than anyone can train on."""
        return min(self.count(split), 1 << 62)

    def place(self, device: Any) -> None:
        """Nothing to bring: samples are computed."""

    def fingerprint(self) -> dict[str, str]:
        return {}  # the settings say it all

    def measures(self, loss: float) -> dict[str, float]:
        return {}

    def headline(self, score: dict) -> dict[str, Any]:
        return {key: score[key] for key in ("accuracy", "problems")}

    def batch(self, split: str, index: np.ndarray, epoch_keys: np.ndarray | None = None) -> Batch:
        return self.encode(*self.problems(split, index))

    def problems(self, split: str, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The operands (a, b) of these samples of a split."""
        if split == "train" and self.subset is not None:
            index = self.subset(index)
        elif split == "val":
            index = self.val_order(index)
        return self.universe.problems(split, index)

    def belongs(self, split: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """(n,) whether exactly this problem is a sample of this split."""
        place, item = self.universe.locate(a, b)
        inside = place == SPLITS.index(split)
        if split == "train" and self.subset is not None and inside.any():
            inside[inside] = (self.subset.inverse(item[inside]) < self.size("train")).astype(bool)
        return inside

    def answer(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, W) digits of the right answer, lowest first, and the carries out of their columns."""
        width = self.settings.digits
        operation = decimal.add if self.settings.name == "adder" else decimal.multiply
        return operation(decimal.digits_of(a, width), decimal.digits_of(b, width))

    def encode(self, a: np.ndarray, b: np.ndarray) -> Batch:
        """Problems → tokens: a [+] b [=] answer [end], and which of them count."""
        s, n = self.settings, len(a)
        left, right = decimal.digits_of(a, s.digits), decimal.digits_of(b, s.digits)
        answer, _ = self.answer(a, b)
        symbol = np.full((n, 1), PLUS if s.name == "adder" else TIMES, np.int64)
        parts = [left[:, ::-1], symbol, right[:, ::-1], np.full((n, 1), EQUALS, np.int64)]
        written = [_written(left)[:, ::-1], None, _written(right)[:, ::-1], None]
        if not s.symbols:
            parts, written = parts[::2], written[::2]
        step = 1 if s.reversed else -1
        parts.append(answer[:, ::step])
        written.append(_written(answer)[:, ::step])
        if s.end_token:
            parts.append(np.full((n, 1), self.tokenizer.end, np.int64))
            written.append(None)
        tokens = np.concatenate(parts, axis=1)  # (n, L)
        is_answer = np.zeros(tokens.shape, bool)
        is_answer[:, s.prompt_length :] = True
        real = np.ones(tokens.shape, bool)
        if not s.padded:
            real = np.concatenate([np.ones((n, 1), bool) if w is None else w for w in written], axis=1)
            order = np.argsort(~real, axis=1, kind="stable")  # what is written moves left, the rest is padding
            tokens, is_answer, real = (np.take_along_axis(x, order, axis=1) for x in (tokens, is_answer, real))
            tokens = np.where(real, tokens, self.tokenizer.pad)
            is_answer &= real
        counted = is_answer if s.loss == "answer" else real
        return Batch(
            inputs=tokens[:, :-1],
            targets=tokens[:, 1:],
            loss_weights=counted[:, 1:].astype(np.float32),
            answer=is_answer[:, 1:],
            real=real[:, :-1],
        )

    def question(self, a: int, b: int) -> str:
        """The problem as a person writes it."""
        return f"{a}{'+' if self.settings.name == 'adder' else '*'}{b}"

    def read_answer(self, tokens: list[int]) -> str:
        """An answer as a person writes it: highest digit first. What is no number is shown as it is."""
        text = self.tokenizer.decode(tokens).split(END)[0].rstrip(PAD)
        if not text.isdigit():
            return text
        return str(int(text[::-1] if self.settings.reversed else text))

    def ask(self, text: str) -> Question:
        """A problem as a person types it; refused where the model could not have learned it."""
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
        return self.question_of(*map(int, numbers))

    def examples(self, count: int) -> list[Question]:
        a, b = self.problems("val", np.arange(min(count, self.size("val"))))
        return [self.question_of(int(left), int(right)) for left, right in zip(a, b, strict=True)]

    def question_of(self, a: int, b: int) -> Question:
        wide = integers(np.int64, 10**self.settings.digits)
        batch = self.encode(np.array([a], wide), np.array([b], wide))
        tokens, answer = [*batch.inputs[0], batch.targets[0, -1]], batch.answer[0]
        longest = self.settings.answer_digits + self.settings.end_token
        return Question(
            text=self.question(a, b),
            tokens=[int(token) for token in tokens[: answer.argmax() + 1]],
            right=batch.targets[0, answer].tolist(),
            new_tokens=longest,
            read=self.read_answer,
        )


def _written(digits: np.ndarray) -> np.ndarray:
    """(n, W) which digits of a number are written when it is not filled with zeros."""
    return np.arange(digits.shape[1]) < decimal.lengths(digits)[:, None]
