"""Decide whether a training continues a run, and with which configuration."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from cleangpt.basics import files
from cleangpt.basics.errors import UserError
from cleangpt.basics.schema import derived, leaves
from cleangpt.config.asked import Asked
from cleangpt.config.experiment import Config, parse
from cleangpt.disk.rundir import RunDir, latest, read_config
from cleangpt.hf import pretrained

Decision = tuple[RunDir, Asked[Config], Path | None]  # the last is the run or snapshot to resume from
IS_THE_RUN = ("model", "dataset", "seed")  # another value of these is another run


def decide(asked: Asked[Config], run: RunDir, restarted: bool) -> Decision:
    """Decide on the run directory, what was asked with the configuration that it comes to, and what to resume from.

    `restarted` says that this launch has begun or resumed its run already: then its newest snapshot counts.
    """
    config = asked.config
    if config.resume not in (None, "auto"):
        if config.init_from is not None:
            raise UserError("`init_from` begins a run and `resume` continues one: leave one of them out")
        path, run = _named(config.resume), directory(config, run)
        if not run.snapshot_folders():
            raise UserError(f"`resume` is {config.resume}, which has no snapshot to continue from")
        source = path if _is_snapshot(path) and not restarted else run.path
        return run, replace(asked, config=_stored(run, source, asked)), source
    if run.snapshot_folders() and (config.resume == "auto" or restarted):
        return run, replace(asked, config=_stored(run, run.path, asked)), run.path
    if run.holds_a_run() and config.resume is None and not restarted:
        raise UserError(
            f"{run.shown()} holds a run already: continue it with resume=auto, or choose another hydra.run.dir"
        )
    if config.init_from is not None:
        asked = replace(asked, config=pretrained.adopt(asked))
    return run, asked, None


def directory(config: Config, proposed: RunDir) -> RunDir:
    """Find where to train: the run that `resume` names, or a part of, or else the directory that was proposed."""
    if config.resume in (None, "auto"):
        return proposed
    path = _named(config.resume)
    return RunDir(path.parent.parent if _is_snapshot(path) else path)


def _named(resume: str) -> Path:
    path = Path(resume) if resume != "latest" else latest()
    if path is None or not path.is_dir():
        raise UserError(f"`resume` is {resume}, and there is no such folder: name a run or a snapshot")
    return path.resolve()


def _is_snapshot(path: Path) -> bool:
    return path.name.startswith("step_")


def _stored(run: RunDir, folder: Path, asked: Asked[Config]) -> Config:
    """Lay the values of this command line over the run's own configuration."""
    stored = read_config(folder / "config.json").model_dump(mode="json")
    before = copy.deepcopy(stored)
    data = asked.config.model_dump(mode="json")
    for key, word in asked.given.items():
        if key in ("resume", "init_from"):
            continue
        if key in ("experiment", "sweep"):
            if not _began_with(run, word):
                raise UserError(f"`{word}` can't be changed when a run is resumed: leave it out")
            continue
        value = _get(data, key)
        if (key, value) == ("dtype", "auto"):  # decided when the run began, and not anew
            continue
        if key == "dataset":  # what the prepared data decided then is not chosen anew by naming its group
            value = value | dict.fromkeys(asked.config.dataset.from_data)
        # What a group leaves open was filled in by the run. A goal has one bound, and no group leaves the other open.
        is_group = isinstance(value, dict) and key != "train.stop_when"
        _set(stored, key, _filled(value, _get(stored, key)) if is_group else value)
    old, new = leaves(before), leaves(stored)
    changed = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    refused = [
        f"{key}: {_word(old.get(key))} there, {_word(new.get(key))} here" for key in sorted(changed) if _is_the_run(key)
    ]
    if refused:
        raise UserError(
            f"resuming {run.shown()} can't change what it is ({'; '.join(refused)}): leave that out, or start a new "
            "run with init_from="
        )
    _let_follow(stored, old, changed, changed | set(asked.given))
    return parse({**stored, "resume": asked.config.resume})


def _is_the_run(key: str) -> bool:
    return key.split(".")[0] in IS_THE_RUN or key == "optimizer.name"  # whose state the snapshot holds


def _let_follow(stored: dict[str, Any], before: dict[str, Any], changed: set[str], said: set[str]) -> None:
    """Derive values anew that were derived from one that has changed, but for those that this command line says.

    `before` has the values of the run so far by key.
    """
    marks, moved = derived(Config, stored), set(changed)
    for _ in marks:  # what follows from one that moves itself moves in a later round
        for key, mark in marks.items():
            if key not in said and moved.intersection(mark.of(key)) and before.get(key) == mark.follows(key, before):
                moved.add(key)
                _set(stored, key, None)


def _filled(new: dict[str, Any], stored: Any) -> dict[str, Any]:
    filled = {}
    for key, value in new.items():
        there = stored.get(key) if isinstance(stored, dict) else None
        filled[key] = _filled(value, there) if isinstance(value, dict) else there if value is None else value
    return filled


def _began_with(run: RunDir, word: str) -> bool:
    try:
        return word in files.read_json(run.run)["overrides"]
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _get(data: Any, key: str) -> Any:
    for part in key.split("."):
        data = data.get(part) if isinstance(data, dict) else None
    return data


def _set(data: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        data = data[part]
    data[last] = value


def _word(value: Any) -> str:
    """Write a value as a command line has it."""
    return value if isinstance(value, str) else json.dumps(value)
