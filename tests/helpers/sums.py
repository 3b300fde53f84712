"""Tasks of arithmetic, and problems written out plainly."""

import numpy as np

from cleangpt.basics.schema import parse
from cleangpt.tasks.arithmetic import Settings, Task
from cleangpt.tasks.contract import Batch, Question

ADDER = {
    "name": "adder",
    "operation": "add",
    "modulus": None,
    "base": 10,
    "operands": 2,
    "digits": 3,
    "digits_b": None,
    "lengths": "value",
    "mixture": None,
    "exclude_operands": None,
    "exclude_digits": None,
    "source": None,
    "format": "plain",
    "remove_after": None,
    "remove_every": None,
    "padded": True,
    "padded_to": None,
    "reversed": True,
    "symbols": True,
    "operator": None,
    "equals": "=",
    "start": "",
    "space": "",
    "end_token": True,
    "vocabulary": "usual",
    "layout": "rows",
    "window": None,
    "confine": False,
    "positions": "natural",
    "position_range": None,
    "sets": None,
    "loss": "answer",
    "average": "tokens",
    "split": "unordered",
    "split_seed": 0,
    "val_fraction": 0.02,
    "test_fraction": 0.15,
    "test_size": 10_000,
    "train_size": None,
    "val_size": 2000,
}


def settings(**changes) -> Settings:
    """Settings of an arithmetic task: those of the adder, but for the changes."""
    operation = "multiply" if changes.get("name") == "multiplier" else "add"
    return parse({**ADDER, "operation": operation, **changes}, Settings)


def arithmetic(**changes) -> Task:
    return Task(settings(**changes))


def laboratory(**changes) -> Task:
    """A task of dataset=arithmetic: sums of three digits, but for the changes."""
    return Task(settings(name="arithmetic", **changes))


def questions_of(task: Task, split: str, count: int = 200) -> list[Question]:
    """The first questions of a split, with keys of an epoch."""
    index = np.arange(min(count, task.size(split)))
    return task.questions(task.batch(split, index, index))


def encode(task: Task, a: np.ndarray, b: np.ndarray) -> Batch:
    """Write problems of these integers (n,) as tokens."""
    return task.encode(task.figures(a, b))


def written(s: Settings, a: int, b: int) -> tuple[str, str]:
    """Prompt and answer of a problem as text: slow, plain, and independent of the task's own encoder."""
    result = a + b if s.name == "adder" else a * b
    width = s.digits + 1 if s.name == "adder" else 2 * s.digits
    left, right, answer = str(a), str(b), str(result)
    if s.padded:
        left, right, answer = left.zfill(s.digits), right.zfill(s.digits), answer.zfill(width)
    operator, equals = ("+" if s.name == "adder" else "*", "=") if s.symbols else ("", "")
    answer = answer[::-1] if s.reversed else answer
    return left + operator + right + equals, answer + ("\n" if s.end_token else "")
