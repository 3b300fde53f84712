"""`cleangpt runs`: how each run stands, in a table."""

import sys
from typing import Any

from cleangpt.basics.words import counted
from cleangpt.config.programs import RunsConfig
from cleangpt.terminal import console, patience
from cleangpt.terminal.narrow import Name, Table
from cleangpt.terminal.patience import duration

SHOWN = ("val/accuracy", "val/loss")


def runs(settings: RunsConfig) -> int:
    from cleangpt.follow.index import Entry, Index
    from cleangpt.report.collect import folders

    index = Index(folders(settings.runs))
    with patience.doing("Looking for runs"):
        index.refresh()
    every = list(index.entries.values())
    chosen = [entry for entry in every if settings.status is None or entry.status in settings.status]

    def order(entry: Entry) -> Any:
        return {"started": entry.started, "name": entry.name, "status": entry.status}[settings.sort]

    chosen.sort(key=order, reverse=settings.sort == "started")
    shown = console.for_tables()
    if not chosen:
        shown.print(_counts(every) if every else f"There is no run in {settings.runs}.", markup=False)
        return 0
    table = Table(title=_counts(every), title_justify="left", title_style="bold")
    for name in ("run", "status", "step", "left", *SHOWN, "started"):
        table.add_column(name, justify="left" if name in ("run", "status", "started") else "right")
    for entry in chosen[: settings.limit]:
        table.add_row(Name(entry.name), entry.status.replace("_", " "), *_cells(entry))
    shown.print(table)
    if settings.limit is not None and len(chosen) > settings.limit:
        shown.print(f"{len(chosen) - settings.limit} more: limit=null shows all", markup=False)
    sys.stdout.flush()
    return 0


def _counts(entries: list[Any]) -> str:
    statuses = [entry.status for entry in entries]
    each = (f"{statuses.count(status)} {status.replace('_', ' ')}" for status in dict.fromkeys(sorted(statuses)))
    return f"{counted(len(entries), 'run')}: {', '.join(each)}"


def _cells(entry: Any) -> list[str]:
    of = f"/{entry.steps}" if entry.steps else ""
    left = entry.seconds_left()
    values = [entry.last.get(name, entry.summary.get(name)) for name in SHOWN]
    scores = [
        "–" if not isinstance(value, int | float) else f"{value:.2%}" if name == "val/accuracy" else f"{value:.5f}"
        for name, value in zip(SHOWN, values, strict=True)
    ]
    started = entry.started[:16].replace("T", " ")
    return [
        "–" if entry.step is None else f"{entry.step}{of}",
        "" if left is None else duration(left),
        *scores,
        started,
    ]
