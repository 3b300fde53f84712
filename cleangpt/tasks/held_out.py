"""Questions that can be numbered, cut into train, val and test by a seeded permutation of their numbers.

The permutation is computed index by index and never stored, so that question k of a split is known at once however many
there are: no question is in two splits, and together they are all questions.
"""

import contextlib
from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, NamedTuple, Protocol

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from cleangpt.basics.errors import ConfigError
from cleangpt.basics.schema import Section
from cleangpt.basics.seeds import Permutation, derive
from cleangpt.tasks.contract import COMPLETE, Batch, Question, TaskWithAnswers
from cleangpt.tokens.tokenizers import Characters

SPLITS = ("train", "val", "test")

# The keys of what is held out, for the `Settings` of a task.
Seed = Annotated[int, Field(ge=0, lt=2**63, description="of the split, apart from the seed of the run")]
ValFraction = Annotated[float, Field(gt=0, lt=1, description="of all problems, held out for validation")]
TestFraction = Annotated[float, Field(gt=0, lt=1, description="of all problems, held out for the test")]
TrainSize = Annotated[int | None, Field(ge=1, description="problems to train on; null: all that are not held out")]
ValSize = Annotated[int | None, Field(ge=1, description="most problems in one evaluation; null: all of validation")]


class Cut(NamedTuple):
    """The place of a split among the permuted numbers."""

    start: int
    size: int


def cut(total: int, val_fraction: float, test_fraction: float) -> dict[str, Cut]:
    """Cut [test | val | train]: the held-out parts come first, and so do not depend on what is trained on."""
    test = min(total, max(1, round(test_fraction * total)))
    val = min(total - test, max(1, round(val_fraction * total)))
    return {"test": Cut(0, test), "val": Cut(test, val), "train": Cut(test + val, total - test - val)}


class Universe(Protocol):
    """All questions of a task, cut into splits."""

    def count(self, split: str) -> int:
        """Count the questions of a split."""


class Numbers:
    """The numbers 0 … total - 1, cut into splits."""

    def __init__(self, total: int, split_seed: int, val_fraction: float, test_fraction: float):
        self.cuts = cut(total, val_fraction, test_fraction)
        self.order = Permutation(total, derive(split_seed, "split"))

    def count(self, split: str) -> int:
        return self.cuts[split].size

    def items(self, split: str, item: np.ndarray) -> np.ndarray:
        return self.order(np.asarray(item).astype(self.order.dtype) + self.cuts[split].start)


class HeldOut(Section):
    """Settings with keys of what is held out, behind those that say which questions there are."""

    if TYPE_CHECKING:  # a key is checked with those before it, so each task's own file has these, as its last ones
        name: str
        split_seed: Seed
        val_fraction: ValFraction
        test_fraction: TestFraction
        train_size: TrainSize
        val_size: ValSize

        @property
        def problems(self) -> int: ...

        @property
        def sequence_length(self) -> int: ...

    def universe(self) -> Universe:
        """Cut all questions into splits; by default there are as many as `problems` says."""
        return Numbers(self.problems, self.split_seed, self.val_fraction, self.test_fraction)

    @field_validator("test_fraction", check_fields=False)
    @classmethod
    def _leave_some_of_each(cls, test_fraction: float, info: ValidationInfo) -> float:
        with contextlib.suppress(AttributeError, ConfigError):  # a key that it takes has a mistake of its own
            universe = cls.model_construct(**info.data, test_fraction=test_fraction).universe()
            for split in SPLITS:
                if not universe.count(split):
                    val = info.data["val_fraction"]
                    raise ValueError(f"and dataset.val_fraction={val:g} leave nothing for {split}: lower one")
        return test_fraction

    @field_validator("train_size", check_fields=False)
    @classmethod
    def _enough_to_train(cls, train_size: int | None, info: ValidationInfo) -> int | None:
        with contextlib.suppress(AttributeError, ConfigError):
            available = cls.model_construct(**info.data).universe().count("train")
            if train_size is not None and train_size > available:
                raise ValueError(f"must be at most {available}, the problems that are not held out, or null")
        return train_size


class HeldOutTask(TaskWithAnswers):
    """Questions of a universe that is cut into splits."""

    settings: HeldOut
    tokenizer: Characters

    def __init__(self, settings: HeldOut, context: int | None = None):
        super().__init__(settings)
        self.universe = settings.universe()
        self.subset: Permutation | None = None
        if settings.train_size is not None:  # a subset to train on is the same whatever the seed of the run
            self.subset = Permutation(self.universe.count("train"), self.key("train subset"))
        self.val_order = Permutation(self.universe.count("val"), self.key("val subset"))
        self.val_size = min(self.universe.count("val"), settings.val_size or COMPLETE)

    def count(self, split: str) -> int:
        if split == "train" and self.settings.train_size is not None:
            return self.settings.train_size
        return self.universe.count(split)

    def size(self, split: str) -> int:
        """Count those that are numbered, which are more than anyone can train on."""
        return min(self.count(split), 1 << 62)

    def items(self, split: str, index: np.ndarray) -> np.ndarray:
        """Find which items of its universe's split these samples are."""
        if split == "train" and self.subset is not None:
            return self.subset(index)
        return self.val_order(index) if split == "val" else index


class NumberedTask(HeldOutTask):
    """Questions that are written from their number. Its settings are a `HeldOut` whose `problems` says how many."""

    universe: Numbers

    @abstractmethod
    def write(self, number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Write the questions of these numbers (n,): their tokens (n, P), and those of their answers (n, A).

        An end is included; -1 stands where a shorter one has no token.
        """

    @abstractmethod
    def number(self, text: str) -> int:
        """Number a question as a person types it; a UserError where there is no such question."""

    def numbers(self, split: str, index: np.ndarray) -> np.ndarray:
        """Look up the numbers of these samples of a split."""
        return self.universe.items(split, self.items(split, index))

    def closed(self, tokens: np.ndarray, symbol: str) -> np.ndarray:
        """Put this symbol behind tokens (n, L): (n, L + 1)."""
        return np.pad(tokens, ((0, 0), (0, 1)), constant_values=self.tokenizer.ids[symbol])

    def batch(self, split: str, index: np.ndarray, epoch_keys: np.ndarray | None = None) -> Batch:
        return Batch.of(*self.write(self.numbers(split, index)), self.tokenizer.pad)

    @property
    def answer_length(self) -> int:
        return self.write(np.zeros(1, np.int64))[1].shape[1]

    def ask(self, text: str) -> Question:
        number = np.array([self.number(text)], self.universe.order.dtype)
        return self.questions(Batch.of(*self.write(number), self.tokenizer.pad))[0]
