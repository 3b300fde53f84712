"""The keys of parts of a mixture and of further sets, and what can be wrong with them."""

import re
from typing import Any

import numpy as np
from pydantic import Field

from cleangpt.basics.errors import ConfigError
from cleangpt.basics.schema import Section, parse
from cleangpt.tasks.contract import RUN
from cleangpt.tasks.lab.format import DIGITS
from cleangpt.tasks.lab.keys import Keys, span
from cleangpt.tasks.lab.sources.drawn import flat

UNIVERSE = 20  # digits of a number, at most, where all problems are numbered
Digits = int | list[int]


class Part(Section):
    """Problems of one kind. What is left out is as in the rest of the dataset."""

    digits: Digits | None = None
    digits_b: int | None = Field(default=None, ge=1, le=1000)
    lengths: str | list[float] | None = None
    where: dict[str, Any] = Field(default_factory=dict)  # slices: a number, or [least, most]
    weight: float = Field(default=1.0, gt=0)


class Trained(Part):
    """A part of a mixture to train on."""

    since: int = Field(default=0, ge=0, lt=RUN)  # problems
    until: int | None = Field(default=None, ge=1, lt=RUN)


class Named(Part):
    """A further set to score."""

    each: int | None = Field(default=None, ge=1)  # problems of each length, or of each pair of lengths
    size: int = Field(default=1000, ge=1)  # problems in all, where `each` is not given
    source: str | None = None  # a file


def of_mixture(keys: Keys) -> list[Trained]:
    """Read the parts that are trained on."""
    return [parse(part, Trained) for part in keys.mixture or [{}]]


def of_set(keys: Keys, name: str) -> Named:
    """Read what a further set holds."""
    return parse((keys.sets or {})[name], Named)


def is_numbered(keys: Keys) -> bool:
    """Tell whether all problems can be numbered, so that an epoch is every problem once."""
    alike = isinstance(keys.digits, int) and keys.digits <= UNIVERSE and keys.lengths == "value"
    plain = keys.mixture is None and not keys.exclude_operands and not keys.exclude_digits and not keys.changes
    strings = keys.what().strings
    pairs = keys.operands == 2 and not strings
    return alike and plain and keys.source is None and keys.digits_b is None and (keys.operands == 1 or pairs)


def mistakes(keys: Keys) -> list[str]:
    """Name what is wrong with the keys that say which problems there are, a sentence each."""
    found: list[str] = []
    groups: list[tuple[str, Any, type[Part]]]
    groups = [(f"dataset.mixture.{n}", part, Trained) for n, part in enumerate(keys.mixture or [])]
    groups += [(f"dataset.sets.{name}", part, Named) for name, part in (keys.sets or {}).items()]
    for where, data, kind in groups:
        if not isinstance(data, dict):
            found.append(f"`{where}` must be a group of keys, not {data}")
            continue
        try:
            part = parse(data, kind)
        except ConfigError as error:
            found += [f"`{where}`: {sentence}" for sentence in error.mistakes]
            continue
        if isinstance(part, Named) and "each" in data and "size" in data:
            found.append(f"`{where}`: each and size are two ways to say how many: leave one out")
        found += [f"`{where}`: {problem}" for problem in (*_wrong_span(keys, part), *_wrong_conditions(keys, part))]
    for name in keys.sets or {}:
        if name in ("train", "val", "test"):
            found.append(f"`dataset.sets` holds {name}, which is a split of its own")
        elif not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            found.append(f"`dataset.sets` holds {name!r}, which names files: use letters, digits, _ and -")
    return found or _do_not_fit(keys) + _gaps(keys)


def _do_not_fit(keys: Keys) -> list[str]:
    """Name keys of which one leaves another without a meaning."""
    found = []
    drawn_sets = [name for name, data in (keys.sets or {}).items() if not (isinstance(data, dict) and "source" in data)]
    if keys.operation == "divide" and (drawn_sets or not is_numbered(keys)):
        found.append("dataset.operation=divide is for all pairs of numbers: leave how problems are drawn as it was")
    given = {"mixture": keys.mixture, "exclude_operands": keys.exclude_operands, "exclude_digits": keys.exclude_digits}
    for name, value in given.items():
        if keys.source is not None and value:
            found.append(f"dataset.{name} has no meaning with dataset.source, which says what is trained on")
    written = [keys.start, *([keys.operator, keys.equals, keys.space] if keys.symbols else [])]
    if keys.sets and any(symbol and symbol in DIGITS[: keys.base] for symbol in written):
        found.append("dataset.sets can't be told apart where a symbol is a digit: leave it null")
    if keys.mixture == []:
        found.append("dataset.mixture has no part: leave it null")
    if keys.digits_b is not None and keys.operands < 2:
        found.append("dataset.digits_b has no meaning with one operand")
    for pair in keys.exclude_digits or []:
        if len(pair) != 2 or pair[0] < 0 or not 0 <= pair[1] < keys.base:
            found.append(f"dataset.exclude_digits holds {pair}: write [power, digit], as [2, 5] for 500 to 599")
    return found


def _gaps(keys: Keys) -> list[str]:
    """Say what is wrong with the times of the parts of a mixture."""
    if not keys.changes:
        return []
    trained, found = of_mixture(keys), []
    for n, part in enumerate(trained):
        if part.until is not None and part.until <= part.since:
            found.append(f"`dataset.mixture.{n}`: until must be more than since, which is {part.since}")
    for turn in sorted({0, *(part.until for part in trained if part.until is not None)}):
        if not any(part.since <= turn and (part.until is None or turn < part.until) for part in trained):
            found.append(f"dataset.mixture has no part to train on from sample {turn} on: give one since={turn}")
    return found


def _wrong_span(keys: Keys, part: Part) -> list[str]:
    """Say what is wrong with the digits of a part and their weights."""
    digits = keys.digits if part.digits is None else part.digits
    low, high = span(digits) if isinstance(digits, int) or len(digits) == 2 else (0, 0)
    if not 1 <= low <= high <= 1000:
        return [f"digits must be a number or [least, most], from 1 to 1000, not {part.digits}"]
    if isinstance(part.lengths, str) and part.lengths not in ("value", "length", "pair"):
        return [f"lengths must be value, length, pair or a list of weights, not {part.lengths}"]
    if isinstance(part.lengths, list) and (
        len(part.lengths) != high - low + 1 or min(part.lengths) < 0 or not sum(part.lengths)
    ):
        return [f"lengths must be {high - low + 1} weights, one for each length from {low} to {high}"]
    return []


def _wrong_conditions(keys: Keys, part: Part) -> list[str]:
    """Say what is wrong with the conditions of a part."""
    names = flat(keys.what().cuts([np.zeros((1, 1), np.int64)] * keys.operands))
    found = []
    for name, value in part.where.items():
        if name not in names:
            found.append(f"{name} is no slice of dataset.operation={keys.operation}: {', '.join(names)}")
        elif not _is_range([value, value] if isinstance(value, int) else value):
            found.append(f"{name} must be a number or [least, most], not {value}")
    return found


def _is_range(value: Any) -> bool:
    whole = isinstance(value, list) and len(value) == 2 and all(isinstance(end, int) for end in value)
    return whole and value[0] <= value[1]
