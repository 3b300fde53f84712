"""What a run notes about its circumstances: run.json."""

import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from cleangpt import files
from cleangpt.device import Compute
from cleangpt.distributed import World


def circumstances(overrides: list[str], compute: Compute, world: World, parameters: dict[str, int]) -> dict[str, Any]:
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "overrides": overrides,
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
        "parameters": parameters,
    }


def continued(path: Path, now: dict[str, Any]) -> dict[str, Any]:
    """The record of a run that goes on: how it began, and each time that it was resumed."""
    try:
        began = files.read_json(path)
    except (OSError, ValueError):
        return now
    return {**began, "resumed": [*began.get("resumed", []), now]}


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
