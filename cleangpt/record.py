"""What a run notes about its circumstances: run.json. `card.py` makes a page of it."""

import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from cleangpt import cli, files
from cleangpt.config import Config, parse, resolve
from cleangpt.device import Compute
from cleangpt.distributed import World
from cleangpt.errors import ConfigError
from cleangpt.schema import leaves


def circumstances(
    overrides: list[str], compute: Compute, world: World, parameters: dict[str, int], config: Config, task: Any
) -> dict[str, Any]:
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "overrides": overrides,
        "changed": changed(config, task, cli.defaults("train")),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "git": git_state(),
        "versions": versions(),
        "machine": {
            "host": platform.node(),
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "device": compute.name,
            "dtype": str(compute.dtype).removeprefix("torch."),
        },
        "world_size": world.size,
        "local_world_size": world.local_size,
        "parameters": parameters,
    }


def continued(path: Path, now: dict[str, Any]) -> dict[str, Any]:
    """The record of a run that goes on: how it began, and each time that it was resumed."""
    try:
        began = files.read_json(path)
    except (OSError, ValueError):
        return now
    return {**began, "resumed": [*began.get("resumed", []), now]}


def changed(config: Config, task: Any, default: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The keys whose values are not those of `default`, by key: {"here": …, "default": …}.

    What conf/ leaves open and follows from other keys is no change, and neither is how the run was continued.
    """
    data = config.model_dump(mode="json")
    here, there = leaves(data), leaves(default)
    try:
        followed = leaves(resolve(parse(_opened(data, default)), task).model_dump(mode="json"))
    except ConfigError:  # then nothing follows: this configuration needs what the default leaves open
        followed = {}
    found = {}
    for key, value in here.items():
        follows = key in there and there[key] is None and followed.get(key) == value
        if key not in there:
            found[key] = {"here": value}
        elif value != there[key] and not follows and key != "resume":
            found[key] = {"here": value, "default": there[key]}
    return found


def _opened(data: dict[str, Any], default: dict[str, Any]) -> dict[str, Any]:
    """The data with null for every value that is null by default."""
    opened = {}
    for key, value in data.items():
        if isinstance(value, dict):
            opened[key] = _opened(value, default.get(key) or {})
        else:
            opened[key] = None if key in default and default[key] is None else value
    return opened


def versions() -> dict[str, str]:
    names = ("cleangpt", "torch", "hydra-core", "omegaconf", "numpy", "safetensors", "pydantic")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def git_state() -> dict[str, Any]:
    """The commit of this checkout, and whether files differ from it."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    status = git("status", "--porcelain")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}
