"""A comparison as tables: for the console, as Markdown, and with every digit as CSV."""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from cleangpt.basics.shown import write_csv
from cleangpt.basics.words import abbreviated
from cleangpt.disk import alike
from cleangpt.report import arrival
from cleangpt.report.collect import Run
from cleangpt.report.columns import AXES
from cleangpt.report.compare import Comparison, Group, Metric
from cleangpt.report.differences import MISSING, SEED, order, show
from cleangpt.report.words import show_estimate, show_interval, show_value
from cleangpt.terminal.patience import duration


class Cell(NamedTuple):
    """A cell as it is shown, and as it is sorted."""

    text: str
    value: float | str | None  # to sort by; None comes last


NOTHING = Cell(MISSING, None)


@dataclass
class Table:
    """Rows belong to groups: rows[n] to the group of this number in the comparison, or to none (None)."""

    titles: list[str]
    rows: list[list[Cell]]
    groups: list[int | None]
    numeric: list[bool]


def of_groups(found: Comparison) -> Table:
    """Make a table with a row for each setting, over its seeds."""
    main, *others = found.metrics
    rows = []
    for group in found.groups:
        estimate, asked = found.final(group, main), len(group.seeds)
        row = {key.name: _configured(group.values[key.name]) for key in found.keys}
        row = row or {"setting": Cell(group.label, group.label)}
        counted = str(estimate.count) if estimate.count == asked else f"{estimate.count} of {asked}"
        row["seeds"] = Cell(counted, estimate.count)
        row[f"final {main.name}"] = Cell(show_estimate(estimate, main), estimate.mean)
        row["95% interval"] = Cell(show_interval(estimate, main), estimate.low)
        if not main.at_end:
            best = found.best(group, main)
            row[f"best {main.name}"] = Cell(show_estimate(best, main), best.mean)
        for metric in others:
            estimate = found.final(group, metric)
            row[_final(metric)] = Cell(show_estimate(estimate, metric), estimate.mean)
        row |= _arrivals(group)
        row["tokens"] = _cell(found.mean_total(group, "tokens"), abbreviated)
        row["time"] = _cell(found.mean_total(group, "seconds"), duration)
        rows.append(row)
    return _table(rows, list(range(len(rows))))


def _arrivals(group: Group) -> dict[str, Cell]:
    """Say at which step half of the seeds have arrived at a share of right answers."""
    found = {}
    for name, share in arrival.SHARES.items():
        arrived, step, _ = arrival.of(group.finished, share)
        some = "" if arrived in (0, len(group.finished)) else f" ({arrived} of {len(group.finished)})"
        words = f"{step:,.0f}{some}" if step is not None else some.strip()
        found[f"{name} at step"] = Cell(words or MISSING, step)
    return found


def of_runs(found: Comparison) -> Table:
    """Make a table with a row for each run, whatever became of it."""
    main, *others = found.metrics
    machines = alike.differing(run.computed for run in found.runs)  # but for keys, unless they changed within a run
    changed = {name for run in found.runs for name, values in run.computed.items() if len(values) > 1}
    machines = [name for name in machines if name in changed or name not in [key.name for key in found.keys]]
    number = {id(run): n for n, group in enumerate(found.groups) for run in group.runs}
    rows = []
    for run in found.runs:
        values = found.groups[number[id(run)]].values if id(run) in number else None
        row = {"run": Cell(run.name, run.name), "status": Cell(run.ended, run.status)}
        row |= {key.name: _configured(values[key.name]) if values else NOTHING for key in found.keys}
        row |= {SEED: _configured(run.config.get(SEED, MISSING)), "step": _count(run.step)}
        row[f"final {main.name}"] = _value(run.final(main.name), main)
        if not main.at_end:
            best, step = run.best(main.name, main.sign) or (None, None)
            row |= {f"best {main.name}": _value(best, main), "at step": _count(step)}
        row |= {_final(metric): _value(run.final(metric.name), metric) for metric in others}
        row["train/loss"] = _cell(run.final("train/loss"), lambda loss: f"{loss:.4g}")
        row["tokens"] = _cell(run.total("tokens"), abbreviated)
        row["tokens/s"] = _count(run.summary.get("tokens_per_second"))
        row["time"] = _cell(run.total("seconds"), duration)
        row["parameters"] = _count(run.parameters)
        row |= {f"{name}, by parts" if name in row else name: _computed(run, name) for name in machines}
        rows.append(row)
    return _table(rows, [number.get(id(run)) for run in found.runs])


def _computed(run: Run, name: str) -> Cell:
    values = run.computed.get(name, [])
    return Cell(alike.shown(values), values[0] if len(values) == 1 else alike.shown(values)) if values else NOTHING


def _final(metric: Metric) -> str:
    return metric.name if metric.at_end else f"final {metric.name}"


def _table(rows: list[dict[str, Cell]], groups: list[int | None]) -> Table:
    """Make a table without the columns that say nothing in any row."""
    titles = [title for title in rows[0] if any(row[title].text not in ("", MISSING) for row in rows)] if rows else []
    numeric = [all(not isinstance(row[title].value, str) for row in rows) for title in titles]
    return Table(titles, [[row[title] for title in titles] for row in rows], groups, numeric)


def _cell(value: float | None, write: Callable[[float], str]) -> Cell:
    return NOTHING if value is None else Cell(write(value), value)


def _count(value: float | None) -> Cell:
    return _cell(value, lambda count: f"{count:,.0f}")


def _value(value: float | None, metric: Metric) -> Cell:
    return Cell(show_value(value, metric), value if value is not None and math.isfinite(value) else None)


def _configured(value: Any) -> Cell:
    return Cell(show(value), value if order(value)[0] == 0 else None if value == MISSING else show(value))


# ---- as files


def markdown(table: Table) -> str:
    sides = ["---:" if numeric else "---" for numeric in table.numeric]
    lines = [table.titles, sides, *([cell.text for cell in row] for row in table.rows)]
    return "".join("| " + " | ".join(plain(word) for word in line) + " |\n" for line in lines)


def plain(word: str) -> str:
    """Escape a word for a table of Markdown: it begins no line, no cell and no tag."""
    word = " ".join(word.split())
    for sign in "\\`|*_<>[]":
        word = word.replace(sign, "\\" + sign)
    return word


def groups_csv(found: Comparison) -> str:
    """Write every digit: a line for each setting, and of each quantity its count, mean, deviation and interval."""
    records = []
    for group in found.groups:
        record = {key.name: _key(group.values[key.name]) for key in found.keys}
        record |= {"runs": len(group.runs), "finished": len(group.finished)}
        for metric in found.metrics:
            kinds = {"final": found.final} if metric.at_end else {"final": found.final, "best": found.best}
            for kind, of in kinds.items():
                estimate = vars(of(group, metric))
                record |= {f"{kind} {metric.name} {part}": value for part, value in estimate.items()}
        for name, share in arrival.SHARES.items() if arrival.are_known(found.runs) else ():
            when = arrival.of(group.finished, share)
            parts = {"runs": when.arrived, "median step": when.step, "median tokens": when.tokens}
            record |= {f"{name} {part}": value for part, value in parts.items()}
        records.append(record | {name: found.mean_total(group, name) for name in ("tokens", "seconds")})
    return _csv(records)


def runs_csv(found: Comparison) -> str:
    """Write every digit: a line for each run, with all keys that differ, also those that only follow others."""
    names = [name for key in found.keys for name in (key.name, *key.followers)]
    chosen = {id(run): group.values for group in found.groups for run in group.runs}
    records = []
    for run in found.runs:
        values = {**chosen.get(id(run), {}), **run.config}
        record: dict[str, Any] = {"run": run.name, "path": str(run.path), "status": run.status}
        record |= {name: _key(values.get(name, MISSING)) for name in names} | {SEED: run.config.get(SEED)}
        record |= {"step": run.step, "final train/loss": run.final("train/loss")}
        for metric in found.metrics:
            record[f"final {metric.name}"] = run.final(metric.name)
            if not metric.at_end:
                best, step = run.best(metric.name, metric.sign) or (None, None)
                record |= {f"best {metric.name}": best, f"best {metric.name} step": step}
        record |= {"tokens": run.total("tokens"), "tokens_per_second": run.summary.get("tokens_per_second")}
        record |= {"seconds": run.total("seconds"), "parameters": run.parameters}
        record |= {f"computed {name}": alike.shown(run.computed.get(name, [])) for name in alike.ASPECTS}
        logged = {f"final {name}": value for name, value in run.last.items() if name not in AXES}
        record |= {name: value for name, value in logged.items() if name not in record}
        records.append(record | {"notes": " ".join(run.notes)})
    return _csv(records)


def _csv(records: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    write_csv(text, records, "\n")
    return text.getvalue()


def _key(value: Any) -> Any:
    """Write a configured value: null is one, and a key that a run does not have is an empty field."""
    if value == MISSING:
        return ""
    return value if order(value)[0] == 0 else show(value)
