"""Scores as files: what eval/score.py and the end of a training both do."""

from pathlib import Path
from typing import Any

from cleangpt import files


def save_suite(score: dict[str, Any], folder: Path, label: str) -> list[Path]:
    """One JSON of what a suite of others found."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{score['suite']}_{label}.json"
    files.write_json(path, score)
    return [path]


def save(task: Any, score: dict[str, Any], folder: Path, label: str, draws: bool = True) -> list[Path]:
    """One JSON a scoring, named by what was scored and how, and its pictures beside it."""
    name = f"{score['split']}_{label}"
    if score["method"] != "forced":
        name += f"_{score['method']}"
    if not score["complete"]:
        name += f"_{score.get('problems') or score['windows']}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    files.write_json(path, {"weights": label, **score})
    return [path, *(task.plots(score, folder, name) if draws else [])]
