"""Arithmetic: what is asked, how it is written, and which problems, as keys put together from files of lab/.

Nothing that is trained on is materialised: problem k of a split is computed from k. Where there are two numbers of up
to 20 digits, the universe is every ordered problem (a, b); it is split by unordered pair, so that b+a is never trained
on when a+b is held out; `split: ordered` splits (a, b) itself, as others do, and so leaks.
"""

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from cleangpt.basics.errors import UserError
from cleangpt.basics.seeds import Permutation, derive, scramble
from cleangpt.basics.words import counted
from cleangpt.tasks import held_out
from cleangpt.tasks.contract import RUN, Batch, Question
from cleangpt.tasks.lab import figures, packed, positions
from cleangpt.tasks.lab.format import NO_TOKEN
from cleangpt.tasks.lab.keys import Keys, span
from cleangpt.tasks.lab.reading import Reader
from cleangpt.tasks.lab.sources import choose, drawn, listed, parts, strata
from cleangpt.tasks.lab.sources.universe import PairTask, Universe
from cleangpt.tokens.tokenizers import Characters


class Settings(Keys):
    name: Literal["arithmetic", "adder", "multiplier"] = Field(description="what is to be learned")

    @field_validator("sets")
    @classmethod
    def _make_sense(cls, sets: dict[str, Any] | None, info: ValidationInfo) -> dict[str, Any] | None:
        with contextlib.suppress(AttributeError):  # a key that it takes has a mistake of its own
            keys = cls.model_construct(**info.data, sets=sets)
            if wrong := parts.mistakes(keys):
                raise ValueError("or dataset.mixture can't be used: " + "; ".join(wrong))
            how = keys.how()
            if why := how.why_not(how.operation, keys.operands, how.style):
                raise ValueError(f"can't be written: dataset.format={keys.format} {why}")
            if why := positions.why_not(keys.positions, how):
                raise ValueError(f"can't be told of: dataset.positions={keys.positions} {why}")
            needed = positions.needed(keys.positions, how, keys.widths)
            if keys.position_range is not None and keys.position_range < needed:
                raise ValueError(f"and training need {needed} positions: set dataset.position_range to that or more")
            if how.most_digits is not None and how.answer_width(keys.widths) > how.most_digits:
                raise ValueError(
                    f"can't be written: dataset.format={keys.format} is for at most {counted(how.most_digits, 'digit')}"
                )
        return sets

    def universe(self) -> choose.Source:
        reader = Reader(self, self.how(), choose.width(self))
        return choose.source(self, reader.operands, reader.answer_of)

    @property
    def widths(self) -> list[int]:
        """Count the digits of the largest operands, of training and of all sets."""
        every = [choose.width(self), *(choose.width(self, name) for name in self.sets or ())]
        return [max(column) for column in zip(*every, strict=True)]

    @property
    def sequence_length(self) -> int:
        problem = self.how().length(self.widths) - 1
        return problem if self.layout == "rows" else max(problem, self.packed_window)

    @property
    def packed_window(self) -> int:
        return self.window or 4 * self.how().length(choose.width(self))

    @property
    def position_rows(self) -> int:
        """Count the positions that samples name; 0 where they name none."""
        if self.positions == "natural":
            return 0
        needed = positions.needed(self.positions, self.how(), self.widths)
        return max(needed, self.position_range or 0)


class Task(PairTask):
    settings: Settings

    def __init__(self, settings: Settings, context: int | None = None):
        super().__init__(settings)
        self.how, self.widths = settings.how(), settings.widths
        self.reader = Reader(settings, self.how, self.widths)
        self.named: dict[str, list[np.ndarray]] = {}  # further sets, made when they are asked for
        self.operation = self.how.operation
        if settings.changes and isinstance(self.universe, drawn.Drawn) and (rare := self.universe.rare()):
            raise UserError(f"`dataset.mixture.{rare[0]}` asks for what is too rare to be drawn: ask for less")
        if not self.count("val"):
            raise UserError(
                "`dataset.val_fraction` leaves nothing for val among the problems that are asked for: raise it"
            )
        self.tokenizer = Characters(self.how.tokens, end=self.how.end, pad=self.how.pad)
        self.position_rows = settings.position_rows
        self.positions_needed = positions.needed(settings.positions, self.how, self.widths)
        self.concludes = self.how.marker is not None and settings.loss != "conclusion"
        self.in_order = settings.changes

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
        low, high = span(self.settings.digits)
        digits = f"{low} to {high}" if isinstance(self.settings.digits, list) else high
        return f"{digits}-digit {self.operation.plural}{modulo}"

    @property
    def answer_length(self) -> int:
        if self.settings.loss == "conclusion":
            return self.how.answer_width(self.widths) + self.settings.end_token
        return self.how.answer_length(self.widths)

    def facts(self, split: str) -> dict[str, Any]:
        return {"digits": self.settings.digits, "split": split, "split_by": self.settings.split}

    def fingerprint(self) -> dict[str, str]:
        """Tell the problems of a file from others, which it may hold when a run is resumed."""
        if not isinstance(self.universe, listed.Listed):
            return {}
        rows = np.concatenate([operand.astype(np.int64) for operand in self.universe.operands], axis=1)
        return {"problems": hashlib.sha256(rows.tobytes()).hexdigest()}

    def problems(self, split: str, index: np.ndarray) -> list[np.ndarray]:
        """Look up the operands of these samples of a split, as figures."""
        if split in self.sets:
            return [operand[index] for operand in self.set(split)]
        if isinstance(self.universe, Universe):
            return self.figures(*self.pairs(split, index))
        return self.universe.problems(split, self.items(split, index))

    def set(self, name: str) -> list[np.ndarray]:
        """Return the problems of a further set."""
        if name not in self.named:
            ask, shown = self.reader.operands, self.reader.answer_of
            self.named[name] = choose.named(self.settings, name, self.is_apart, ask, shown)
            if not len(self.named[name][0]):
                raise UserError(f"`dataset.sets.{name}` holds no problem that is not trained on: ask for others")
        return self.named[name]

    @property
    def sets(self) -> list[str]:
        return list(self.settings.sets or ())

    @property
    def trained_to(self) -> dict[str, int]:
        a, b = (choose.width(self.settings) * 2)[:2]
        return {"digits": min(a, b), "length": a, "a": a, "b": b}

    def count(self, split: str) -> int:
        return len(self.set(split)[0]) if split in self.sets else super().count(split)

    def is_apart(self, operands: list[np.ndarray]) -> np.ndarray:
        """Tell which problems (n,) are neither trained on nor validated."""
        if not isinstance(self.universe, Universe):
            return self.universe.is_apart(operands)
        base, width = self.settings.base, self.settings.most
        inside = np.all([figures.counts(x) <= width for x in operands], axis=0)
        inside &= np.all([(figures.values_of(x, base) < self.settings.numbers).astype(bool) for x in operands], axis=0)
        apart = ~inside
        values = [figures.values_of(x[inside, :width], base).astype(self.universe.number_type) for x in operands]
        apart[inside] = self.universe.locate(*values)[0] == held_out.SPLITS.index("test")
        return apart

    def figures(self, *values: np.ndarray) -> list[np.ndarray]:
        """Write integers (n,) as figures."""
        base, width = self.settings.base, self.settings.most
        return [figures.written(figures.digits_of(x, width, base)) for x in values]

    def batch(self, split: str, index: np.ndarray, epoch_keys: np.ndarray | None = None) -> Batch:
        keys = epoch_keys if split == "train" else None
        if keys is None or self.settings.layout == "rows":
            return self.encode(self.problems(split, index), keys, index)
        window, confine = self.settings.packed_window, self.settings.confine
        count = packed.problems_in(window, self.how.shortest(self.settings.operands))
        place, whole = np.asarray(index)[:, None] * count + np.arange(count), super().size("train")
        for key in np.unique(keys):  # each epoch shuffles the problems, of which b+a would stand beside a+b
            here = keys == key
            place[here] = Permutation(whole, derive(int(key), "packed"))(place[here] % whole)
        place = place.reshape(-1)
        rows = self.encode(self.problems(split, place), np.repeat(keys, count), place)
        return packed.windows(rows, count, window, scramble(scramble(index, 1) ^ keys.astype(np.uint64), 2), confine)

    def size(self, split: str) -> int:
        """Count the samples of a split: in training, windows of a text may be less than problems."""
        size = super().size(split)
        if split == "train" and self.settings.layout == "packed":
            shortest = self.how.shortest(self.settings.operands)
            return max(1, size // packed.problems_in(self.settings.packed_window, shortest))
        return size

    def sample(self, split: str, limit: int) -> tuple[np.ndarray, np.ndarray]:
        s = self.settings
        whole = isinstance(self.universe, Universe) and self.universe.numbers == 10**s.most
        if whole and split in held_out.SPLITS and s.operation != "divide":
            return strata.sample(self, s.most, split, limit)
        return super().sample(split, limit)

    def slices(self, split: str, index: np.ndarray) -> Mapping[str, Any]:
        operands = self.problems(split, index)
        cuts = self.operation.cuts(operands)
        both = cuts.get("operand_lengths")
        if split in self.sets and isinstance(both, dict) and (both["a"] == both["b"]).all():
            cuts["digits"] = cuts.pop("operand_lengths")["a"]
        return cuts

    def positions(self, split: str, index: np.ndarray) -> dict[str, np.ndarray]:
        """Find the tokens of the answers as they are written, named by the power of the base that they stand for."""
        line = self.how.write(self.problems(split, index))
        answer = line.answer
        if self.settings.loss == "conclusion":
            answer = np.where(self.how.concludes(answer), answer, NO_TOKEN)
        order = np.argsort(answer < 0, axis=1, kind="stable")
        tokens, powers = (np.take_along_axis(x, order, axis=1) for x in (answer, line.answer_powers))
        widths = self.widths if split in self.sets else choose.width(self.settings)
        digits = self.how.answer_width(widths) - self.operation.is_signed
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
        if not (isinstance(self.universe, Universe) and self.operation.commutes) or split in self.sets:
            return None
        return super().leaked(split, index)

    def encode(
        self, operands: list[np.ndarray], epoch_keys: np.ndarray | None = None, index: np.ndarray | None = None
    ) -> Batch:
        """Write problems as tokens, and which of them count; with keys of their epochs positions have an offset."""
        keys = None
        if epoch_keys is not None and index is not None:
            keys = scramble(scramble(index, 1) ^ epoch_keys.astype(np.uint64), 2)
        line = self.how.write(operands, keys, None if keys is None or index is None else index % RUN)
        widths = [operand.shape[1] for operand in operands]
        longest = self.how.length(widths)
        most = self.positions_needed
        if keys is None:  # whatever other sets there are
            most = positions.needed(self.settings.positions, self.how, widths)
        places = positions.of(self.settings.positions, self.how, line, longest, most, self.position_rows, keys)
        asked = None
        if self.settings.loss == "conclusion":  # what stands before it is given
            asked = np.concatenate([np.zeros(line.question.shape, bool), self.how.concludes(line.answer)], axis=1)
        batch = Batch.of(line.question, line.answer, self.tokenizer.pad, self.settings.loss, places, longest, asked)
        if self.settings.average == "tokens":
            return batch
        assert batch.loss_weights is not None
        return replace(batch, loss_weights=batch.loss_weights / batch.loss_weights.sum(axis=1, keepdims=True))

    # ---- for people

    def question(self, *operands: int | str) -> str:
        """Write a problem as a person does."""
        return self.reader.question(*operands)

    def read_question(self, tokens: list[int]) -> str:
        return self.reader.read_question(tokens)

    def read_answer(self, tokens: list[int]) -> str:
        return self.reader.read_answer(tokens)

    def conclusion(self, tokens: list[int]) -> list[int]:
        return self.reader.conclusion(tokens)

    def ask(self, text: str) -> Question:
        """Read a problem as a person types it; refuse what the model could not have learned."""
        operands, widths = self.reader.operands(text), choose.width(self.settings)
        if any(x.shape[1] > width for x, width in zip(operands, widths, strict=True)):
            widths = self.widths  # it is one of a set
        both = zip(operands, widths, strict=True)
        return self.questions(self.encode([figures.widened(x, width) for x, width in both]))[0]
