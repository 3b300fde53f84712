"""Scores as files: what eval/score.py and the end of a training both do."""

from pathlib import Path
from typing import Any

from cleangpt.basics import files
from cleangpt.score import of_task
from cleangpt.tasks.contract import Task


def save_suite(score: dict[str, Any], folder: Path, label: str) -> list[Path]:
    """One JSON of what a suite of others found."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{score['suite']}_{label}.json"
    files.write_json(path, score)
    return [path]


def save(score: dict[str, Any], folder: Path, label: str) -> Path:
    """One JSON a scoring, named by what was scored and how."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{_name(score, label)}.json"
    files.write_json(path, {"weights": label, **score})
    return path


def draw(task: Task, score: dict[str, Any], folder: Path, label: str) -> list[Path]:
    """Its pictures beside it."""
    return of_task.plots(task, score, folder, _name(score, label))


def _name(score: dict[str, Any], label: str) -> str:
    name = f"{score['split']}_{label}"
    if score["method"] != "forced":
        name += f"_{score['method']}"
    if not score["complete"]:
        name += f"_{score.get('problems') or score['windows']}"
    return name
