"""Compare runs: what differs, which of them differ by their seed only, which setting did best, and how surely."""

import fnmatch
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cleangpt.basics.errors import UserError
from cleangpt.basics.schema import nearest
from cleangpt.report import collect
from cleangpt.report.collect import Run
from cleangpt.report.differences import IGNORED, MISSING, SEED, Key, differing, order, setting, show
from cleangpt.report.estimate import Estimate, estimate

SHARES = re.compile(r"accuracy|pass@")
COUNTS = ("/problems", "/tokens")  # how much was scored, which is no quality


@dataclass
class Group:
    """Runs with one configuration, but for the seed."""

    values: dict[str, Any]  # of the keys that differ
    runs: list[Run]
    label: str = ""

    @property
    def finished(self) -> list[Run]:
        return [run for run in self.runs if run.is_finished]

    @property
    def seeds(self) -> list[Any]:
        return sorted({run.config.get(SEED) for run in self.runs}, key=str)


class Metric(NamedTuple):
    """A quantity by which runs are judged, or a column that is drawn."""

    name: str
    more_is_better: bool

    @property
    def sign(self) -> int:
        return 1 if self.more_is_better else -1

    @property
    def is_share(self) -> bool:
        """Tell whether it is written in percent."""
        return SHARES.search(self.name) is not None

    @property
    def scale(self) -> int:
        """Give the factor by which it is multiplied where it is drawn."""
        return 100 if self.is_share else 1

    @property
    def label(self) -> str:
        return f"final {self.name}{' (%)' if self.is_share else ''}"

    @property
    def limits(self) -> tuple[float, float]:
        return (0.0, 1.0) if self.is_share else (-math.inf if self.more_is_better else 0.0, math.inf)

    @property
    def at_end(self) -> bool:
        """Tell whether it is scored only when a run has ended, so that it has no best value besides."""
        return self.name.startswith("test/")


@dataclass
class Comparison:
    """Runs, the settings that they are of, and the quantities that they are judged by."""

    runs: list[Run]
    groups: list[Group]
    keys: list[Key]
    metric: Metric
    metrics: list[Metric]  # all that were found, the one that judges first
    common: dict[str, Any]  # the configuration that all share
    notes: list[str]
    drawn: list[str]  # columns to draw, besides losses and scores

    def metric_of(self, name: str) -> Metric:
        return _metric(self.runs, name)

    @property
    def second(self) -> Metric | None:
        """Find the metric that ranks settings which share a final value."""
        return next((metric for metric in self.metrics if metric.name == "val/loss" != self.metric.name), None)

    def final(self, group: Group, metric: Metric) -> Estimate:
        """Estimate the last value from the group's finished runs."""
        return _over_seeds(group, metric, lambda run: run.final(metric.name))

    def best(self, group: Group, metric: Metric) -> Estimate:
        """Estimate the best value at any evaluation from the group's finished runs."""
        return _over_seeds(group, metric, lambda run: (run.best(metric.name, metric.sign) or (None,))[0])

    def mean_total(self, group: Group, name: str) -> float | None:
        return estimate([total for run in group.finished if (total := run.total(name)) is not None]).mean

    def ranking(self) -> list[Group]:
        """Order the groups with a final value, the best first; of those that share it, the one with the lowest loss."""
        return [group for _, group in self._ranks()]

    def winner(self) -> Group | None:
        """Name the group that is best, if there are several and one is."""
        first, second = [*self._ranks()[:2], None, None][:2]
        return first[1] if first and second and first[0] != second[0] else None

    def _ranks(self) -> list[tuple[tuple[float, float], Group]]:
        found = []
        for group in self.groups:
            if (mean := self.final(group, self.metric).mean) is not None:
                loss = self.final(group, self.second).mean if self.second else None
                found.append(((-self.metric.sign * mean, math.inf if loss is None else loss), group))
        return sorted(found, key=lambda ranked: ranked[0])


def _over_seeds(group: Group, metric: Metric, value_of: Callable[[Run], float | None]) -> Estimate:
    """Estimate over seeds. One that was run twice gave the same twice: it counts once, with the mean of both."""
    by_seed: dict[Any, list[float]] = {}
    for run in group.finished:
        value = value_of(run)
        if value is not None and math.isfinite(value):
            by_seed.setdefault(run.config.get(SEED), []).append(value)
    return estimate([math.fsum(found) / len(found) for found in by_seed.values()], metric.limits)


def compare(runs: list[Run], metric: str | None, curves: Sequence[str] = ()) -> Comparison:
    """Compare runs, judged by `metric`; `curves` are columns to draw besides, by name or by pattern."""
    comparable = [run for run in runs if run.config]
    metrics = _metrics(runs, metric)
    drawn = _drawn(runs, curves)
    keys, values = differing(comparable)
    groups: dict[str, Group] = {}
    for run, chosen in zip(comparable, values, strict=True):
        group = groups.setdefault(setting(run), Group({key.name: chosen.get(key.name, MISSING) for key in keys}, []))
        group.runs.append(run)
        group.label = ", ".join(f"{key.label}={show(group.values[key.name])}" for key in keys) or "all runs"
    ordered = sorted(groups.values(), key=lambda group: [order(group.values[key.name]) for key in keys])
    first, *others = [run.config for run in comparable] or [{}]
    alike = {name: value for name, value in first.items() if all(name in c and c[name] == value for c in others)}
    common = {name: value for name, value in alike.items() if name not in IGNORED}
    missing = collect.missing_jobs([run.path for run in runs])
    found = Comparison(runs, ordered, keys, metrics[0], metrics, common, missing, drawn)
    found.notes += _notes(found)
    return found


# ---- effects


class Effect(NamedTuple):
    """The final values of settings by one key."""

    values: list[Any]  # of the key, in their order
    lines: dict[str, list[tuple[Any, Estimate]]]  # settings that are alike in all other keys, by what these are
    whole: bool  # whether each line has a point at each value
    joined: bool  # whether there are lines: a random search has hardly two settings that differ in one key
    caption: str


def effect(found: Comparison, key: Key) -> Effect | None:
    """Lay out the final value at each value of one key; None where there is nothing to compare."""
    lines: dict[tuple[Any, ...], list[tuple[Any, Estimate]]] = {}
    others = [other for other in found.keys if other is not key]
    for group in found.groups:
        estimate = found.final(group, found.metric)
        if estimate.mean is not None:
            place = tuple(group.values[other.name] for other in others)
            lines.setdefault(place, []).append((group.values[key.name], estimate))
    values = sorted({value: None for line in lines.values() for value, _ in line}, key=order)
    if len(values) < 2:
        return None
    for line in lines.values():
        line.sort(key=lambda point: order(point[0]))
    whole = all(len(line) == len(values) for line in lines.values())
    joined = sum(map(len, lines.values())) >= 1.5 * len(lines)
    if len(lines) == 1:
        caption = "Points are means over seeds, bars their 95% intervals."
    elif not joined:
        caption = "A point is a setting, which differs from the others in other keys too."
    elif whole:
        caption = "Grey lines join settings that are alike in all other keys; blue is their mean."
    else:
        caption = (
            "Grey lines join settings that are alike in all other keys. "
            "Not every setting was run at every value, so there is no fair mean."
        )

    def named(place: tuple[Any, ...]) -> str:
        return ", ".join(f"{other.label}={show(value)}" for other, value in zip(others, place, strict=True))

    return Effect(values, {named(place): line for place, line in lines.items()}, whole, joined, caption)


# ---- metrics


def _metrics(runs: list[Run], asked: str | None) -> list[Metric]:
    """List val/… and test/… of any run; the one asked for, or val/accuracy, or val/loss comes first."""
    logged = {name for run in runs for name in run.columns}
    names = {name for name in logged if name.startswith("val/")}
    names |= {name for run in runs for name in run.summary if name.startswith(("val/", "test/"))}
    names = {name for name in names if not name.endswith(COUNTS)}
    preferred = ["val/accuracy", "val/loss"]
    found = [name for name in preferred if name in names] + sorted(names - set(preferred))
    every = {*found, *(name for name in logged if name.startswith("train/"))}
    if asked is not None and asked not in every:
        raise _unknown(f"`metric` is {asked}", asked, sorted(every))
    first = asked or (found[0] if found else "train/loss")
    return [_metric(runs, name) for name in (first, *(name for name in found if name != first))]


def _metric(runs: list[Run], name: str) -> Metric:
    """Make a metric: tasks of runs that have it say whether more is better; where none does, its name."""
    holders = [run for run in runs if name in run.last or name in run.summary]
    said = [run.more_is_better for run in holders if run.more_is_better is not None]
    leaf = name.partition("/")[2]
    return Metric(name, any(leaf in names for names in said) if said else SHARES.search(name) is not None)


def _drawn(runs: list[Run], asked: Sequence[str]) -> list[str]:
    names = sorted({name for run in runs for name in run.last})
    for pattern in asked:
        if not fnmatch.filter(names, pattern):
            raise _unknown(f"`curves` has {pattern}", pattern, names)
    return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in asked)]


def _unknown(said: str, asked: str, names: list[str]) -> UserError:
    """Name what there is instead. Norms are many, a pair for each layer, and are named by a pattern."""
    guess = nearest(asked, names)
    hint = f"did you mean `{guess}`? " if guess else ""
    short = dict.fromkeys(re.sub(r"^(\w+_norm)/.*", r"\1/*", name) for name in names)
    return UserError(f"{said}, which no run has: {hint}There is {', '.join(short) or 'none'}")


# ---- what is to be said of them


def _notes(found: Comparison) -> list[str]:
    notes = []
    for group in found.groups:
        for seed in group.seeds:
            again = [run.name for run in group.finished if run.config.get(SEED) == seed]
            if len(again) > 1:
                notes.append(f"{' and '.join(again)} have one configuration and one seed: they count as one.")
        for run in group.finished:
            value = run.final(found.metric.name)
            if value is None or not math.isfinite(value):
                what = "has no" if value is None else "ended without a finite"
                notes.append(f"{run.name} {what} {found.metric.name}, and is left out of the mean.")
    if cut := [f"{run.name} ({run.ended})" for run in found.runs if run.config and not run.is_finished]:
        which = "Not of these, which are in the table of runs"
        notes.append(f"Means, intervals and effects are of runs that finished. {which}: {'; '.join(cut)}.")
    return notes
