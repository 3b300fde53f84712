"""The score of a model on its task, whichever kind of task that is."""

from pathlib import Path
from types import ModuleType
from typing import Any

from cleangpt.score import exact_match, language
from cleangpt.score.evaluate import ALONE, Judge, Watch
from cleangpt.tasks.contract import Task


def _scorer(has_answers: bool) -> ModuleType:
    return exact_match if has_answers else language


def score(task: Task, judge: Judge, split: str, limit: int | None, method: str, watch: Watch = ALONE) -> dict[str, Any]:
    """Score a model on a split of its task, as a plain dict; `watch` is told how far it is.

    Whoever prints and stores the score reads split, method, complete, problems or windows, seconds,
    forced_equals_decoded.
    """
    return _scorer(task.has_answers).score(task, judge, split, limit, method, watch)


def tables(task: Task, score: dict[str, Any]) -> list:
    """Lay out a score as tables for a person."""
    return _scorer(task.has_answers).tables(task, score)


def plots(task: Task, score: dict[str, Any], folder: Path, name: str) -> list[Path]:
    """Draw a score as pictures; their paths."""
    return _scorer(task.has_answers).plots(task, score, folder, name)


def headline(task: Task, score: dict[str, Any]) -> dict[str, Any]:
    """Return what of a score goes into summary.json, by name."""
    return _scorer(task.has_answers).headline(task, score)


def show(task: Task, judge: Judge, count: int) -> list[str]:
    """Write a few samples with the model's answers, a line each."""
    return _scorer(task.has_answers).show(task, judge, count)
