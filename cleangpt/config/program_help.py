"""Write --help: the groups with their options, and each key with its value here, its meaning and what it may be."""

import shutil
import textwrap
import typing
from typing import Any

from omegaconf import Container, DictConfig
from pydantic.fields import FieldInfo

from cleangpt.basics.schema import Section, expected, sections_of
from cleangpt.basics.schema import keys as all_keys
from cleangpt.config import composition

NARROW, WIDE = 40, 100  # columns


def groups(schema: type[Section], root: DictConfig) -> str:
    """List the groups of a program, each with its options."""
    from hydra.core.global_hydra import GlobalHydra

    loader = GlobalHydra.instance().config_loader()
    names = [name for name in root.hydra.runtime.choices if "/" not in name and name not in schema.refuses]
    width = max(map(len, names)) + 4
    lines = []
    for name in sorted(names):
        options = [option for option in loader.get_group_options(name) if f"{name}={option}" not in schema.refuses]
        lines += _wrapped(", ".join(options), f"  {name:{width - 2}}", width)
    return "\n".join(lines)


def keys(schema: type[Section], root: DictConfig) -> str:
    """List every key: those of this configuration with their values, then those that another choice would bring."""
    from hydra import compose

    here = _plain(root, schema)
    ours = _fields(schema, here)
    said = _entries(ours, here)
    for choice in _other_choices(schema, here):
        there = _plain(compose(root.hydra.job.config_name, [choice]), schema)
        fields = {key: field for key, field in _fields(schema, there).items() if not key.endswith(".name")}
        if more := {key: field for key, field in fields.items() if key not in ours or _differ(field, ours[key])}:
            said += ["", f"Keys of {choice}", "", *_entries(more, there)]
    return "\n".join(said).replace("$", "$$")  # which is Hydra's


def sweep(sweeps: composition.Sweeps, root: DictConfig) -> str:
    """List the keys of hydra.launcher and hydra.sweeper."""
    here = {"hydra": {part: composition.plain(root.hydra[part]) for part in ("launcher", "sweeper")}}
    return "\n".join(_entries(sweeps.help_keys(), here)).replace("$", "$$")


def _plain(root: DictConfig, schema: type[Section]) -> dict[str, Any]:
    """Take from a composed configuration what a schema has; the rest of it is Hydra's, and this very help."""
    parts = {name: root[name] for name in schema.model_fields}
    return {name: composition.plain(part) if isinstance(part, Container) else part for name, part in parts.items()}


def _fields(schema: type[Section], data: dict[str, Any]) -> dict[str, FieldInfo]:
    return {key: field for key, field in all_keys(schema, data).items() if key not in schema.refuses}


def _other_choices(schema: type[Section], here: dict[str, Any]) -> list[str]:
    """Choose, in each group whose options differ in their keys, an option of another kind than the chosen one.

    What a package adds has an option only where its user has a file for it.
    """
    from hydra.core.global_hydra import GlobalHydra

    found: list[str] = []
    loader = GlobalHydra.instance().config_loader()
    for group, field in schema.model_fields.items():
        for section in sections_of(field.annotation):
            names = typing.get_args(section.model_fields["name"].annotation) if "name" in section.model_fields else ()
            if not names or here[group]["name"] in names or f"{group}={names[0]}" in schema.refuses:
                continue
            if names[0] in loader.get_group_options(group):
                found.append(f"{group}={names[0]}")
    return found


def _differ(one: FieldInfo, other: FieldInfo) -> bool:
    return (one.description, expected(one)) != (other.description, expected(other))


def _entries(fields: dict[str, FieldInfo], data: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    before = ""
    for key, field in fields.items():
        section = key.partition(".")[0] if "." in key else ""
        if lines and section != before:
            lines.append("")
        before = section
        lines.append(f"  {_as_typed(key, data)}")
        lines += _wrapped(f"{field.description} [{expected(field)}]", " " * 6, 6)
    return lines


def _as_typed(key: str, data: dict[str, Any]) -> str:
    """Write `train.steps=600`; of a group that is null, `model.rope_scaling.factor (model.rope_scaling=null)`."""
    value: Any = data
    path = key.split(".")
    for place, part in enumerate(path):
        value = value[part]
        if value is None and place + 1 < len(path):
            return f"{key} ({'.'.join(path[: place + 1])}=null)"
    return f"{key}={_word(value)}"


def _word(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_word, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _wrapped(text: str, first: str, indent: int) -> list[str]:
    width = min(max(shutil.get_terminal_size().columns, NARROW), WIDE)
    lines = textwrap.TextWrapper(width, first, " " * indent, break_long_words=False, break_on_hyphens=False)
    return lines.wrap(text)
