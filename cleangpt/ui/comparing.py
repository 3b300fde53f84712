"""A comparison as data: the settings with their intervals, what they show, and the effect of each key."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cleangpt.follow.index import Entry
from cleangpt.report import collect, tables
from cleangpt.report.collect import Run
from cleangpt.report.compare import Comparison, compare, effect
from cleangpt.report.differences import Key, show
from cleangpt.report.tables import Table
from cleangpt.report.words import findings, not_alike, remarks, statuses
from cleangpt.ui.live import id_of

KEPT = 1000  # runs that were read
EFFECTS = 8


class Reader:
    """Runs as reports read them, kept as long as their files stay as they are."""

    def __init__(self) -> None:
        self.kept: OrderedDict[Path, tuple[Any, Run]] = OrderedDict()

    def read(self, entry: Entry) -> Run:
        signature = (entry.signature, entry.status)
        known = self.kept.get(entry.path)
        if known is None or known[0] != signature:
            known = self.kept[entry.path] = (signature, collect.read_run(entry.path))
            while len(self.kept) > KEPT:
                self.kept.popitem(last=False)
        known[1].name = entry.name
        return known[1]


def compared(reader: Reader, entries: Sequence[Entry], metric: str | None) -> dict[str, Any]:
    """Compare runs as a report does."""
    found = compare([reader.read(entry) for entry in entries], metric)
    judged, best = found.metric, found.winner()
    return {
        "statuses": statuses(found),
        "findings": [*not_alike(found), *findings(found)],
        "remarks": remarks(found),
        "metric": judged.name,
        "label": judged.label,
        "metrics": sorted({one.name for one in found.metrics} | {name for run in found.runs for name in run.columns}),
        "settings": _table(tables.of_groups(found)),
        "best": next((number for number, group in enumerate(found.groups) if group is best), None),
        "runs": {**_table(tables.of_runs(found)), "ids": [id_of(run.path) for run in found.runs]},
        "keys": [{"name": key.name, "with": key.followers} for key in found.keys],
        "effects": [drawn for key in found.keys[:EFFECTS] if (drawn := _effect(found, key)) is not None],
        "alike": [[key, show(value)] for key, value in found.common.items()],
    }


def _table(table: Table) -> dict[str, Any]:
    rows = [[[cell.text, cell.value] for cell in row] for row in table.rows]
    return {"titles": table.titles, "numeric": table.numeric, "rows": rows, "groups": table.groups}


def _effect(found: Comparison, key: Key) -> dict[str, Any] | None:
    drawn = effect(found, key)
    if drawn is None:
        return None
    scale = found.metric.scale
    lines = [
        {
            "others": label,
            "values": [show(value) for value, _ in points],
            "means": [_scaled(point.mean, scale) for _, point in points],
            "low": [_scaled(point.low, scale) for _, point in points],
            "high": [_scaled(point.high, scale) for _, point in points],
            "seeds": [point.count for _, point in points],
        }
        for label, points in drawn.lines.items()
    ]
    return {
        "key": key.name,
        "values": [show(value) for value in drawn.values],
        "lines": lines,
        "caption": drawn.caption,
    }


def _scaled(value: float | None, scale: int) -> float | None:
    return None if value is None else value * scale
