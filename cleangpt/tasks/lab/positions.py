"""Which position each token has, from what it stands for; those of an answer are known before it is written.

    natural        its place in the row: models count that themselves
    random_start   the same, from a random place on in training
    randomized     rising positions, drawn from a range in training (Ruoss et al., 2023)
    coupled        digits of one power have one position, in operands and answer (Cho et al., 2024)
    abacus         the place of a digit within its number, from 1 on (McLeish et al., 2024)

What is random in training lets the model meet positions that only longer problems need. Elsewhere there is no offset.
"""

import numpy as np

from cleangpt.basics.seeds import derive, scramble
from cleangpt.tasks.lab.format import SYMBOL, Format, Line


def why_not(kind: str, how: Format) -> str | None:
    """Say why these positions can't be given, as the end of a sentence that begins with their name."""
    style = how.style
    if kind in ("coupled", "abacus") and not how.by_step:
        return "has to know which digit comes next, which dataset.format does not say: set dataset.format=plain"
    if kind == "coupled" and not style.reversed_answer and not style.pad_answer:
        return "has to know which digit comes first: set dataset.reversed or dataset.padded to true"
    return None


def needed(kind: str, how: Format, widths: list[int]) -> int:
    """Count the positions that problems with operands of so many figures have, without any offset."""
    question, answer = how.question_length(widths), how.answer_length(widths)
    if kind in ("coupled", "abacus"):
        return 2 + max(*widths, answer)
    return question + answer - (kind != "randomized")


def of(
    kind: str, how: Format, line: Line, columns: int, most: int, rows: int, keys: np.ndarray | None
) -> np.ndarray | None:
    """Give the tokens of written problems, in so many columns, their positions (n, columns); None: natural ones.

    `rows` is the number of positions that there are, and `most` how many the longest problem of the task has. With
    keys (n,), one a sample, there are random offsets.
    """
    if kind == "natural":
        return None
    n = len(line.question)
    asked = (line.question >= 0).sum(axis=1)
    if kind in ("random_start", "randomized"):
        if kind == "random_start":
            start = np.zeros(n, np.int64) if keys is None else _below(rows - most + 1, keys)
            return np.arange(columns) + start[:, None]
        if keys is None:
            return np.broadcast_to(np.arange(columns) * (rows // most), (n, columns))
        chances = np.stack([scramble(keys, derive(3, place)) for place in range(rows)], axis=1)
        return np.sort(np.argsort(chances, axis=1)[:, :columns], axis=1)
    question, steps = _coupled(how, line, columns) if kind == "coupled" else _abacus(line, columns)
    offset = np.zeros(n, np.int64) if keys is None else _below(rows - most + 1, keys)
    question, steps = (np.where(x > 0, x + offset[:, None], 0) for x in (question, np.minimum(steps, most - 1)))
    order = np.argsort(line.question < 0, axis=1, kind="stable")
    question = np.take_along_axis(question, order, axis=1)
    place = np.arange(columns)
    step = np.maximum(place - asked[:, None], 0)
    padded = np.pad(question[:, :columns], ((0, 0), (0, max(0, columns - question.shape[1]))))
    return np.where(place < asked[:, None], padded, np.take_along_axis(steps, step, axis=1))


def _below(limit: int, keys: np.ndarray) -> np.ndarray:
    """Draw whole numbers (n,) from 0 on, below this."""
    return (scramble(keys, derive(2, "offset")) % np.uint64(max(1, limit))).astype(np.int64)


def _coupled(how: Format, line: Line, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Count powers from 2 on: symbols that stand before a number have 1, so that the lowest digit follows them."""
    ids = np.broadcast_to(np.where(line.powers == SYMBOL, 1, line.powers + 2), line.question.shape)
    steps = np.broadcast_to(np.arange(columns), (len(ids), columns))
    if how.style.reversed_answer:
        return ids, steps + 2
    digits = (line.answer_powers != SYMBOL).sum(axis=1)[:, None]
    return ids, np.where(steps < digits, digits - 1 - steps + 2, 1)


def _abacus(line: Line, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Count the digits of each number as they are written, from 1 on; symbols have 0."""
    ids = np.zeros(line.question.shape, np.int64)
    for number in range(line.numbers.max(initial=SYMBOL) + 1):
        own = line.numbers == number
        ids[:, own] = np.cumsum(line.question[:, own] >= 0, axis=1)
    return ids, np.broadcast_to(np.arange(1, columns + 1), (len(ids), columns))
