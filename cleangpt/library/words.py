"""What was asked in Python, in the words of a command line."""

import numbers
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from cleangpt.basics.errors import UserError
from cleangpt.config.command_line import literally

Asked = str | Mapping[str, Any]  # a word as on the command line, or values by dotted key

PLAIN = re.compile(r"[A-Za-z_][\w./-]*")  # what means itself, unless it is one of the names of values
VALUES = {"null", "true", "false", "nan", "inf"}


def words(asked: Iterable[Asked]) -> list[str]:
    """List the words for what was asked, in order: a later one wins."""
    found = []
    for part in asked:
        if isinstance(part, str):
            found.append(part)
        elif isinstance(part, Mapping):
            found += [f"{_key(key)}={value(given)}" for key, given in part.items()]
        else:
            kind = type(part).__name__
            raise UserError(f"{part!r} is a {kind}: give words like 'model=gpt', or values like {{'train.steps': 200}}")
    return found


def choices(asked: Mapping[str, Any]) -> dict[str, list[str]]:
    """List the words of a sweep: several values for each key, or one."""
    if not isinstance(asked, Mapping):
        raise UserError(
            "the values of a sweep are lists by key, as in {'optimizer': ['adamw', 'muon'], 'seed': [0, 1]}"
        )
    found = {}
    for key, values in asked.items():
        if isinstance(values, Mapping | bytes):
            raise UserError(f"`{key}` has no list of values: name keys with dots, as in {{'train.steps': [100, 200]}}")
        several = isinstance(values, Iterable) and not isinstance(values, str | PurePath) and plain(values) is values
        listed = [value(one) for one in (values if several else [values])]
        if not listed:
            raise UserError(f"`{key}` has no values: list some, as in {{'{key}': [1, 2]}}")
        found[_key(key)] = listed
    return found


def plain(given: Any) -> Any:
    """Turn a number of numpy's or torch's into one of Python's; anything else stays."""
    return given.item() if getattr(given, "ndim", None) == 0 and hasattr(given, "item") else given


def value(given: Any) -> str:
    """Write a value so that Hydra reads this very one."""
    given = plain(given)
    if given is None:
        return "null"
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, numbers.Integral):
        return str(int(given))
    if isinstance(given, numbers.Real):
        return repr(float(given))
    if isinstance(given, str | PurePath):
        text = str(given)
        return text if PLAIN.fullmatch(text) and text.lower() not in VALUES else literally(text)
    if isinstance(given, Mapping):
        return "{" + ",".join(f"{value(str(key))}:{value(inner)}" for key, inner in given.items()) + "}"
    if isinstance(given, Iterable) and not isinstance(given, bytes):
        return "[" + ",".join(map(value, given)) + "]"
    raise UserError(f"{given!r} is a {type(given).__name__}, and a configuration has numbers, texts, lists and dicts")


def place(path: str | os.PathLike[str]) -> str:
    """Write the path of a folder that is trained in."""
    text = os.fspath(path)
    if "${" in text:  # Hydra reads the folder of a run twice
        raise UserError(f"{text} can't be trained in: choose a path without ${{")
    return literally(text)


def _key(key: Any) -> str:
    if not isinstance(key, str) or "=" in key or not key:
        raise UserError(f"{key!r} is no key: name keys with dots, as in {{'train.steps': 200}}")
    return key
