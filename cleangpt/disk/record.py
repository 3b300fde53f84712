"""Note the circumstances of a run in run.json, of which `card.py` makes a page."""

import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cleangpt.basics import untrusted, verbs
from cleangpt.basics.schema import leaves
from cleangpt.basics.version import VERSION
from cleangpt.config import composition
from cleangpt.config.asked import Asked
from cleangpt.config.command_line import split
from cleangpt.config.experiment import Config
from cleangpt.machine import processor
from cleangpt.machine.device import Compute
from cleangpt.machine.launcher import World

DECIDED = "dtype"  # the key whose `auto` is replaced, when a run begins, by what was decided


def circumstances(
    asked: Asked[Config], changed: dict[str, dict[str, Any]], compute: Compute, world: World, parameters: dict[str, int]
) -> dict[str, Any]:
    """Describe how a run was started, by which versions and on which machine."""
    return {
        "command": verbs.typed("train"),
        "overrides": list(asked.words),
        **({"own_configuration": list(asked.own)} if asked.own else {}),
        "changed": changed,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "git": git_state(),
        "versions": versions(),
        "machine": {
            "host": platform.node(),
            "system": platform.platform(),
            "processor": processor.name(),
            "cores": os.cpu_count(),
            "device": compute.name,
            "device_type": compute.device.type,
            "threads": torch.get_num_threads(),
            "dtype": compute.dtype_name,
        },
        "world_size": world.size,
        "local_world_size": world.local_size,
        "parameters": parameters,
    }


class _Part(BaseModel):
    """A part of a run as it is read, with a default for what those lack that were noted by earlier versions."""

    model_config = ConfigDict(extra="allow", strict=True)

    command: list[str] = ["train.py"]
    overrides: list[str] = []
    changed: dict[str, dict[str, Any]] = {}
    started: str = "unknown"
    world_size: int = Field(1, ge=1)
    local_world_size: int | None = Field(None, ge=1)
    machine: dict[str, str | int | None] = {}
    git: dict[str, str | bool | None] = {}
    versions: dict[str, str] = {}
    parameters: dict[str, int] = {}
    data: dict[str, Any] | None = None


class _Record(_Part):
    resumed: list[_Part] = []


def begun(path: Path) -> dict[str, Any] | None:
    """Read the record of a run that goes on, if there is one."""
    return read(path) if path.exists() else None


def read(path: Path) -> dict[str, Any]:
    """Read the record of a run; a UserError where it is none."""
    with untrusted.reading(path, "the record of a run", ": put it back, or take it away"):
        stored = untrusted.json_object(path)
        try:
            record = _Record.model_validate(stored).model_dump()
        except ValidationError as error:
            where = ".".join(map(str, error.errors(include_url=False)[0]["loc"]))
            raise ValueError(f"its `{where}` is not what it should be") from None
    for part in parts(record):
        part["local_world_size"] = part["local_world_size"] or part["world_size"]
    return record


def parts(record: dict[str, Any]) -> list[dict[str, Any]]:
    """List how a run began, and each time that it was resumed."""
    return [record, *record.get("resumed", [])]


def changes(config: Config, asked: Asked[Config], before: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """List the keys of a complete configuration that differ from conf/: {key: {"here": …, "default": …}}.

    What conf/ leaves open is a change only where it was given: in `asked`, the configuration before it was completed,
    or, where a run goes on, in the record of the run so far or on this command line.
    """
    if before is None:
        values = leaves(asked.config.model_dump(mode="json"))
        given = {key for key, value in values.items() if value is not None and (key, value) != (DECIDED, "auto")}
    else:
        given = {key for key, word in asked.given.items() if split(word) != (DECIDED, "auto")}
        given |= set(parts(before)[-1].get("changed", {}))
    here = leaves(config.model_dump(mode="json"))
    there = _defaults(config)
    found = {}
    for key, value in here.items():
        if key not in there:
            found[key] = {"here": value}
        elif value != there[key] and key != "resume" and (key in given or not (there[key] is None or key == DECIDED)):
            found[key] = {"here": value, "default": there[key]}
    return found


def _defaults(config: Config) -> dict[str, Any]:
    """Read conf/ by key: of a group like `model` the file of what was chosen, so that only its own changes differ."""
    default = composition.defaults("train")
    chosen = {group: section.name for group, section in config if hasattr(section, "name")}
    others = [group for group, name in chosen.items() if name != default[group]["name"]]
    ours = [group for group in others if (Path(composition.CONF) / group / f"{chosen[group]}.yaml").exists()]
    found = composition.defaults("train", *(f"{group}={chosen[group]}" for group in ours)) if ours else default
    known = leaves({group: values for group, values in found.items() if group not in others or group in ours})
    return known | {f"{group}.name": default[group]["name"] for group in chosen}


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "cleangpt": VERSION}
    for name in ("torch", "hydra-core", "omegaconf", "numpy", "safetensors", "pydantic"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def git_state() -> dict[str, Any]:
    """Find the commit of this checkout, if it is one, and whether files differ from it."""

    def git(*arguments: str) -> str | None:
        here = Path(__file__).parent
        try:
            done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if not verbs.IN_CHECKOUT:  # installed, perhaps below a checkout of another project
        return {"commit": None, "dirty": None}
    status = git("status", "--porcelain")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}
