"""Problems that are drawn by key: of any length, any number of operands, under conditions; held out by a hash.

Sample k is a pure function of its key, and so is whether a problem is held out: nothing is stored but the fixed sets
that scores look at, which hold no problem twice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from cleangpt.basics.errors import ConfigError
from cleangpt.basics.seeds import derive, scramble, uniforms
from cleangpt.tasks.contract import RUN
from cleangpt.tasks.lab import figures
from cleangpt.tasks.lab.operation import Operation

SAMPLES = 1 << 60  # samples to train on: more than anyone can
TRIES = 1 << 26  # draws that find nothing for samples which are not impossible, before training gives up
LOOK = 1 << 20  # digits drawn to find out whether conditions are impossible, or nearly so
AT_ONCE = 4096  # draws
BARREN = 128  # draws in a row of a whole batch that find nothing new for a fixed set


@dataclass(frozen=True)
class Draw:
    """Which problems are drawn, and how often those of each length."""

    digits: tuple[int, int]  # of an operand: at least, at most
    lengths: str | Sequence[float] = "value"  # value, length, pair, or a weight for each number of digits
    second: tuple[int, int] | None = None  # digits of the second operand, where that has its own
    where: dict[str, tuple[int, int]] = field(default_factory=dict)  # slices, from and to
    weight: float = 1.0  # of this draw among several
    since: int = 0  # the sample of training that it begins with
    until: int | None = None  # the sample that it ends before; None: it never ends


@dataclass(frozen=True)
class Excluded:
    """Operands that no problem to train on has."""

    values: tuple[int, ...] = ()
    digits: tuple[tuple[int, int], ...] = ()  # (power, digit)

    def among(self, operands: list[np.ndarray], base: int) -> np.ndarray:
        """Tell which problems (n,) have such an operand."""
        found = np.zeros(len(operands[0]), bool)
        for operand in operands:
            if self.values:
                found |= np.isin(figures.values_of(operand, base), self.values)
            for power, digit in self.digits:
                if power < operand.shape[1]:
                    found |= operand[:, power] == digit
        return found


class Maker:
    """Draws problems of an operation, each a function of its key."""

    def __init__(self, operation: Operation, operands: int, draws: Sequence[Draw], largest: int | None = None):
        self.operation, self.operands, self.draws = operation, operands, list(draws)
        self.largest = largest  # numbers are below it, where it is given
        first = max(draw.digits[1] for draw in self.draws)
        second = max((draw.second or draw.digits)[1] for draw in self.draws)
        self.widths = [first, second, *[first] * operands][:operands]
        turns = {0} | {draw.since for draw in self.draws} | {draw.until for draw in self.draws if draw.until}
        self.turns = np.array(sorted(turns))  # samples at which draws begin or end
        self.shares = np.stack([self._shares(turn) for turn in self.turns])  # (turns, draws)

    def _shares(self, sample: int) -> np.ndarray:
        """Sum up the weights of the draws that there are at a sample: shares of 1, each with all before it."""
        there = [draw.since <= sample and (draw.until is None or sample < draw.until) for draw in self.draws]
        shares = np.cumsum([draw.weight * on for draw, on in zip(self.draws, there, strict=True)])
        return shares / (shares[-1] or 1.0)

    def part(self, keys: np.ndarray, samples: np.ndarray) -> np.ndarray:
        """Choose for each key (n,) which of the draws its problem is of, by their weights at that sample (n,)."""
        shares = self.shares[np.searchsorted(self.turns, samples, side="right") - 1]
        return (shares <= uniforms(derive(0, "draw"), keys)[:, None]).sum(axis=1)

    def make(self, keys: np.ndarray, which: np.ndarray) -> list[np.ndarray]:
        """Draw a problem of a draw for each key (n,), whatever its conditions are: figures (n, W) for each operand."""
        found = [np.full((len(keys), width), figures.NONE) for width in self.widths]
        for number, draw in enumerate(self.draws):
            here = np.flatnonzero(which == number)
            if len(here):
                for whole, part in zip(found, self._of(draw, keys[here]), strict=True):
                    whole[here] = part
        return found

    def fits(self, which: np.ndarray, operands: list[np.ndarray]) -> np.ndarray:
        """Tell which problems (n,) meet the conditions of the draw that they are of."""
        fits = np.ones(len(which), bool)
        if self.largest is not None:
            for operand in operands:
                fits &= (figures.values_of(operand, self.operation.base) < self.largest).astype(bool)
        if any(draw.where for draw in self.draws):
            values = flat(self.operation.cuts(operands))
            for number, draw in enumerate(self.draws):
                for name, (low, high) in draw.where.items():
                    fits &= (which != number) | ((values[name] >= low) & (values[name] <= high))
        return fits

    def _of(self, draw: Draw, keys: np.ndarray) -> list[np.ndarray]:
        found: list[np.ndarray] = []
        for number in range(self.operands):
            own = draw.second if number == 1 and draw.second else draw.digits
            length = self._length(
                own, draw.lengths, keys, 0 if draw.lengths == "length" and own == draw.digits else number
            )
            found.append(figures.widened(self._operand(own, draw.lengths, length, keys, number), self.widths[number]))
        return found

    def _operand(
        self, digits: tuple[int, int], lengths: str | Sequence[float], length: np.ndarray, keys: np.ndarray, number: int
    ) -> np.ndarray:
        """Draw operands of these lengths (n,), or by value."""
        low, high = digits
        base = np.uint64(self.operation.base)
        columns = [scramble(keys, derive(1, "digit", number, place)) % base for place in range(high)]
        drawn = np.stack(columns, axis=1).astype(np.int64)
        first = 1 + (scramble(keys, derive(1, "first", number)) % (base - np.uint64(1))).astype(np.int64)
        if self.operation.strings:
            return np.where(np.arange(high) < length[:, None], drawn, figures.NONE)
        if lengths == "value":
            short = figures.lengths(drawn) < low  # of a range that does not begin at zero
            drawn[short, low - 1] = first[short]
            return figures.written(drawn)
        top = (np.arange(high) == length[:, None] - 1) & (length[:, None] > 1)  # a number begins with none but zero
        drawn = np.where(top, first[:, None], drawn)
        return np.where(np.arange(high) < length[:, None], drawn, figures.NONE)

    def _length(
        self, digits: tuple[int, int], lengths: str | Sequence[float], keys: np.ndarray, number: int
    ) -> np.ndarray:
        low, high = digits
        if lengths == "value":
            return np.full(len(keys), high)
        chance = uniforms(derive(1, "length", number), keys)
        if isinstance(lengths, str):
            return low + np.minimum((chance * (high - low + 1)).astype(np.int64), high - low)
        shares = np.cumsum(lengths) / np.sum(lengths)
        return low + np.minimum(np.searchsorted(shares, chance, side="right"), high - low)

    def reaches(self, operands: list[np.ndarray], ordered: bool) -> np.ndarray:
        """Tell which problems (n,) have the lengths of some that are drawn, in this order of operands or in any."""
        lengths = np.stack([figures.counts(operand) for operand in operands])
        found = np.zeros(lengths.shape[1], bool)
        for draw in self.draws:
            low, high = draw.digits
            inside = (lengths >= low) & (lengths <= high)
            if draw.second is None or len(operands) < 2:
                found |= inside.all(axis=0)
                continue
            low, high = draw.second
            as_second = (lengths >= low) & (lengths <= high)
            for number in [1] if ordered else range(len(operands)):
                found |= as_second[number] & np.delete(inside, number, axis=0).all(axis=0)
        return found


class HeldOut:
    """A cut of all problems by a hash of their operands, in any order or in theirs."""

    def __init__(self, split: str, split_seed: int, val_fraction: float, test_fraction: float):
        self.ordered, self.key = split == "ordered", derive(split_seed, "split", "hash", split)
        self.val_fraction, self.test_fraction = val_fraction, test_fraction

    def place(self, operands: list[np.ndarray]) -> np.ndarray:
        """Number the split (n,) of each problem: 0 train, 1 val, 2 test."""
        hashes = np.stack([self._hash(operand) for operand in operands])
        whole = np.zeros(hashes.shape[1], np.uint64)
        for one in hashes if self.ordered else np.sort(hashes, axis=0):
            whole = scramble(whole ^ one, self.key)
        share = ((whole >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
        held = np.where(share < self.test_fraction, 2, 0)
        return np.where((held == 0) & (share < self.test_fraction + self.val_fraction), 1, held)

    def _hash(self, operand: np.ndarray) -> np.ndarray:
        found = np.zeros(len(operand), np.uint64)
        for column in operand.T:  # the same for a number, however many columns it lies in
            there = column != figures.NONE
            found = np.where(there, scramble(found ^ (column + 2).astype(np.uint64), self.key), found)
        return found


class Drawn:
    """Problems to train on by key, and fixed ones to validate and to test."""

    PLACES = ("train", "val", "test")

    def __init__(self, maker: Maker, held_out: HeldOut, excluded: Excluded, seed: int, sizes: dict[str, int]):
        self.maker, self.held_out, self.excluded, self.seed, self.sizes = maker, held_out, excluded, seed, sizes
        self.fixed: dict[str, list[np.ndarray]] = {}

    def count(self, split: str) -> int:
        return SAMPLES if split == "train" else len(self.held(split)[0])

    def problems(self, split: str, item: np.ndarray) -> list[np.ndarray]:
        """Return the operands of these items of a split."""
        if split != "train":
            return [operand[item] for operand in self.held(split)]
        keys = scramble(item, derive(self.seed, "samples"))
        found = [np.empty((len(item), width), np.int64) for width in self.maker.widths]
        which = self.maker.part(keys, item % RUN)  # which stays, however often it is drawn
        missing = np.arange(len(item))
        attempt = tries = 0
        while len(missing) and tries < TRIES:
            several = 1 + AT_ONCE // len(missing) if attempt else 1  # of the few that are hard to find
            mine = np.concatenate([scramble(keys[missing], attempt + k) for k in range(several)])
            kind = np.tile(which[missing], several)
            drawn = self.maker.make(mine, kind)
            good = (self.maker.fits(kind, drawn) & self.may_be_trained(drawn)).reshape(several, -1)
            done, first = good.any(axis=0), good.argmax(axis=0) * len(missing) + np.arange(len(missing))
            for whole, part in zip(found, drawn, strict=True):
                whole[missing[done]] = part[first[done]]
            tries = 0 if done.any() else tries + len(mine)
            missing, attempt = missing[~done], attempt + several
        if not len(missing):
            return found
        wrong = (
            "no problem to train on was found in many tries: what dataset.digits, dataset.modulus, dataset.mixture and "
        )
        raise ConfigError([f"{wrong}dataset.exclude_… ask for hardly fits together"])

    def rare(self) -> list[int]:
        """Number the draws of which many tries found no problem to train on."""
        found, tries = [], max(AT_ONCE, LOOK // sum(self.maker.widths))
        for number in range(len(self.maker.draws)):
            for start in range(0, tries, AT_ONCE):
                which = np.full(AT_ONCE, number)
                drawn = self.maker.make(scramble(start + np.arange(AT_ONCE), derive(self.seed, "rare")), which)
                if (self.maker.fits(which, drawn) & self.may_be_trained(drawn)).any():
                    break
            else:
                found.append(number)
        return found

    def may_be_trained(self, operands: list[np.ndarray]) -> np.ndarray:
        """Tell which problems (n,) are neither held out nor excluded."""
        return (self.held_out.place(operands) == 0) & ~self.excluded.among(operands, self.maker.operation.base)

    def is_apart(self, operands: list[np.ndarray]) -> np.ndarray:
        """Tell which problems (n,) are never trained on nor validated: those of the test, and those beyond."""
        return (self.held_out.place(operands) == 2) | ~self.maker.reaches(operands, self.held_out.ordered)

    def held(self, split: str) -> list[np.ndarray]:
        if split not in self.fixed:
            place = self.PLACES.index(split)
            self.fixed[split] = distinct(
                self.maker, self.sizes[split], derive(self.seed, split), lambda x: self.held_out.place(x) == place
            )
        return self.fixed[split]


def distinct(maker: Maker, size: int, key: int, allowed: Callable[[list[np.ndarray]], np.ndarray]) -> list[np.ndarray]:
    """Draw up to `size` different problems that are allowed: fewer only where there seem to be no more.

    Each of several draws has its share of them, if it is there at the end of training.
    """
    seen: set[bytes] = set()
    kept: list[list[np.ndarray]] = [[] for _ in range(maker.operands)]
    for draw, (before, share) in enumerate(zip([0.0, *maker.shares[-1]], maker.shares[-1], strict=False)):
        number, barren, wanted = 0, 0, round(size * share) if share > before else 0
        while len(seen) < wanted and barren < BARREN:
            keys = scramble(np.arange(number, number + 4096), derive(key, draw))
            number, before = number + 4096, len(seen)
            which = np.full(len(keys), draw)
            drawn = maker.make(keys, which)
            good = np.flatnonzero(maker.fits(which, drawn) & allowed(drawn))
            rows = np.concatenate([operand[good] for operand in drawn], axis=1).astype(np.int32)
            for place, row in zip(good, rows, strict=True):
                if len(seen) < wanted and (name := row.tobytes()) not in seen:
                    seen.add(name)
                    for whole, operand in zip(kept, drawn, strict=True):
                        whole.append(operand[place])
            barren = 0 if len(seen) > before else barren + 1
    return [np.array(rows).reshape(-1, width).astype(np.int64) for rows, width in zip(kept, maker.widths, strict=True)]


def flat(cuts: dict) -> dict[str, np.ndarray]:
    """Name each property of the slices of an operation by itself."""
    found: dict[str, np.ndarray] = {}
    for name, values in cuts.items():
        found |= values if isinstance(values, dict) else {name: values}
    return found
