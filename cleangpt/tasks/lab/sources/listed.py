"""Problems of a file: a line each, as a person writes them, with or without the answer."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cleangpt.basics.errors import UserError
from cleangpt.tasks.lab import figures
from cleangpt.tasks.lab.operation import Operation
from cleangpt.tasks.lab.sources.drawn import HeldOut

Parse = Callable[[str], list[np.ndarray]]  # a question as a person types it, to operands of one row each


def read(path: Path, operation: Operation, parse: Parse, shown: Callable[[np.ndarray], str]) -> list[np.ndarray]:
    """Read the problems of a file: operands (n, W) each, every problem once. A wrong answer is refused."""
    lines = _lines(path)
    found: dict[str, list[np.ndarray]] = {}
    for number, line in enumerate(lines, start=1):
        question, answer = [*re.split("=", line, maxsplit=1), ""][:2]
        if not question.strip():
            continue
        try:
            operands = parse(question)
        except UserError as error:
            raise UserError(f"{path}, line {number}: {error}") from None
        right = shown(operation.answer(operands)[0])
        said = answer.strip() if operation.strings else answer.strip().lstrip("0") or answer.strip()[:1]
        if said and said != right:
            raise UserError(f"{path}, line {number}: {line.strip()!r} is wrong, it is {right}")
        found.setdefault(" ".join(str(operand[operand >= 0].tolist()) for operand in operands), operands)
    if not found:
        raise UserError(f"{path} holds no problem: write one in each line, as 12+7=19")
    width = max(operand.shape[1] for operands in found.values() for operand in operands)
    columns = zip(*found.values(), strict=True)
    return [np.concatenate([figures.widened(operand, width) for operand in column]) for column in columns]


def longest(path: Path) -> int:
    """Count the digits of the longest operand in a file."""
    return max(
        (len(number) for line in _lines(path) for number in re.findall("[0-9a-z]+", re.split("=", line)[0])), default=1
    )


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read ({error}): name a text file with a problem in each line") from None


class Listed:
    """The problems of a file, held out by a hash."""

    def __init__(self, operands: list[np.ndarray], held_out: HeldOut):
        self.operands, self.held_out = operands, held_out
        place = held_out.place(operands)
        self.rows = {split: np.flatnonzero(place == number) for number, split in enumerate(("train", "val", "test"))}

    def count(self, split: str) -> int:
        return len(self.rows[split])

    def problems(self, split: str, item: np.ndarray) -> list[np.ndarray]:
        """Return the operands of these items of a split."""
        return [operand[self.rows[split][item]] for operand in self.operands]

    def is_apart(self, operands: list[np.ndarray]) -> np.ndarray:
        """Tell which problems (n,) are never trained on nor validated."""
        return self.held_out.place(operands) == 2
