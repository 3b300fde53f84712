"""Whether a training continues a run, and with which configuration."""

import copy
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from cleangpt.basics import files
from cleangpt.basics.errors import UserError
from cleangpt.basics.schema import leaves
from cleangpt.config.experiment import Config, parse
from cleangpt.hf import pretrained
from cleangpt.runs.rundir import LATEST, RunDir, read_config

IS_THE_RUN = ("model", "dataset", "seed")  # another value of these is another run
FOLLOWS = {"optimizer.lr": "schedule.lr", "optimizer.weight_decay": "schedule.weight_decay"}


def decide(config: Config, run: RunDir, overrides: list[str], restarted: bool) -> tuple[RunDir, Config, Path | None]:
    """The run directory, the configuration and what to resume from, if anything.

    `restarted` says that this launch has begun or resumed its run already: then its newest snapshot counts.
    """
    if config.resume not in (None, "auto"):
        if config.init_from is not None:
            raise UserError("`init_from` begins a run and `resume` continues one: leave one of them out")
        path, run = _named(config.resume), directory(config, run)
        if not run.snapshot_folders():
            raise UserError(f"`resume` is {config.resume}, which has no snapshot to continue from")
        source = path if _is_snapshot(path) and not restarted else run.path
        return run, _stored(run, source, config, overrides), source
    if run.snapshot_folders() and (config.resume == "auto" or restarted):
        return run, _stored(run, run.path, config, overrides), run.path
    if run.holds_a_run() and config.resume is None and not restarted:
        raise UserError(
            f"{run.shown()} holds a run already: continue it with resume=auto, or choose another hydra.run.dir"
        )
    if config.init_from is not None:
        config = pretrained.adopt(config, overrides)
    return run, config, None


def directory(config: Config, proposed: RunDir) -> RunDir:
    """Where to train: the run that `resume` names, or a part of, or else the directory that was proposed."""
    if config.resume in (None, "auto"):
        return proposed
    path = _named(config.resume)
    return RunDir(path.parent.parent if _is_snapshot(path) else path)


def _named(resume: str) -> Path:
    path = Path(resume) if resume != "latest" else LATEST
    if not path.is_dir():
        raise UserError(f"`resume` is {resume}, and there is no such folder: name a run or a snapshot")
    return path.resolve()


def _is_snapshot(path: Path) -> bool:
    return path.name.startswith("step_")


def _stored(run: RunDir, folder: Path, composed: Config, overrides: list[str]) -> Config:
    """The run's own configuration, with the values of this command line laid over it."""
    stored = read_config(folder / "config.json").model_dump(mode="json")
    before = copy.deepcopy(stored)
    data = composed.model_dump(mode="json")
    named = set()
    for line in overrides:
        key = OverridesParser.create().parse_override(line).key_or_group
        named.add(key)
        if key in ("resume", "init_from") or key.startswith("hydra"):
            continue
        if key in ("experiment", "sweep"):
            if not _began_with(run, line):
                raise UserError(f"`{line}` can't be changed when a run is resumed: leave it out")
            continue
        value = _get(data, key)
        if (key, value) == ("dtype", "auto"):  # decided when the run began, and not anew
            continue
        if key == "dataset":  # what the prepared data decided then is not chosen anew by naming its group
            value = value | dict.fromkeys(composed.dataset.from_data)
        # What a group leaves open was filled in by the run. A goal has one bound, and no group leaves the other open.
        is_group = isinstance(value, dict) and key != "train.stop_when"
        _set(stored, key, _filled(value, _get(stored, key)) if is_group else value)
    old, new = leaves(before), leaves(stored)
    changed = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    refused = [f"{key}: {old.get(key)} there, {new.get(key)} here" for key in sorted(changed) if _is_the_run(key)]
    if refused:
        raise UserError(
            f"resuming {run.shown()} can't change what it is ({'; '.join(refused)}): leave that out, or start a new "
            "run with init_from="
        )
    _let_follow(stored, before, changed, named)
    return parse({**stored, "resume": composed.resume})


def _is_the_run(key: str) -> bool:
    return key.split(".")[0] in IS_THE_RUN or key == "optimizer.name"  # whose state the snapshot holds


def _let_follow(stored: dict[str, Any], before: dict[str, Any], changed: set[str], named: set[str]) -> None:
    """Values that were derived from one that has changed are derived anew, but for those that are named."""
    said = changed | named
    for source, ramp in FOLLOWS.items():
        begin = _get(before, f"{ramp}.begin")
        moved = source in changed and f"{ramp}.begin" not in said and begin == _get(before, source)
        if moved:
            _set(stored, f"{ramp}.begin", None)
        ends_alike = f"{ramp}.end" not in said and _get(before, f"{ramp}.end") == begin
        if (moved or f"{ramp}.begin" in changed) and ends_alike:
            _set(stored, f"{ramp}.end", None)
    lr, matrix_lr = (_get(before, f"optimizer.{key}") for key in ("lr", "matrix_lr"))
    if "optimizer.lr" in changed and "optimizer.matrix_lr" not in said and matrix_lr == 2 * lr:
        _set(stored, "optimizer.matrix_lr", None)
    horizon, steps = (_get(before, key) for key in ("schedule.steps", "train.steps"))
    if "train.steps" in changed and "schedule.steps" not in said and horizon == steps:
        _set(stored, "schedule.steps", None)


def _filled(new: dict[str, Any], stored: Any) -> dict[str, Any]:
    filled = {}
    for key, value in new.items():
        there = stored.get(key) if isinstance(stored, dict) else None
        filled[key] = _filled(value, there) if isinstance(value, dict) else there if value is None else value
    return filled


def _began_with(run: RunDir, line: str) -> bool:
    try:
        return line in files.read_json(run.run)["overrides"]
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _get(data: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        data = data.get(part) if isinstance(data, dict) else None
    return data


def _set(data: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        data = data[part]
    data[last] = value
