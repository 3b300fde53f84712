"""Whether a training continues a run, and with which configuration."""

import os
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from cleangpt import files
from cleangpt.config import Config, parse
from cleangpt.errors import UserError
from cleangpt.rundir import LATEST, RunDir, read_config

IS_THE_RUN = ("model", "dataset", "seed")  # another value of these is another run
FOLLOWS = {"optimizer.lr": "schedule.lr", "optimizer.weight_decay": "schedule.weight_decay"}


def decide(config: Config, run: RunDir, overrides: list[str]) -> tuple[RunDir, Config, Path | None]:
    """The run directory, the configuration and what to resume from, if anything."""
    restarted = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
    main = os.environ.get("RANK", "0") == "0"
    if config.resume not in (None, "auto"):
        path = Path(config.resume) if config.resume != "latest" else LATEST
        if not path.is_dir():
            raise UserError(f"`resume` is {config.resume}, and there is no such folder: name a run or a snapshot")
        path = path.resolve()
        is_snapshot = path.name.startswith("step_")
        run = RunDir(path.parent.parent if is_snapshot else path)
        if not run.snapshot_folders():
            raise UserError(f"`resume` is {config.resume}, which has no snapshot to continue from")
        return run, _stored(run, path if is_snapshot else run.path, config, overrides), path
    if run.snapshot_folders() and (config.resume == "auto" or restarted):
        return run, _stored(run, run.path, config, overrides), run.path
    if run.holds_a_run() and config.resume is None and main and not restarted:
        raise UserError(
            f"{run.shown()} holds a run already: continue it with resume=auto, or choose another hydra.run.dir"
        )
    return run, config, None


def _stored(run: RunDir, folder: Path, composed: Config, overrides: list[str]) -> Config:
    """The run's own configuration, with the values of this command line laid over it."""
    stored = read_config(folder / "config.json").model_dump(mode="json")
    before = read_config(folder / "config.json").model_dump(mode="json")
    data = composed.model_dump(mode="json")
    changed = []
    for line in overrides:
        override = OverridesParser.create().parse_override(line)
        key = override.key_or_group
        if key in ("resume", "init_from", "processes") or key.startswith("hydra"):
            continue
        if key == "experiment":
            if not _began_with(run, line):
                raise UserError(f"`{line}` can't be changed when a run is resumed: leave it out")
            continue
        value = _get(data, key)
        if key in ("model", "dataset"):  # a group: what it leaves open was filled in by the run
            value = _filled(value, stored[key])
        if value != _get(stored, key):
            changed.append((key, _get(stored, key), value))
            _set(stored, key, value)
    refused = [f"{k}: {old} there, {new} here" for k, old, new in changed if k.split(".")[0] in IS_THE_RUN]
    if refused:
        raise UserError(
            f"resuming {run.shown()} can't change what it is ({'; '.join(refused)}): leave that out, or start a new "
            "run with init_from="
        )
    _let_follow(stored, before, {key for key, _, _ in changed})
    return parse({**stored, "resume": composed.resume})


def _let_follow(stored: dict[str, Any], before: dict[str, Any], changed: set[str]) -> None:
    """Values that were derived from one that has changed are derived anew."""
    for source, ramp in FOLLOWS.items():
        begin = _get(before, f"{ramp}.begin")
        moved = source in changed and f"{ramp}.begin" not in changed and begin == _get(before, source)
        if moved:
            _set(stored, f"{ramp}.begin", None)
        if (
            (moved or f"{ramp}.begin" in changed)
            and f"{ramp}.end" not in changed
            and _get(before, f"{ramp}.end") == begin
        ):
            _set(stored, f"{ramp}.end", None)


def _filled(new: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    return {key: stored.get(key) if value is None else value for key, value in new.items()}


def _began_with(run: RunDir, line: str) -> bool:
    try:
        return line in files.read_json(run.run)["overrides"]
    except (OSError, ValueError, KeyError):
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
