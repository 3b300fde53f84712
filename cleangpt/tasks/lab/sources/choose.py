"""From keys to problems: which source a task has, and the fixed sets that it is scored on besides."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from cleangpt.basics.seeds import derive
from cleangpt.tasks.lab import figures
from cleangpt.tasks.lab.keys import Keys, span
from cleangpt.tasks.lab.sources import listed, parts
from cleangpt.tasks.lab.sources.drawn import Draw, Drawn, Excluded, HeldOut, Maker, distinct
from cleangpt.tasks.lab.sources.numbered import Numbered
from cleangpt.tasks.lab.sources.universe import Universe

Source = Universe | Numbered | Drawn | listed.Listed


def draw(keys: Keys, part: parts.Part) -> Draw:
    digits = span(keys.digits if part.digits is None else part.digits)
    second = part.digits_b or (keys.digits_b if part.digits is None else None)
    where = {name: (value, value) if isinstance(value, int) else tuple(value) for name, value in part.where.items()}
    lengths = keys.lengths if part.lengths is None else part.lengths
    if part.lengths is None and part.digits is not None and isinstance(lengths, list):
        lengths = "pair"  # weights are of the lengths that they were given for
    turns = (part.since, part.until) if isinstance(part, parts.Trained) else ()
    return Draw(digits, lengths, (1, second) if second else None, where, part.weight, *turns)


def source(keys: Keys, ask: Callable[[str], list[np.ndarray]], shown: Callable[[np.ndarray], str]) -> Source:
    """Make the problems of a task. `ask` reads one that is typed, and `shown` writes an answer."""
    fractions = keys.val_fraction, keys.test_fraction
    if parts.is_numbered(keys):
        assert isinstance(keys.digits, int)
        if keys.operands == 1:
            return Numbered(keys.base, keys.digits, keys.split_seed, *fractions)
        second_from = int(keys.operation == "divide")
        return Universe(keys.numbers, keys.split, keys.split_seed, *fractions, second_from=second_from)
    held_out = HeldOut(keys.split, keys.split_seed, *fractions)
    if keys.source is not None:
        return listed.Listed(listed.read(Path(keys.source), keys.what(), ask, shown), held_out)
    mixture = parts.of_mixture(keys)
    digits = tuple((power, digit) for power, digit in keys.exclude_digits or ())
    excluded = Excluded(tuple(keys.exclude_operands or ()), digits)
    sizes = {"val": keys.val_size or 2000, "test": keys.test_size}
    seed = derive(keys.split_seed, "drawn")
    return Drawn(_maker(keys, [draw(keys, part) for part in mixture]), held_out, excluded, seed, sizes)


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
    part = parts.of_set(keys, name)
    if part.source is not None:
        operands = listed.read(Path(part.source), keys.what(), ask, shown)
        apart = is_apart(operands)
        return [operand[apart] for operand in operands]
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
    asked = parts.of_mixture(keys) if name is None else [parts.of_set(keys, name)]
    if isinstance(asked[0], parts.Named) and asked[0].source is not None:
        return [listed.longest(Path(asked[0].source))] * keys.operands
    draws = [draw(keys, part) for part in asked]
    first = max(one.digits[1] for one in draws)
    second = max((one.second or one.digits)[1] for one in draws)
    return [first, second, *[first] * keys.operands][: keys.operands]
