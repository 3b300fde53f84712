"""The contract of formats: how a problem is written as tokens, and what each token stands for."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np

from cleangpt.basics.seeds import derive, uniforms
from cleangpt.tasks.lab import figures
from cleangpt.tasks.lab.operation import Operation

END, PAD = "\n", " "
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
USUAL = ["+", "*", "=", END, PAD]
NO_TOKEN = -1  # in a column that a row leaves out
SMOOTHING = 4.0  # one token more is left out with a chance of exp(-4), two with exp(-8), and so on
SYMBOL = -1  # what stands for no digit: an operator, a sign, an end


@dataclass(frozen=True)
class Style:
    """What formats have in common: symbols, zeros in front, and the order of digits. An empty symbol is not written."""

    operator: str = "+"
    equals: str = "="
    start: str = ""
    end: str = END
    space: str = ""  # around operator and equals
    pad_operands: bool = False  # with zeros
    pad_answer: bool = False
    pad_to: int = 0  # digits, or those of the longest operand in a problem, if there are more
    reversed_operands: bool = False
    reversed_answer: bool = False
    one_length: bool = False  # all rows are equally long
    removal: tuple[int, int] | None = None  # problems before the first token is left out, and from one to the next

    def symbols(self) -> list[str]:
        """List the symbols that are written, each once."""
        there = (self.start, self.operator, self.equals, self.space, self.end)
        return list(dict.fromkeys(symbol for symbol in there if symbol))


def vocabulary(
    style: Style, operation: Operation, more: list[str], usual: bool
) -> tuple[list[str], str | None, str | None]:
    """List the tokens of a format, those of digits first: their texts, the end and the padding.

    With `usual` they begin as those of sums and products do, of which either needs only a part; else there is no end
    and no padding where no row needs one.
    """
    base = operation.base
    tokens = list(DIGITS[:base]) if base <= len(DIGITS) else [str(value) for value in range(base)]
    signs = ["-", *["+"][: style.pad_answer]] if operation.is_signed else []
    end, pad = style.end or END, PAD if style.space != PAD else "_"
    tokens += USUAL if usual else []
    last = [*([end] if style.end or usual else []), *([pad] if not style.one_length or usual else [])]
    tokens += [symbol for symbol in dict.fromkeys([*style.symbols(), *signs, *more, *last]) if symbol not in tokens]
    return tokens, end if end in tokens else None, pad if pad in tokens else None


class Line(NamedTuple):
    """Problems as they are written: n questions of P columns, answers of A, -1 where a row has no token."""

    question: np.ndarray  # (n, P) tokens
    answer: np.ndarray  # (n, A) tokens
    numbers: np.ndarray  # (P,) the operand that a column belongs to, or SYMBOL
    powers: np.ndarray  # (P,) which digit of it stands there, 0 the lowest, or SYMBOL
    answer_powers: np.ndarray  # (n, A) which digit of the answer stands there, or SYMBOL


class Format(ABC):
    """A way to write problems of an operation."""

    marker: str | None = None  # stands before the answer itself, where there is more; None: there is not
    most_digits: ClassVar[int | None] = None  # of a number; None: any number
    by_step: ClassVar[bool] = True  # which digit the k-th token of an answer is, is known before it is written
    removable: ClassVar[bool] = False  # whether training can leave out what stands before the answer

    def __init__(self, operation: Operation, style: Style, usual: bool = True):
        self.operation, self.style = operation, style
        self.tokens, self.end, self.pad = vocabulary(style, operation, self.extra(), usual)
        self.ids = {token: number for number, token in enumerate(self.tokens)}
        self._lengths: dict[tuple[int, ...], int] = {}

    def extra(self) -> list[str]:
        """List the symbols that it needs beside those of the style."""
        return []

    @classmethod
    def why_not(cls, operation: Operation, operands: int, style: Style) -> str | None:
        """Say why these can't be written so, as the end of a sentence that begins with the format's name."""
        return None

    @abstractmethod
    def write(
        self, operands: list[np.ndarray], keys: np.ndarray | None = None, samples: np.ndarray | None = None
    ) -> Line:
        """Write problems with their right answers.

        In training there are keys (n,) for what a format draws, and the numbers of the samples (n,) where they change.
        """

    def concludes(self, answer: np.ndarray) -> np.ndarray:
        """Tell which tokens of answers (n, A) are the answer itself."""
        if self.marker is None:
            return np.ones(answer.shape, bool)
        marked = answer == self.ids[self.marker]
        return np.cumsum(marked, axis=1) - marked > 0

    def plain(self, tokens: list[int]) -> list[int]:
        """Take the answer itself out of the tokens of an answer, its end left out."""
        if self.marker is None:
            return tokens
        where = [place for place, token in enumerate(tokens) if token == self.ids[self.marker]]
        return tokens[where[-1] + 1 :] if where else tokens

    @abstractmethod
    def answer_length(self, widths: list[int]) -> int:
        """Count the tokens of the longest answer to operands of so many figures, its end included."""

    def question_length(self, widths: list[int]) -> int:
        """Count the tokens of the longest question about operands of so many figures."""
        s, digits = self.style, self.digits_asked(widths)
        digits += sum(bool(symbol) for symbol in (s.start, s.equals)) + (len(widths) - 1) * bool(s.operator)
        return digits + bool(s.space) * (2 * (len(widths) - 1) * bool(s.operator) + 2 * bool(s.equals))

    def length(self, widths: list[int]) -> int:
        """Count the tokens of the longest problem with operands of so many figures."""
        key = tuple(widths)
        if key not in self._lengths:
            self._lengths[key] = self.question_length(widths) + self.answer_length(widths)
        return self._lengths[key]

    def shortest(self, operands: int) -> int:
        """Count the tokens of the shortest problem."""
        zeros = [np.zeros((1, 1), np.int64)] * operands
        line = self.write(zeros)
        return int((line.question >= 0).sum() + (line.answer >= 0).sum())

    # ---- what formats are made of

    def digits_asked(self, widths: list[int]) -> int:
        """Count the digits of the longest question."""
        return max([*widths, self.style.pad_to]) * len(widths) if self.style.pad_operands else sum(widths)

    def padding(self, operands: list[np.ndarray]) -> np.ndarray:
        """Count the digits (n,) that operands are filled up to."""
        longest = np.max([figures.counts(x) for x in operands], axis=0)
        return np.maximum(longest, self.style.pad_to)

    def question(self, operands: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Write questions: tokens (n, P), and the operand and the digit that each column stands for, (P,) each."""
        s, n = self.style, len(operands[0])
        width = self.padding(operands) if s.pad_operands else None
        parts: list[tuple[np.ndarray, int, np.ndarray]] = []

        def symbol(text: str) -> None:
            if text:
                parts.append((np.full((n, 1), self.ids[text]), SYMBOL, np.array([SYMBOL])))

        symbol(s.start)
        for number, operand in enumerate(operands):
            if number and s.operator:
                symbol(s.space)
                symbol(s.operator)
                symbol(s.space)
            filled = operand if width is None else filled_up(operand, width)
            powers = np.arange(filled.shape[1])
            order = powers if s.reversed_operands else powers[::-1]
            parts.append((filled[:, order], number, order))
        if s.equals:
            symbol(s.space)
            symbol(s.equals)
            symbol(s.space)
        numbers = np.concatenate([np.full(len(powers), number) for _, number, powers in parts])
        return np.concatenate([part for part, _, _ in parts], axis=1), numbers, np.concatenate([p for _, _, p in parts])

    def answer_padding(self, operands: list[np.ndarray]) -> np.ndarray | None:
        """Count the digits (n,) that answers are filled up to; None: they are not."""
        if not self.style.pad_answer:
            return None
        filled, signed = self.padding(operands), self.operation.is_signed
        widths = [self.operation.answer_width([k] * len(operands)) - signed for k in range(filled.max(initial=0) + 1)]
        return np.array(widths)[filled]

    def answer_width(self, widths: list[int]) -> int:
        """Count the figures of the longest answer to operands of so many."""
        if self.style.pad_answer:
            widths = [max([*widths, self.style.pad_to])] * len(widths)
        return self.operation.answer_width(widths)

    def number(self, digits: np.ndarray, width: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Write answers (n, W), filled up to `width` (n,) digits: their tokens, and which digit each is."""
        negative = (digits == figures.MINUS).any(axis=1)
        signed = self.operation.is_signed
        powers = np.broadcast_to(np.arange(digits.shape[1]), digits.shape)
        if width is not None:
            unsigned = np.where(digits >= 0, digits, figures.NONE)[:, : max(width, default=1)]
            digits = filled_up(unsigned, width)
            powers = np.broadcast_to(np.arange(digits.shape[1]), digits.shape)
            if signed:
                sign = np.where(negative, self.ids["-"], self.ids["+"])[:, None]
                digits, powers = np.hstack([digits, sign]), np.hstack([powers, np.full((len(powers), 1), SYMBOL)])
        elif signed:
            powers = np.where(digits == figures.MINUS, SYMBOL, powers)
            digits = np.where(digits == figures.MINUS, self.ids["-"], digits)
        powers = np.where(digits == figures.NONE, SYMBOL, powers)
        return (digits, powers) if self.style.reversed_answer else (digits[:, ::-1], powers[:, ::-1])

    def closed(self, tokens: np.ndarray, powers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Put the end behind answers, if there is one."""
        if not self.style.end:
            return tokens, powers
        add = ((0, 0), (0, 1))
        end = np.pad(tokens, add, constant_values=self.ids[self.style.end])
        return end, np.pad(powers, add, constant_values=SYMBOL)


class Scratchpad(Format):
    """A result of two numbers with what has to be written down before it."""

    SYMBOLS: ClassVar[str]  # that it needs
    OF: ClassVar[tuple[str, str]] = ("add", "sums")  # the operation that it is for, and its results
    marker, by_step = ".", False

    def extra(self) -> list[str]:
        return list(self.SYMBOLS)

    @classmethod
    def why_not(cls, operation: Operation, operands: int, style: Style) -> str | None:
        name, results = cls.OF
        if operation.plural != results or operands != 2 or operation.modulus is not None:
            return f"is for {results} of two numbers: set dataset.operation={name} and dataset.operands=2"
        return None

    @abstractmethod
    def steps(self, operands: list[np.ndarray]) -> list[np.ndarray]:
        """Write what comes before the result: columns of tokens (n,), with the marker last."""

    def write(
        self, operands: list[np.ndarray], keys: np.ndarray | None = None, samples: np.ndarray | None = None
    ) -> Line:
        answer, powers = self.number(self.operation.answer(operands), self.answer_padding(operands))
        before = np.stack(self.steps(operands), axis=1)
        if self.style.removal:
            before = self.shortened(before, keys, samples)
        tokens = np.concatenate([before, answer], axis=1)
        places = np.concatenate([np.full(before.shape, SYMBOL), powers], axis=1)
        question, numbers, own = self.question(operands)
        tokens, places = self.closed(tokens, places)
        return Line(question, tokens, numbers, own, places)

    def shortened(self, before: np.ndarray, keys: np.ndarray | None, samples: np.ndarray | None) -> np.ndarray:
        """Leave out the first of these tokens (n, S), as many as it is time for, or all but the marker."""
        there, marked = before >= 0, before == self.ids[self.marker]
        if samples is None or keys is None or self.style.removal is None:
            return np.where(marked, before, NO_TOKEN)
        after, every = self.style.removal
        removed = np.where(samples < after, 0, 1 + (samples - after) // every)
        ahead = -np.log(uniforms(derive(4, "removal"), keys)) / SMOOTHING  # a few are ahead of their time
        removed = removed + ahead.astype(np.int64) * (removed > 0)
        return np.where(there & ((np.cumsum(there, axis=1) > removed[:, None]) | marked), before, NO_TOKEN)

    def answer_length(self, widths: list[int]) -> int:
        nines = [np.full((1, width), self.operation.base - 1) for width in widths]
        whole = type(self)(self.operation, replace(self.style, removal=None))
        return int((whole.write(nines).answer >= 0).sum())

    def text(self, words: str, there: np.ndarray) -> list[np.ndarray]:
        """Write a few symbols, a column each, in the rows (n,) that have them."""
        return [np.where(there, self.ids[symbol], NO_TOKEN) for symbol in words]


def filled_up(digits: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Put zeros before numbers (n, W), up to `width` (n,) digits."""
    digits = figures.widened(digits, max(digits.shape[1], int(width.max(initial=0))))
    return np.where((np.arange(digits.shape[1]) < width[:, None]) & (digits < 0), 0, digits)
