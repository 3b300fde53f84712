"""Find the keys that tell runs apart. A sweep of one key moves others along, which are named with it, not beside it."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from cleangpt.basics.schema import derived
from cleangpt.config.experiment import Config
from cleangpt.report.collect import Run

MISSING = "–"  # a key that a run does not have
SEED = "seed"
# How a run was started again; it computes what it would have computed anyway.
IGNORED = (SEED, "resume")
DERIVED = derived(Config)  # null in conf/, and filled in from others, so that a sweep moves them along


@dataclass
class Key:
    """A key whose value differs between runs, and the keys that its value decides."""

    name: str
    label: str  # its last part, where no other key ends so
    followers: list[str] = field(default_factory=list)


def differing(runs: list[Run]) -> tuple[list[Key], list[dict[str, Any]]]:
    """Find the keys that differ, without those that only follow others, and the values of each run by key."""
    choices = _choices(runs)
    values = [{**choice, **run.config} for run, choice in zip(runs, choices, strict=True)]
    names = dict.fromkeys(name for chosen in values for name in chosen if name not in IGNORED)
    columns = {name: tuple(text(chosen.get(name, MISSING)) for chosen in values) for name in names}
    columns = {name: column for name, column in columns.items() if len(set(column)) > 1}
    asked = {name for run in runs for name in run.overrides}
    groups = choices[0].keys() if choices else ()
    free = [name for name in columns if name not in DERIVED or name in asked]
    free = [name for name in free if _leader(name, columns, groups) is None or name in asked]
    keys = {name: Key(name, name) for name in free}
    together = list(zip(*(columns[name] for name in free), strict=True))
    for name in columns:
        if name in keys:
            continue
        leader = _leader(name, columns, groups)
        if leader is None:  # filled in by config.resolve
            same = [other for other in free if columns[other] == columns[name]]
            same += [other for other in free if _decides(columns[other], columns[name])]
            leader = same[0] if same else free[0] if free and _decides(together, columns[name]) else None
        if leader in keys:
            keys[leader].followers.append(name)
        else:
            keys[name] = Key(name, name)
    last = [name.rpartition(".")[2] for name in keys]
    for key in keys.values():
        section, _, short = key.name.rpartition(".")
        if short == "name" and section not in keys:
            key.label = section
        elif last.count(short) == 1 and short not in ("name", "style", "begin", "end"):
            key.label = short
    return list(keys.values()), values


def _leader(name: str, columns: dict[str, tuple[str, ...]], groups: Collection[str]) -> str | None:
    """Find the choice that brings a key with it: `model=gpt_tiny`, experiment=…, or the name of the key's section."""
    section = name.partition(".")[0]
    for choice in (section, "experiment"):
        if choice in groups and choice != name and choice in columns and _decides(columns[choice], columns[name]):
            return choice
    named = f"{section}.name"
    if named != name and named in columns and _decides(columns[named], columns[name]):
        return _leader(named, columns, groups) or named
    return None


def _choices(runs: list[Run]) -> list[dict[str, str]]:
    """Collect the options of groups that the command lines chose, where each chose one, and that tell runs apart."""
    sections = {name.partition(".")[0] for run in runs for name in run.config if "." in name} | {"experiment"}
    found = [{key: value for key, value in run.overrides.items() if key in sections} for run in runs]
    everywhere = set.intersection(*(set(choice) for choice in found)) if found else set()
    meant: dict[tuple[str, str], set[str]] = {}
    for run, choice in zip(runs, found, strict=True):
        for key in everywhere:
            meant.setdefault((key, setting(run)), set()).add(choice[key])
    unclear = {key for (key, _), options in meant.items() if len(options) > 1}
    return [{key: choice[key] for key in choice if key in everywhere - unclear} for choice in found]


def _decides(one: Sequence[Any], other: Sequence[str]) -> bool:
    """Test whether equal values of one always come with equal values of the other."""
    return len(set(zip(one, other, strict=True))) == len(set(one))


def setting(run: Run) -> str:
    """Write the configuration of a run without its seed, to tell it from others."""
    return text({name: value for name, value in run.config.items() if name not in IGNORED})


def text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def order(value: Any) -> tuple[Any, ...]:
    """Make a key that sorts numbers by size, then the rest by name."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (0, value, "")
    return (1, 0, show(value))


def show(value: Any) -> str:
    """Write a configured value as one would type it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
