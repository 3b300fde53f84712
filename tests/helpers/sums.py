"""Tasks of arithmetic, and problems written out plainly."""

from cleangpt.basics.schema import parse
from cleangpt.tasks.arithmetic import Settings, Task

ADDER = {
    "name": "adder",
    "digits": 3,
    "padded": True,
    "reversed": True,
    "symbols": True,
    "end_token": True,
    "loss": "answer",
    "split": "unordered",
    "split_seed": 0,
    "val_fraction": 0.02,
    "test_fraction": 0.15,
    "train_size": None,
    "val_size": 2000,
}


def settings(**changes) -> Settings:
    """Settings of an arithmetic task: those of the adder, but for the changes."""
    return parse({**ADDER, **changes}, Settings)


def arithmetic(**changes) -> Task:
    return Task(settings(**changes))


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
