"""Tell the words of a command line apart, quote them, and find them again for commands that are built of them."""

import argparse
import fnmatch
import itertools
import os
import re
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cleangpt.basics.errors import ConfigError, UserError
from cleangpt.basics.schema import Section, expected, keys, nearest
from cleangpt.config.composition import CONF

FOLDERS = ("--config-dir", "-cd", "hydra.searchpath")  # what says where configuration lies
PLACES = (*FOLDERS, "--config-name", "-cn", "--config-path", "-cp")
PICKLED = "--experimental-rerun"  # of Hydra's, which loads a pickle


def split(word: str) -> tuple[str, str]:
    """Take an override apart into its key or group and its value, as typed: `++train.steps=3` → train.steps, 3."""
    key, _, value = word.lstrip("+~").partition("=")
    return key, value


def hydra_parser(loader: Any = None) -> Any:
    """Make Hydra's parser of overrides, for those whose values have to be told apart: the ones of a sweep."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create(loader)


def quoted(path: Path) -> str:
    """Write a path as a value of Hydra's, whatever its characters."""
    return "'" + str(path).replace("'", "\\'") + "'"


def without(words: Iterable[str], key: str) -> list[str]:
    """Take away the words that set this key."""
    return [word for word in words if split(word)[0] != key]


def hydra_words(words: list[str], names: tuple[str, ...] = PLACES) -> list[str]:
    """Take from a command line what says where configuration lies: --config-dir=…, -cd …, hydra.searchpath=…"""
    found = []
    for word, after in zip(words, [*words[1:], ""], strict=False):
        if word in names:
            found += [word, after]
        elif split(word)[0] in names:
            found.append(word)
    return found


def as_it_stands(word: str, schema: type[Section]) -> str:
    """Quote the value of a key that is free text, so that Hydra's grammar leaves every character of it alone."""
    key, equals, value = word.partition("=")
    name = key.lstrip("+")
    if not equals or value == "null" or not any(fnmatch.fnmatchcase(name, pattern) for pattern in schema.verbatim):
        return word
    field = schema.model_fields.get(name)
    if value.startswith("[") and field is not None and list[str] in typing.get_args(field.annotation):
        return word
    return f"{key}={literally(value)}"


def literally(text: str) -> str:
    """Quote a text, so that neither Hydra's grammar nor an interpolation changes a character of it."""
    from hydra.core.override_parser.types import Quote, QuotedString

    text = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + "\\${", text)
    return QuotedString(text=text, quote=Quote.single).with_quotes()


def options(parser: Any, words: list[str], schema: type[Section]) -> argparse.Namespace:
    """Parse these words by argparse: `words` of what it finds are them again, with the options before all overrides."""
    words = [_with_quoted_path(word) for word in words]
    known = [option for option in parser._option_string_actions if option.startswith("--") and option != PICKLED]
    known = [option for option in known if option[2:] not in schema.model_fields]  # Hydra's --run says what is usual
    mistakes = []
    for word, after in itertools.zip_longest(words, words[1:], fillvalue=""):
        name, _, value = word.partition("=")
        if name.startswith("--") and not any(option.startswith(name) for option in known):
            mistakes.append(_no_option(name, value or after, schema))
    if mistakes:
        raise ConfigError(mistakes)

    def error(message: str) -> None:
        raise UserError(f"{message}: write key=value, as --help shows")

    parser.error = error
    found: argparse.Namespace = parser.parse_intermixed_args(words)
    given = [word for word in words if word not in found.overrides]
    if found.config_dir is None and found.config_path is None and (own := _own_folder()):
        found.config_dir = own
        given.insert(0, f"--config-dir={own}")  # as typed: for Hydra, for processes that are started, for run.json
    found.words = given + found.overrides
    return found


def _own_folder() -> str | None:
    """Find a conf/ in the directory where the program was started: its files come before ours."""
    here = Path("conf")
    if not (any(here.glob("*.yaml")) or any(here.glob("*/*.yaml"))) or here.resolve() == Path(CONF):
        return None
    return str(here)


def _with_quoted_path(word: str) -> str:
    """Quote what is a path, and no list of values: directories of a sweep's jobs have `=` and `,` in their names."""
    key, _, value = word.partition("=")
    if not key.startswith("-") and set(value) & set("=,") and os.path.exists(value):
        return f"{key}={quoted(Path(value))}"
    return word


def _no_option(name: str, value: str, schema: type[Section]) -> str:
    """Answer to `--steps 5`, as other programs have it."""
    known = keys(schema)
    groups = [path.name for path in Path(CONF).iterdir() if path.is_dir() and path.name in schema.model_fields]
    meant = name.strip("-").replace("-", "_")
    key = meant if meant in [*known, *groups] else nearest(meant, [*known, *groups])
    if key is None:
        return f"`{name}` is no option: write key=value, as --help shows"
    if not value or value.startswith("-") or "=" in value:
        value = "true" if key in known and "true" in expected(known[key]) else "…"
    return f"`{name}` is no option: write {key}={value}"
