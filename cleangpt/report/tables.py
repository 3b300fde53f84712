"""A comparison as tables: for the console, as Markdown, and with every digit as CSV."""

import io
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from cleangpt.basics.shown import write_csv
from cleangpt.basics.words import abbreviated
from cleangpt.report.collect import Run
from cleangpt.report.columns import AXES
from cleangpt.report.compare import Comparison, Group
from cleangpt.report.differences import MISSING, SEED, order, show
from cleangpt.report.words import show_estimate, show_interval, show_value
from cleangpt.runs import alike
from cleangpt.terminal.patience import duration


class Cell(NamedTuple):
    text: str
    value: float | str | None  # to sort by; None comes last


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
    titles = [key.name for key in found.keys] or ["setting"]
    titles += ["seeds", f"final {main.name}", "95% interval"]
    titles += [] if main.name.startswith("test/") else [f"best {main.name}"]
    titles += [_final(metric.name) for metric in others]
    titles += ["tokens", "time"]
    rows = []
    for group in found.groups:
        estimate = found.final(group, main)
        row = [_configured(group.values[key.name]) for key in found.keys] or [Cell(group.label, group.label)]
        row += [_seeds(group, estimate.count)]
        row += [Cell(show_estimate(estimate, main), estimate.mean), Cell(show_interval(estimate, main), estimate.low)]
        if not main.name.startswith("test/"):
            best = found.best(group, main)
            row.append(Cell(show_estimate(best, main), best.mean))
        for metric in others:
            estimate = found.final(group, metric)
            row.append(Cell(show_estimate(estimate, metric), estimate.mean))
        rows.append([*row, _tokens(found.mean_total(group, "tokens")), _time(found.mean_total(group, "seconds"))])
    return _table(titles, rows, list(range(len(rows))))


def of_runs(found: Comparison) -> Table:
    """Make a table with a row for each run, whatever became of it."""
    main, *others = found.metrics
    titles = ["run", "status", *(key.name for key in found.keys), SEED, "step", f"final {main.name}"]
    titles += [] if main.name.startswith("test/") else [f"best {main.name}", "at step"]
    titles += [*(_final(metric.name) for metric in others), "train/loss", "tokens", "tokens/s", "time", "parameters"]
    machines = [name for name in alike.differing(run.computed for run in found.runs) if _adds(found, name)]
    titles += [f"{name}, by parts" if name in titles else name for name in machines]
    number = {id(run): n for n, group in enumerate(found.groups) for run in group.runs}
    rows = []
    for run in found.runs:
        group = found.groups[number[id(run)]] if id(run) in number else None
        row = [Cell(run.name, run.name), Cell(run.status.replace("_", " "), run.status)]
        row += [_configured(group.values[key.name]) if group else Cell(MISSING, None) for key in found.keys]
        row += [_configured(run.config.get(SEED, MISSING)), _count(run.step)]
        row.append(_value(run.final(main.name), main))
        if not main.name.startswith("test/"):
            best, step = run.best(main.name, main.sign) or (None, None)
            row += [_value(best, main), _count(step)]
        row += [_value(run.final(metric.name), metric) for metric in others]
        loss, speed = run.final("train/loss"), run.summary.get("tokens_per_second")
        row.append(Cell(MISSING if loss is None else f"{loss:.4g}", loss))
        rows.append([*row, _tokens(run.total("tokens")), _count(speed), _time(run.total("seconds"))])
        rows[-1].append(_count(run.parameters))
        rows[-1] += [_computed(run, name) for name in machines]
    return _table(titles, rows, [number.get(id(run)) for run in found.runs])


def _adds(found: Comparison, name: str) -> bool:
    """Test whether an aspect is no key of the table, or changed within a run."""
    return name not in [key.name for key in found.keys] or any(
        len(run.computed.get(name, [])) > 1 for run in found.runs
    )


def _computed(run: Run, name: str) -> Cell:
    values = run.computed.get(name, [])
    text = alike.shown(values) or MISSING
    return Cell(text, values[0] if len(values) == 1 else text if values else None)


def _final(name: str) -> str:
    return name if name.startswith("test/") else f"final {name}"


def _table(titles: list[str], rows: list[list[Cell]], groups: list[int | None]) -> Table:
    """Make a table without the columns that say nothing in any row."""
    kept = [n for n in range(len(titles)) if any(row[n].text not in ("", MISSING) for row in rows)]
    rows = [[row[n] for n in kept] for row in rows]
    numeric = [all(not isinstance(row[n].value, str) for row in rows) for n in range(len(kept))]
    return Table([titles[n] for n in kept], rows, groups, numeric)


def _configured(value: Any) -> Cell:
    return Cell(show(value), value if order(value)[0] == 0 else None if value == MISSING else show(value))


def _seeds(group: Group, count: int) -> Cell:
    asked = len(group.seeds)
    return Cell(str(count) if count == asked else f"{count} of {asked}", count)


def _value(value: float | None, metric: Any) -> Cell:
    return Cell(show_value(value, metric), value if value is not None and math.isfinite(value) else None)


def _count(value: float | None) -> Cell:
    return Cell(MISSING if value is None else f"{value:,.0f}", value)


def _time(seconds: float | None) -> Cell:
    return Cell(MISSING if seconds is None else duration(seconds), seconds)


def _tokens(value: float | None) -> Cell:
    return Cell(MISSING if value is None else abbreviated(value), value)


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
            kinds = {"final": found.final(group, metric)}
            if not metric.name.startswith("test/"):
                kinds["best"] = found.best(group, metric)
            for kind, estimate in kinds.items():
                record |= {f"{kind} {metric.name} {part}": value for part, value in estimate._asdict().items()}
        record |= {name: found.mean_total(group, name) for name in ("tokens", "seconds")}
        records.append(record)
    return _csv(records)


def runs_csv(found: Comparison) -> str:
    """Write every digit: a line for each run, with all keys that differ, also those that only follow others."""
    names = [name for key in found.keys for name in (key.name, *key.followers)]
    owner = {id(run): group for group in found.groups for run in group.runs}
    records = []
    for run in found.runs:
        values = {**(owner[id(run)].values if id(run) in owner else {}), **run.config}
        records.append(_run_record(found, run, {name: _key(values.get(name, MISSING)) for name in names}))
    return _csv(records)


def _run_record(found: Comparison, run: Run, values: dict[str, Any]) -> dict[str, Any]:
    record = {"run": run.name, "path": str(run.path), "status": run.status, **values, SEED: run.config.get(SEED)}
    record |= {"step": run.step, "final train/loss": run.final("train/loss")}
    for metric in found.metrics:
        record[f"final {metric.name}"] = run.final(metric.name)
        if not metric.name.startswith("test/"):
            best, step = run.best(metric.name, metric.sign) or (None, None)
            record |= {f"best {metric.name}": best, f"best {metric.name} step": step}
    record |= {"tokens": run.total("tokens"), "tokens_per_second": run.summary.get("tokens_per_second")}
    computed = {f"computed {name}": alike.shown(run.computed.get(name, [])) for name in alike.ASPECTS}
    logged = {f"final {name}": value for name, value in run.last.items() if name not in AXES}
    return {
        **record,
        "seconds": run.total("seconds"),
        "parameters": run.parameters,
        **computed,
        **{name: value for name, value in logged.items() if name not in record},
        "notes": " ".join(run.notes),
    }


def _csv(records: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    write_csv(text, records, "\n")
    return text.getvalue()


def _key(value: Any) -> Any:
    """Write a configured value: null is one, and a key that a run does not have is an empty field."""
    if value == MISSING:
        return ""
    return value if order(value)[0] == 0 else show(value)
