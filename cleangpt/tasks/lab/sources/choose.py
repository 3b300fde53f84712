"""From keys to problems: which source a task has, and the fixed sets that it is scored on besides."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from cleangpt.basics.errors import ConfigError
from cleangpt.basics.schema import Section, parse
from cleangpt.basics.seeds import derive
from cleangpt.tasks.lab import figures
from cleangpt.tasks.lab.keys import Keys, span
from cleangpt.tasks.lab.sources import listed
from cleangpt.tasks.lab.sources.drawn import Draw, Drawn, Excluded, HeldOut, Maker, distinct, flat
from cleangpt.tasks.lab.sources.numbered import Numbered
from cleangpt.tasks.lab.sources.universe import Universe

UNIVERSE = 20  # digits of a number, at most, where all problems are numbered
Digits = int | list[int]
Source = Universe | Numbered | Drawn | listed.Listed


class Part(Section):
    """A part of a mixture. What is left out is as in the rest of the dataset."""

    digits: Digits | None = None
    digits_b: int | None = None
    lengths: str | list[float] | None = None
    where: dict[str, int | list[int]] = Field(default_factory=dict)
    weight: float = Field(default=1.0, gt=0)


class Named(Part):
    """A further set to score."""

    each: int | None = Field(default=None, ge=1)  # problems of each length, or of each pair of lengths
    size: int = Field(default=1000, ge=1)  # problems in all, where `each` is not given
    source: str | None = None  # a file


def mistakes(keys: Keys) -> list[str]:
    """Name what is wrong with the keys of a mixture and of sets, a sentence each."""
    found: list[str] = []
    names = flat(keys.what().cuts([np.zeros((1, 1), np.int64)] * keys.operands))
    groups: list[tuple[str, dict[str, Any], type[Part]]]
    groups = [(f"dataset.mixture.{n}", part, Part) for n, part in enumerate(keys.mixture or [])]
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
        for problem in (_wrong_digits(part.digits), _wrong_lengths(part.lengths)):
            found += [f"`{where}`: {problem}"] if problem else []
        for name, value in part.where.items():
            if name not in names:
                found.append(f"`{where}`: {name} is no slice of dataset.operation={keys.operation}: {', '.join(names)}")
            elif isinstance(value, list) and len(value) != 2:
                found.append(f"`{where}`: {name} must be a number or [least, most]")
    if keys.operation == "divide" and not is_numbered(keys):
        found.append("dataset.operation=divide is for all pairs of numbers: leave how problems are drawn as it was")
    taken = {"train", "val", "test"} & set(keys.sets or {})
    return found + [f"`dataset.sets` holds {name}, which is a split of its own" for name in sorted(taken)]


def _set(keys: Keys, name: str) -> Named:
    return parse((keys.sets or {})[name], Named)


def _wrong_digits(digits: Digits | None) -> str | None:
    if isinstance(digits, list) and not (len(digits) == 2 and 1 <= digits[0] <= digits[1]):
        return f"digits must be a number or [least, most], not {digits}"
    return None


def _wrong_lengths(lengths: str | list[float] | None) -> str | None:
    if isinstance(lengths, str) and lengths not in ("value", "length", "pair"):
        return f"lengths must be value, length, pair or a list of weights, not {lengths}"
    return None


def draw(keys: Keys, part: Part) -> Draw:
    digits = span(keys.digits if part.digits is None else part.digits)
    second = part.digits_b or (keys.digits_b if part.digits is None else None)
    where = {name: (value, value) if isinstance(value, int) else tuple(value) for name, value in part.where.items()}
    lengths = keys.lengths if part.lengths is None else part.lengths
    return Draw(digits, lengths, (1, second) if second else None, where, part.weight)  # type: ignore[arg-type]


def is_numbered(keys: Keys) -> bool:
    """Tell whether all problems can be numbered, so that an epoch is every problem once."""
    alike = isinstance(keys.digits, int) and keys.digits <= UNIVERSE and keys.lengths == "value"
    plain = keys.mixture is None and not keys.exclude_operands and not keys.exclude_digits
    strings = keys.what().strings
    pairs = keys.operands == 2 and not strings
    return alike and plain and keys.source is None and keys.digits_b is None and (keys.operands == 1 or pairs)


def source(keys: Keys, ask: Callable[[str], list[np.ndarray]], shown: Callable[[np.ndarray], str]) -> Source:
    """Make the problems of a task. `ask` reads one that is typed, and `shown` writes an answer."""
    fractions = keys.val_fraction, keys.test_fraction
    if is_numbered(keys):
        assert isinstance(keys.digits, int)
        if keys.operands == 1:
            return Numbered(keys.base, keys.digits, keys.split_seed, *fractions)
        second_from = int(keys.operation == "divide")
        return Universe(keys.numbers, keys.split, keys.split_seed, *fractions, second_from=second_from)
    held_out = HeldOut(keys.split, keys.split_seed, *fractions)
    if keys.source is not None:
        return listed.Listed(listed.read(Path(keys.source), keys.what(), ask, shown), held_out)
    parts = [parse(part, Part) for part in keys.mixture or [{}]]
    digits = tuple((power, digit) for power, digit in keys.exclude_digits or ())
    excluded = Excluded(tuple(keys.exclude_operands or ()), digits)
    sizes = {"val": keys.val_size or 2000, "test": keys.test_size}
    seed = derive(keys.split_seed, "drawn")
    return Drawn(_maker(keys, [draw(keys, part) for part in parts]), held_out, excluded, seed, sizes)


def _maker(keys: Keys, draws: list[Draw]) -> Maker:
    return Maker(keys.what(), keys.operands, draws, keys.modulus)


def named(
    keys: Keys,
    name: str,
    is_apart: Callable[[list[np.ndarray]], np.ndarray],
    ask: Callable[[str], list[np.ndarray]],
    shown: Callable[[np.ndarray], str],
) -> list[np.ndarray]:
    """Draw a further set: problems that are never trained on, of each length or of all; or read it from a file."""
    part = _set(keys, name)
    if part.source is not None:
        return listed.read(Path(part.source), keys.what(), ask, shown)
    key = derive(keys.split_seed, "set", name)
    whole = draw(keys, part)
    if part.each is None:
        return distinct(_maker(keys, [whole]), part.size, key, is_apart)
    low, high = whole.digits
    low_b, high_b = whole.second or whole.digits
    cells = [(n, n) for n in range(low, high + 1)]
    if whole.lengths == "pair" or whole.second:
        cells = [(a, b) for a in range(low, high + 1) for b in range(low_b, high_b + 1)]
    found = []
    for a, b in cells:
        exact = Draw((a, a), "pair", (b, b), whole.where)
        rows = distinct(_maker(keys, [exact]), part.each, derive(key, a, b), is_apart)
        found.append([figures.widened(x, most) for x, most in zip(rows, width(keys, name), strict=True)])
    return [np.concatenate(column) for column in zip(*found, strict=True)]


def width(keys: Keys, name: str | None = None) -> list[int]:
    """Count the digits of the largest operands: of training, or of a further set that is drawn."""
    parts = [parse(part, Part) for part in keys.mixture or [{}]] if name is None else [_set(keys, name)]
    if isinstance(parts[0], Named) and parts[0].source is not None:
        return [listed.longest(Path(parts[0].source))] * keys.operands
    draws = [draw(keys, part) for part in parts]
    first = max(one.digits[1] for one in draws)
    second = max((one.second or one.digits)[1] for one in draws)
    return [first, second, *[first] * keys.operands][: keys.operands]
