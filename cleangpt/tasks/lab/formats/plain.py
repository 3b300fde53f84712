"""Question and answer: 12+7=19."""

import numpy as np

from cleangpt.tasks.lab import format
from cleangpt.tasks.lab.format import Line


class Format(format.Format):
    def write(
        self, operands: list[np.ndarray], keys: np.ndarray | None = None, samples: np.ndarray | None = None
    ) -> Line:
        answer = self.operation.answer(operands)
        tokens, powers = self.closed(*self.number(answer, self.answer_padding(operands)))
        question, numbers, places = self.question(operands)
        return Line(question, tokens, numbers, places, powers)

    def answer_length(self, widths: list[int]) -> int:
        return self.answer_width(widths) + bool(self.style.end)
