"""A sweep as a person watches it: a table that moves on a terminal, plain lines in a log."""

import time
from typing import Any

from rich.live import Live
from rich.markup import escape

from cleangpt.sweeps.jobs import DONE, Job, Outcome, Watched
from cleangpt.terminal.console import Console, for_tables
from cleangpt.terminal.narrow import Table
from cleangpt.terminal.patience import duration

COLORS = {"running": "cyan", "failed": "red", "stopped": "yellow", "pruned": "yellow", "waiting": "dim"}
REFRESH = 4  # times a second
SHOWN = ("val/loss", "val/accuracy")


class Row:
    """A job as it is shown."""

    def __init__(self, job: Job, outcome: Outcome):
        self.job, self.outcome, self.watched = job, outcome, Watched(job.run.metrics)
        self.began = time.monotonic()
        self.seconds: float | None = outcome.summary.get("seconds")

    @property
    def status(self) -> str:
        return self.outcome.status

    def value(self, name: str) -> Any:
        """Read the newest value of a quantity: that of the summary, or of the last line."""
        found = self.outcome.summary.get(name)
        return self.watched.last.get(name) if found is None else found

    def step(self) -> int:
        return self.outcome.summary.get("step") or self.watched.last.get("step", 0)

    def values(self) -> str:
        """Write the values of the last evaluation, for a line."""
        found = [(name, self.value(name)) for name in SHOWN]
        return ", ".join(f"{name} {_number(name, value)}" for name, value in found if value is not None)


class Board:
    """Keeps the rows of all jobs and shows them. `total` is how many jobs there will be."""

    def __init__(self, total: int, console: Console | None = None):
        self.console = console or for_tables()
        self.total = total
        self.rows: dict[int, Row] = {}
        self.live: Live | None = None
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self.live = Live(
                get_renderable=self.picture, console=self.console, refresh_per_second=REFRESH, transient=True
            )
            self.live.start()

    def say(self, words: str) -> None:
        self.console.print(words, markup=False, soft_wrap=True)
        self.console.file.flush()

    def before(self, job: Job, outcome: Outcome) -> None:
        """Show a job that an earlier part of the sweep has done."""
        row = self.rows[job.number] = Row(job, outcome)
        self._line(row, outcome.status, row.values())

    def started(self, job: Job) -> Watched:
        """Show a job as running, and return its metrics to be watched."""
        row = self.rows[job.number] = Row(job, Outcome("running"))
        self._line(row, "started")
        return row.watched

    def ended(self, job: Job, outcome: Outcome) -> None:
        """Show how a job ended."""
        row = self.rows[job.number]
        row.outcome, row.seconds = outcome, time.monotonic() - row.began
        if outcome.status == "failed":
            self._line(row, "failed", outcome.message)
        else:
            at = f" at step {row.step()}" if outcome.status in ("stopped", "pruned") else ""
            word = {"completed": "finished", "early_stopped": "finished early"}.get(outcome.status, outcome.status)
            self._line(row, f"{word}{at} in {duration(row.seconds)}", row.values())

    def _line(self, row: Row, *what: str) -> None:
        if self.live is None:
            told = ": ".join(filter(None, what))
            self.say(" ".join(filter(None, [f"{row.job.number:04}", row.job.label, told])))

    def best(self) -> list[str]:
        """Name the best of several jobs that finished: by accuracy, then by loss."""
        found = [row for row in self.rows.values() if row.status in (*DONE, "done before")]
        found = [row for row in found if row.value("val/loss") is not None]
        if len(found) < 2:
            return []
        row = min(found, key=lambda row: (-(row.value("val/accuracy") or 0.0), row.value("val/loss")))
        return [f"Best: {row.job.number:04}, {row.job.label}: {row.values()}"]

    def close(self) -> None:
        if self.live:
            self.live.stop()
            self.live = None

    def picture(self) -> Table:
        """Choose what fits on the terminal: first what runs, then what ended last."""
        room = max(3, self.console.size.height - 6)
        rows = list(self.rows.values())
        running = [row for row in rows if row.status == "running"]
        ended = [row for row in rows if row.status != "running"]
        kept = running + ended[max(0, len(ended) - (room - len(running))) :] if len(running) < room else running
        hidden = len(rows) - len(kept)
        caption = f"{len(ended)} of {self.total} ended, {len(running)} running, {self.total - len(rows)} waiting"
        return self.table(kept, caption + (f"; {hidden} not shown" if hidden else ""))

    def table(self, rows: list[Row] | None = None, caption: str | None = None) -> Table:
        """Make a table of some rows, or of all."""
        table = Table(caption=caption, caption_justify="left")
        table.add_column("job", justify="right", no_wrap=True)
        table.add_column("what differs", overflow="fold")
        table.add_column("status", overflow="fold")
        for name in ("step", *SHOWN, "time"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in sorted(self.rows.values() if rows is None else rows, key=lambda row: row.job.number):
            seconds = time.monotonic() - row.began if row.status == "running" else row.seconds
            color = COLORS.get(row.status)
            table.add_row(
                f"{row.job.number:04}",
                escape(row.job.label.replace(",", ", ")),
                f"[{color}]{row.status}[/]" if color else row.status,
                f"{row.step()}/{row.job.steps()}",
                *(_number(name, row.value(name)) for name in SHOWN),
                duration(seconds) if seconds is not None else "",
            )
        return table


def _number(name: str, value: Any) -> str:
    if not isinstance(value, int | float):
        return "–"
    return f"{value:.2%}" if name.endswith("accuracy") else f"{value:.5f}"
