"""A letter before each digit that names its place: c1b2a8+c3b6a7=a5b9c4

The index hints of Zhou et al., "What Algorithms can Transformers Learn?", 2024. In training the letters begin at a
random one, so that the model meets those that only longer numbers have.
"""

from string import ascii_letters

import numpy as np

from cleangpt.basics.seeds import derive, scramble
from cleangpt.tasks.lab import format
from cleangpt.tasks.lab.format import SYMBOL, Line, Style
from cleangpt.tasks.lab.format import Format as Base
from cleangpt.tasks.lab.operation import Operation

LETTERS = ascii_letters


class Format(Base):
    by_step, most_digits = False, len(LETTERS)

    def extra(self) -> list[str]:
        return list(LETTERS)

    @classmethod
    def why_not(cls, operation: Operation, operands: int, style: Style) -> str | None:
        if operation.base > 10:
            return "has letters of its own: set dataset.base to 10 or less"
        if operation.is_signed:
            return "has no letter for a sign: set dataset.operation=add, or a modulus"
        return None

    def write(
        self, operands: list[np.ndarray], keys: np.ndarray | None = None, samples: np.ndarray | None = None
    ) -> Line:
        tokens, powers = self.number(self.operation.answer(operands), self.answer_padding(operands))
        question, numbers, places = self.question(operands)
        n, most = len(question), self.answer_width([operand.shape[1] for operand in operands])
        offset = np.zeros(n, np.int64)
        if keys is not None:
            offset = (scramble(keys, derive(4, "hints")) % np.uint64(max(1, len(LETTERS) - most + 1))).astype(np.int64)
        asked, own = self._hinted(question, np.broadcast_to(places, question.shape), offset)
        answer, which = self._hinted(tokens, powers, offset)
        answer, which = self.closed(answer, which)
        return Line(asked, answer, np.repeat(numbers, 2), own[0] if n else np.repeat(places, 2), which)

    def _hinted(self, tokens: np.ndarray, powers: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Put a letter before each digit; its power stays with the digit."""
        n, columns = tokens.shape
        letters = self.ids[LETTERS[0]] + (powers + offset[:, None]) % len(LETTERS)
        hints = np.where((tokens >= 0) & (powers != SYMBOL), letters, format.NO_TOKEN)
        both, places = np.empty((n, 2 * columns), np.int64), np.full((n, 2 * columns), SYMBOL)
        both[:, ::2], both[:, 1::2], places[:, 1::2] = hints, tokens, powers
        return both, places

    def question_length(self, widths: list[int]) -> int:
        return super().question_length(widths) + self.digits_asked(widths)

    def answer_length(self, widths: list[int]) -> int:
        return 2 * self.answer_width(widths) + bool(self.style.end)

    def plain(self, tokens: list[int]) -> list[int]:
        letters = range(self.ids[LETTERS[0]], self.ids[LETTERS[0]] + len(LETTERS))
        return [token for token in tokens if token not in letters]
