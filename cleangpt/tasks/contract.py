"""The contract of tasks: samples to learn from as batches, and what the rooms above ask about them.

A task's file defines `Settings`, the keys of its YAML, whose `name` lists the names that it answers to, and `Task`,
which is made from them: a `Task` of this file for samples of any kind, a `TaskWithAnswers` where each sample is a
question with one right answer, or a `NumberedTask` of held_out.py, which is told how questions are written and what
they are numbered by. What is abstract has to be defined; all else has a default.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from cleangpt.basics.errors import UserError
from cleangpt.basics.seeds import Permutation, derive
from cleangpt.tokens.tokenizers import Tokenizer

ENDLESS = 1 << 50  # training samples, from which on nobody counts them
RUN = 1 << 40  # samples that a run sees, at most, where their number says what they are
COMPLETE = 1_000_000  # a held-out set of questions up to this size is looked at whole
AT_ONCE = 1 << 12  # samples in one batch where many are looked at
GUESSED_FROM = 1 << 12  # training samples that tell how often each token comes


@dataclass(frozen=True)
class Batch:
    """n samples of T tokens to read, as numpy arrays, or as tensors where the data lies on the device.

    What is padding has neither weight nor answer.
    """

    inputs: Any  # (n, T) int64
    targets: Any  # (n, T) int64, the token that follows
    loss_weights: np.ndarray | None = None  # (n, T) float32, what a target counts in the loss; None: 1
    answer: np.ndarray | None = None  # (n, T) bool, targets that have to be right for the sample to be; None: no answer
    real: np.ndarray | None = None  # (n, T) bool, inputs that are not padding; None: all
    documents: Any = None  # (n, T) int64, the number of each token's document, where attention stays within it
    positions: np.ndarray | None = None  # (n, T + 1) int64 of inputs and the last target; None: the place in the row

    @classmethod
    def of(
        cls,
        questions: np.ndarray,
        answers: np.ndarray,
        pad: int | None,
        loss: str = "answer",
        positions: np.ndarray | None = None,
        columns: int | None = None,
        answer: np.ndarray | None = None,
    ) -> "Batch":
        """Write questions (n, P) and answers (n, A), tokens or -1, in rows: a -1 moves behind the end as padding.

        With `loss="all"` the questions are learned too. `columns` says how long the longest row of any batch can be,
        where that is not P + A, and `answer` which tokens (n, P + A) are asked for, where that is not all of A.
        """
        tokens = np.concatenate([questions, answers], axis=1)  # (n, L)
        if (is_answer := answer) is None:
            is_answer = np.zeros(tokens.shape, bool)
            is_answer[:, questions.shape[1] :] = True
        if columns is not None and tokens.shape[1] < columns:
            more = ((0, 0), (0, columns - tokens.shape[1]))
            tokens = np.pad(tokens, more, constant_values=-1)
            is_answer = np.pad(is_answer, more)
        real = tokens >= 0
        if not real.all():
            if pad is None:
                raise UserError("rows of different lengths need a token that fills them up: give the task a `pad`")
            order = np.argsort(~real, axis=1, kind="stable")
            tokens, is_answer, real = (np.take_along_axis(x, order, axis=1) for x in (tokens, is_answer, real))
            tokens = np.where(real, tokens, pad)
            is_answer &= real
        tokens, is_answer, real = (x[:, :columns] for x in (tokens, is_answer, real))
        counted = real if loss == "all" else is_answer
        return cls(
            inputs=tokens[:, :-1],
            targets=tokens[:, 1:],
            loss_weights=counted[:, 1:].astype(np.float32),
            answer=is_answer[:, 1:],
            real=real[:, :-1],
            positions=None if positions is None else positions[:, :columns],
        )


@dataclass(frozen=True)
class Question:
    """Something to ask a model, to which one answer is right."""

    text: str  # as a person writes it
    tokens: list[int]  # as the model reads it
    right: list[int]  # the tokens of the right answer, its end included
    new_tokens: int  # of the longest answer
    read: Callable[[list[int]], str]  # an answer's tokens as a person writes them
    positions: list[int] | None = None  # of all these tokens, where they do not simply count

    def is_right(self, answer: list[int]) -> bool:
        return answer[: len(self.right)] == self.right

    def verdict(self, answer: list[int]) -> str:
        marked = "✓" if self.is_right(answer) else f"✗ it is {self.read(self.right)}"
        return f"{self.text} = {self.read(answer)} {marked}"


class Measure(NamedTuple):
    """A loss in another measure."""

    value: float
    more_is_better: bool = False


class TaskSettings(Protocol):
    """The settings of a task: a `Section` with a name."""

    @property
    def name(self) -> str: ...

    @property
    def sequence_length(self) -> int | None:
        """Count the tokens that a model reads of one sample; None: the task sets that itself."""


class Task(ABC):
    """Samples of any kind. They are scored by their loss, token by token, as text is."""

    has_answers: ClassVar[bool] = False  # whether a sample is right or wrong, so that there is an accuracy
    in_order: bool = False  # whether sample k of a run is one with index % RUN = k: samples change as training goes on
    position_rows: int = 0  # positions that its batches name, beyond those of a row
    reads_disk: bool = False  # whether to make samples ahead, since reading them may take a while
    settings: TaskSettings  # in a task's own file its `Settings`
    tokenizer: Tokenizer

    def __init__(self, settings: TaskSettings, context: int | None = None):
        """Make the task that these settings describe. `context` is what the model reads at once, where that is set."""
        self.settings = settings

    @abstractmethod
    def size(self, split: str) -> int:
        """Count the samples of train, val or test; 0 where there is no such split."""

    @abstractmethod
    def batch(self, split: str, index: np.ndarray, epoch_keys: np.ndarray | None = None) -> Batch:
        """Make the samples of these indices. In training each comes with a key of its epoch, to vary it by."""

    @cached_property
    def sequence_length(self) -> int:
        """Count the tokens that a model reads of one sample."""
        length = self.settings.sequence_length
        assert length is not None, "whose settings leave it open sets it"
        return length

    @cached_property
    def val_size(self) -> int:
        """Count the samples of val that an evaluation looks at: the first ones."""
        return min(self.size("val"), getattr(self.settings, "val_size", None) or self.size("val"))

    def place(self, device: Any) -> None:  # noqa: B027
        """Bring data to the device, if there is any."""

    def fingerprint(self) -> dict[str, str]:
        """Tell this data from other data, for a run that is resumed; {} where the settings say it all."""
        return {}

    def guessing(self) -> float:
        """Compute the loss of knowing only how often each token comes, in nats."""
        batch = self.batch("train", np.arange(min(self.size("train"), GUESSED_FROM)))
        targets = np.asarray(batch.targets)
        return entropy(np.bincount(targets.ravel() if batch.loss_weights is None else targets[batch.loss_weights > 0]))

    def measures(self, loss: float, split: str = "val") -> dict[str, Measure]:
        """Express a loss in other measures, by name."""
        return {"perplexity": Measure(math.exp(min(loss, 700.0)))}

    @property
    def more_is_better(self) -> tuple[str, ...]:
        """Name the scores that are better when they are higher; others are when they are lower."""
        return tuple(name for name, measure in self.measures(1.0).items() if measure.more_is_better)

    def facts(self, split: str) -> dict[str, Any]:
        """Add to the JSON of a score what only this task says."""
        return {}

    def key(self, *purpose: str | int) -> int:
        """Derive a key for what is drawn, apart from the seed of the run."""
        return derive(getattr(self.settings, "split_seed", 0), *purpose)


class TaskWithAnswers(Task):
    """Questions with one right answer, which counts only as a whole."""

    has_answers = True
    concludes: bool = False  # whether an answer ends in a conclusion, which may be right though the rest is not
    words: ClassVar[dict[str, str]] = {}  # how tables and pictures call what a score calls by a key; else by that key

    @property
    def sets(self) -> list[str]:
        """Name further sets that are scored, each a split like val and test."""
        return []

    @property
    def trained_to(self) -> dict[str, int]:
        """Name the largest value of a slice that is trained on, where sets go beyond it."""
        return {}

    @abstractmethod
    def ask(self, text: str) -> Question:
        """Turn what a person typed into a question; a UserError where the model could not have learned it."""

    def read_question(self, tokens: list[int]) -> str:
        """Write a question as a person does."""
        return self.tokenizer.decode(tokens)

    def read_answer(self, tokens: list[int]) -> str:
        """Write an answer as a person does, whatever a model may have given."""
        if self.tokenizer.end in tokens:
            tokens = tokens[: tokens.index(self.tokenizer.end)]
        return self.tokenizer.decode(tokens)

    def conclusion(self, tokens: list[int]) -> list[int]:
        """Take the conclusion out of the tokens of an answer, its end left out."""
        return tokens

    @property
    def title(self) -> str:
        """Name what is asked, for the heading of a score."""
        return self.settings.name

    @property
    def answer_length(self) -> int:
        """Count the tokens of the longest answer, its end included."""
        return self.sequence_length

    def count(self, split: str) -> int:
        """Count the questions of a split, even if they are more than can be numbered."""
        return self.size(split)

    def sample(self, split: str, limit: int) -> tuple[np.ndarray, np.ndarray]:
        """Choose questions that stand for a split, always the same: their indices, and what each stands for."""
        order = Permutation(self.size(split), self.key("score", split))
        return order(np.arange(limit)), np.ones(limit)

    def slices(self, split: str, index: np.ndarray) -> Mapping[str, np.ndarray | dict[str, np.ndarray]]:
        """Name whole numbers (n,) by which a score is cut: one for each question, or a dict of two such."""
        return {}

    def positions(self, split: str, index: np.ndarray) -> dict[str, np.ndarray]:
        """Map the name of a place to the token (n,) of its answer that each question has there; -1 for none."""
        lengths, ended = [], []
        for part in np.array_split(index, len(index) // AT_ONCE + 1):
            batch = self.batch(split, part)
            assert batch.answer is not None
            last = batch.answer.shape[1] - 1 - batch.answer[:, ::-1].argmax(axis=1)
            lengths.append(batch.answer.sum(axis=1))
            ended.append(batch.targets[np.arange(len(part)), last] == self.tokenizer.end)
        ends = np.where(np.concatenate(ended), np.concatenate(lengths) - 1, -1)
        counts = np.concatenate(lengths) - (ends >= 0)
        found = {str(k + 1): np.where(k < counts, k, -1) for k in range(counts.max(initial=0))}
        return {**found, "end": ends} if (ends >= 0).any() else found

    def leaked(self, split: str, index: np.ndarray) -> np.ndarray | None:
        """Tell which questions (n,) are trained on in other words; None where that can't be."""
        return None

    def measures(self, loss: float, split: str = "val") -> dict[str, Measure]:
        return {}

    @property
    def more_is_better(self) -> tuple[str, ...]:
        return ("accuracy", *super().more_is_better)

    def questions(self, batch: Batch) -> list[Question]:
        """Turn the samples of a batch into questions."""
        assert batch.answer is not None
        tokens = np.concatenate([batch.inputs[:, :1], batch.targets], axis=1)  # (n, T + 1)
        found: list[Question] = []
        most = self.answer_length
        for row, targets, answer in zip(tokens.tolist(), batch.targets, batch.answer, strict=True):
            prompt = row[: int(answer.argmax()) + 1]
            longest = min(most, len(row) - len(prompt))
            right = targets[answer].tolist()
            places = None if batch.positions is None else batch.positions[len(found)].tolist()
            found.append(Question(self.read_question(prompt), prompt, right, longest, self.read_answer, places))
        return found

    def examples(self, count: int) -> list[Question]:
        """Take a few questions that are held out."""
        return self.questions(self.batch("val", np.arange(min(count, self.size("val")))))


def entropy(counts: np.ndarray) -> float:
    """Compute the loss of guessing by these frequencies, in nats."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
