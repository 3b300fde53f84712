"""The score of a model on its task, whichever kind of task that is: made, shown and kept."""

from pathlib import Path
from types import ModuleType
from typing import Any

from cleangpt.basics import files
from cleangpt.score import exact_match, language, layout
from cleangpt.score.evaluate import ALONE, Judge, Shown, Watch
from cleangpt.tasks.contract import Task
from cleangpt.terminal.narrow import Table


def _scorer(task: Task) -> ModuleType:
    return exact_match if task.has_answers else language


def score(
    task: Task, judge: Judge, split: str, limit: int | None, method: str, watch: Watch = ALONE, **more: Any
) -> dict[str, Any]:
    """Score a model on a split of its task, as a plain dict; `watch` is told how far it is.

    `more` is for problems only: how they are asked, and which further sets are scored.

    Whoever prints and stores the score reads split, method, complete, problems or windows, seconds,
    forced_equals_decoded.
    """
    return _scorer(task).score(task, judge, split, limit, method, watch, **more)


def tables(task: Task, score: dict[str, Any]) -> list[Table]:
    """Lay out a score as tables for a person."""
    return (layout if task.has_answers else language).tables(task, score)


def headline(task: Task, score: dict[str, Any]) -> dict[str, Any]:
    """Return what of a score goes into summary.json, by name."""
    names = ("accuracy", "problems") if task.has_answers else ("loss", *task.measures(1.0), "tokens")
    sets = {f"{name}/{key}": found[key] for name, found in score.get("sets", {}).items() for key in names}
    return {name: score[name] for name in names} | sets


def show(task: Task, judge: Judge, count: int) -> list[Shown]:
    """Have the model answer, or go on from, a few samples of validation."""
    return _scorer(task).show(task, judge, count)


def save(score: dict[str, Any], folder: Path, label: str) -> Path:
    """Write a score as JSON, named by what was scored and how."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{_name(score, label)}.json"
    files.write_json(path, {"weights": label, **score})
    return path


def draw(task: Task, score: dict[str, Any], folder: Path, label: str) -> list[Path]:
    """Draw a score as pictures beside its JSON; their paths."""
    return (layout if task.has_answers else language).plots(task, score, folder, _name(score, label))


def _name(score: dict[str, Any], label: str) -> str:
    name = f"{score['split']}_{label}"
    if "asked" in score or "prefix" in score:
        name += "_asked"
    if score["method"] != "forced":
        name += f"_{score['method']}"
    return name if score["complete"] else f"{name}_{score.get('problems') or score['windows']}"
