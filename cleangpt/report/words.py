"""A comparison in words and numbers for people."""

import math
from collections import Counter

from cleangpt.basics.words import counted
from cleangpt.disk import alike
from cleangpt.report.compare import Comparison, Metric
from cleangpt.report.differences import MISSING
from cleangpt.report.estimate import Estimate, difference


def findings(found: Comparison) -> list[str]:
    """Say what the runs show, and how surely."""
    ranking, metric = found.ranking(), found.metric
    if len(ranking) < 2:
        return []
    tasks = sorted({str(run.config.get("dataset.name")) for group in ranking for run in group.runs})
    if len(tasks) > 1:
        return [f"These runs learn {len(tasks)} tasks ({', '.join(tasks)}), whose scores do not compare."]
    best, second = ranking[:2]
    one, other = found.final(best, metric), found.final(second, metric)
    if one.mean == other.mean:
        tied = [group.label for group in ranking if found.final(group, metric).mean == one.mean]
        said = [f"{len(tied)} settings share the best final {metric.name}, {show_value(one.mean, metric)}."]
        if found.second is None or found.winner() is None:
            return said
        metric = found.second
        one, other = found.final(best, metric), found.final(second, metric)
        shown = f"{show_estimate(one, metric)}{_seeds(one)}"
        said.append(f"Of these {best.label} has the best final {metric.name}, {shown}.")
        if other.mean is None:
            return said
    else:
        said = [f"Best final {metric.name}: {best.label}, {show_estimate(one, metric)}{_seeds(one)}."]
    apart = difference(one, other)
    against = f"the next, {second.label} ({show_estimate(other, metric)}{_seeds(other)})"
    if apart is None:
        said.append(f"Whether it is better than {against} can't be told: that takes several seeds of both.")
    else:
        middle, low, high = (abs(apart[0]), *sorted(metric.sign * side for side in apart[1:]))
        unit = metric.scale
        points = " points" if metric.is_share else ""
        verdict = "these seeds do not tell them apart" if low <= 0 else "the seeds tell them apart"
        said.append(
            f"The difference from {against} is {middle * unit:.3g}{points}, 95% interval "
            f"{low * unit:.3g} to {high * unit:.3g} (Welch): {verdict}."
        )
    if len(ranking) > 2:
        said.append(
            f"The best of {len(ranking)} settings is chosen by the value that is shown, which flatters it: "
            "fresh seeds would say how good it is."
        )
    return said


def _seeds(estimate: Estimate) -> str:
    return f" {'of' if estimate.count == 1 else 'over'} {counted(estimate.count, 'seed')}"


def show_value(value: float | None, metric: Metric) -> str:
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return "not finite"
    return f"{value:.2%}" if metric.is_share else f"{value:#.4g}".rstrip(".")


def show_estimate(found: Estimate, metric: Metric) -> str:
    """Write mean ± standard deviation."""
    text = show_value(found.mean, metric)
    if found.sd is None:
        return text
    return f"{text.removesuffix('%')} ± {found.sd:.2%}" if metric.is_share else f"{text} ± {found.sd:#.2g}".rstrip(".")


def show_interval(found: Estimate, metric: Metric) -> str:
    if found.sd is None:
        return MISSING
    low, high = show_value(found.low, metric), show_value(found.high, metric)
    return f"{low.removesuffix('%')} to {high}"


def not_alike(found: Comparison) -> list[str]:
    """Say what differs in how these runs were computed, beside their configurations."""
    sentence = alike.sentence({run.name: run.computed for run in found.runs if run.computed})
    return [sentence] if sentence else []


def remarks(found: Comparison) -> list[str]:
    """Collect the notes on single runs, and on the comparison."""
    return [f"{run.name} ({run.ended}): {' '.join(run.notes)}" for run in found.runs if run.notes] + found.notes


def statuses(found: Comparison) -> str:
    """Count the runs by how they ended."""
    ends = Counter(run.ended for run in found.runs)
    told = ", ".join(f"{count} {name}" for name, count in ends.items())
    return f"{counted(len(found.runs), 'run')}: {told}. {counted(len(found.groups), 'setting')}."
