"""What a run says: to the console, to train.log, and as JSON lines.

Only rank 0 has a Tracker that speaks; the others have a silent one, so that nobody asks who is who.
"""

import json
import math
import os
import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cleangpt.config import LoggerConfig
from cleangpt.rundir import RunDir, read_metrics

SECONDS_BETWEEN_LINES = 5.0  # in a log or a pipe, where there is no bar


class Tracker:
    def __init__(self, run: RunDir, config: LoggerConfig, steps: int, speaks: bool):
        self.run, self.steps, self.speaks = run, steps, speaks
        self.console = Console(highlight=False, soft_wrap=True)
        bar = config.progress if config.progress != "auto" else sys.stdout.isatty()
        self.bar: Progress | None = None
        if not speaks:
            return
        self.log_file = run.log.open("a", encoding="utf-8")
        self.log_console = Console(file=self.log_file, width=110, highlight=False, soft_wrap=True)
        self.metrics_file = None
        self.last_line = -math.inf
        if bar:
            self.bar = Progress(
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.description}"),
                TimeRemainingColumn(),
                console=self.console,
            )
            self.task = self.bar.add_task("", total=steps)

    def start(self, step: int) -> None:
        """Continue the metrics behind this step: what was logged later is forgotten, it will be made anew."""
        if not self.speaks:
            return
        kept = [row for row in read_metrics(self.run.metrics) if row["step"] <= step]
        if step or self.run.metrics.exists():
            temporary = self.run.metrics.with_suffix(".tmp")
            temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
            os.replace(temporary, self.run.metrics)
        self.metrics_file = self.run.metrics.open("a", encoding="utf-8")
        if self.bar:
            self.bar.update(self.task, completed=step)
            self.bar.start()

    def say(self, what: Any = "") -> None:
        """A line, or a table, for the person at the console and for train.log."""
        if not self.speaks:
            return
        self.console.print(what, markup=not isinstance(what, str))
        self.log_console.print(what, markup=not isinstance(what, str))
        self.log_file.flush()

    def row(self, row: dict[str, Any]) -> None:
        """One line of metrics.jsonl. JSON has no infinity: what is not finite becomes null."""
        if self.speaks:
            clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
            self.metrics_file.write(json.dumps(clean) + "\n")
            self.metrics_file.flush()

    def progress(self, step: int, row: dict[str, Any] | None, left: float | None) -> None:
        """Move the bar, and now and then say a line where there is none."""
        if not self.speaks:
            return
        words = status(row) if row else None
        if self.bar:
            self.bar.update(self.task, completed=step, **({"description": words} if words else {}))
        now = time.monotonic()
        if words and (now - self.last_line >= SECONDS_BETWEEN_LINES or step == self.steps):
            self.last_line = now
            line = f"step {step}/{self.steps}  {words}" + (f"  {duration(left)} left" if left is not None else "")
            self.log_console.print(line, markup=False)
            self.log_file.flush()
            if not self.bar:
                self.console.print(line, markup=False)

    def pause(self) -> None:
        """No bar from here on."""
        if self.bar:
            self.bar.stop()
            self.bar = None

    def close(self) -> None:
        self.pause()
        if self.speaks:
            self.log_file.close()
            if self.metrics_file:
                self.metrics_file.close()


def status(row: dict[str, Any]) -> str:
    return (
        f"loss {row['train/loss']:.4f}  lr {row['lr']:.2e}  batch {row['batch']}  "
        f"{row['tokens_per_second']:,.0f} tokens/s"
    )


def duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
