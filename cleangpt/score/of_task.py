"""The score of a model on its task, whichever kind of task that is."""

from pathlib import Path
from types import ModuleType
from typing import Any

from cleangpt.score import arithmetic, language
from cleangpt.score.evaluate import ALONE, Judge, Watch


def _scorer(has_answers: bool) -> ModuleType:
    return arithmetic if has_answers else language


def score(task: Any, judge: Judge, split: str, limit: int | None, method: str, watch: Watch = ALONE) -> dict[str, Any]:
    """Score a model on a split of its task, as a plain dict; `watch` is told how far it is.

    Whoever prints and stores the score reads split, method, complete, problems or windows, seconds,
    forced_equals_decoded.
    """
    return _scorer(task.has_answers).score(task, judge, split, limit, method, watch)


def tables(task: Any, score: dict[str, Any]) -> list:
    """Lay out a score as tables for a person."""
    return _scorer(task.has_answers).tables(score)


def plots(task: Any, score: dict[str, Any], folder: Path, name: str) -> list[Path]:
    """Draw a score as pictures; their paths."""
    return _scorer(task.has_answers).plots(score, folder, name)


def show(task: Any, judge: Judge, count: int) -> list[str]:
    """Write a few samples with the model's answers, a line each."""
    return _scorer(task.has_answers).show(task, judge, count)
