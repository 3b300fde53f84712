"""The tracker of a run: what it says to the console, to train.log, and as JSON lines.

Only rank 0 has a Tracker that speaks; the others have a silent one, so that nobody asks who is who.
"""

import contextlib
import errno
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task
from rich.table import Column
from rich.text import Text

from cleangpt.basics import files
from cleangpt.basics.words import abbreviated
from cleangpt.config.experiment import Config, LoggerConfig
from cleangpt.disk.rundir import RunDir, read_metrics, read_step, writable
from cleangpt.terminal import patience, streams
from cleangpt.terminal.console import Console
from cleangpt.terminal.patience import duration
from cleangpt.watch.drawing import Drawer
from cleangpt.watch.loggers import Loggers

SECONDS_BETWEEN_LINES = 5.0  # in a log or a pipe, where there is no bar


class RunVoice(patience.Voice):
    """Says in the bar what takes long in a training, where there is one, and as lines in train.log."""

    def __init__(self, tracker: "Tracker", shows: bool):
        self.tracker, self.shows = tracker, shows

    @property
    def speaks(self) -> bool:
        return self.tracker.speaks

    @property
    def draws(self) -> bool:
        return self.tracker.bar is not None or (self.shows and super().draws)

    def line(self, text: str) -> None:
        self.tracker.say(text)

    def log(self, text: str) -> None:
        self.tracker.log(text)

    @property
    def width(self) -> int:
        return super().width if self.tracker.bar is None else self.tracker.room()

    def draw(self, text: str) -> None:
        if self.tracker.bar is None:
            super().draw(text)
        elif text:
            self.tracker.bar.update(self.tracker.task, description=text)


class _Words(ProgressColumn):
    """The words beside the bar, in one line: where the terminal has become narrower they give way."""

    def render(self, task: Task) -> Text:
        return Text(task.description, no_wrap=True, overflow="ellipsis")


class Tracker:
    """All that is said and logged of a run."""

    def __init__(self, run: RunDir, config: LoggerConfig, steps: int, speaks: bool):
        self.run, self.steps, self.speaks = run, steps, speaks
        self.console = Console(highlight=False, soft_wrap=True)
        bar = config.progress if config.progress != "auto" else sys.stdout.isatty()
        bar = bar and not self.console.is_dumb_terminal  # on which nothing moves
        self.voice = RunVoice(self, shows=bar)
        self.bar: Progress | None = None
        self.loggers: Loggers | None = None
        self.drawer = Drawer(run, self.say) if speaks and config.plots else None
        if not speaks:
            return
        self.place, self.gone = _identity(run.path), False
        self.log_file = files.append_text(run.log)
        self.log_console = Console(file=self.log_file, width=110, highlight=False, soft_wrap=True)
        self.metrics_file: Any = None
        self.unwritten, self.warned = b"", False
        self.last_line = -math.inf
        if bar:
            self.bar_column = BarColumn(bar_width=self._bar_width())
            count = MofNCompleteColumn(table_column=Column(no_wrap=True))  # which is never cut
            self.bar = Progress(self.bar_column, count, _Words(), console=self.console)
            self.task = self.bar.add_task("", total=steps)

    def start(self, step: int) -> None:
        """Continue the metrics behind this step: what was logged later is forgotten, it will be made anew."""
        if not self.speaks:
            return
        with writable(self.run):
            kept = [json.dumps(row) + "\n" for row in read_metrics(self.run.metrics) if row["step"] <= step]
            files.write_text(self.run.metrics, "".join(kept))
            self.metrics_file = files.append_bytes(self.run.metrics)
            if self.run.samples.exists():
                self._forget_samples(step)
        if self.bar:
            self.bar.update(self.task, completed=step)
            self.bar.start()

    def log_to(self, config: Config, step: int) -> None:
        """Pass rows on to the loggers that were asked for."""
        if self.speaks:
            self.loggers = Loggers(self.run, config, step, self.say)

    def finish(self, summary: dict[str, Any]) -> None:
        """Give the loggers the summary of the run, and let go of them."""
        if self.loggers:
            self.loggers.finish(summary)
            self.loggers = None

    def say(self, what: RenderableType = "") -> None:
        """Print a line, or a table, for the person at the console and for train.log."""
        if not self.speaks:
            return
        self.console.print(what, markup=not isinstance(what, str))
        self.log(what)

    def row(self, row: dict[str, Any]) -> None:
        """Write one line of metrics.jsonl. On a full disk the lines are kept until there is room again."""
        if not self.speaks:
            return
        clean = only_finite(row)
        if self.loggers:
            self.loggers.row(clean)
        self.unwritten += json.dumps(clean).encode() + b"\n"
        self._write()

    def _write(self) -> None:
        whole = self.metrics_file.tell()
        try:
            if self.metrics_file.write(self.unwritten) < len(self.unwritten):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.unwritten = b""
        except OSError as error:
            self.metrics_file.truncate(whole)
            self.metrics_file.seek(whole)
            if not self.warned:
                self.warned = True
                self.say(f"metrics.jsonl could not be written ({error.strerror}): its lines wait until it can be")

    def waiting(self) -> int:
        """Count the lines of metrics.jsonl that wait until they can be written."""
        if self.speaks and self.unwritten:
            self._write()
        return self.unwritten.count(b"\n") if self.speaks else 0

    def is_gone(self) -> bool:
        """Look whether the run directory was deleted or moved away, or emptied, though it may be open still."""
        if self.speaks and not self.gone:
            try:
                self.gone = _identity(self.run.path) != self.place
                if self.metrics_file and not self.metrics_file.closed:
                    self.gone |= not os.path.samestat(os.stat(self.run.metrics), os.fstat(self.metrics_file.fileno()))
            except (FileNotFoundError, NotADirectoryError):
                self.gone = True
        return self.speaks and self.gone

    def samples(self, step: int, rows: list[dict[str, Any]]) -> None:
        """Keep what a model made of a few samples in samples.jsonl. What a full disk does not take is left out."""
        if self.speaks and rows:
            lines = "".join(json.dumps({"step": step, **row}, ensure_ascii=False) + "\n" for row in rows)
            with contextlib.suppress(OSError), files.append_bytes(self.run.samples) as file:
                whole, data = file.tell(), lines.encode("utf-8", "backslashreplace")
                if file.write(data) < len(data):  # a full disk: no half line stays
                    file.truncate(whole)

    def _forget_samples(self, step: int) -> None:
        """Leave out what was shown behind this step, and a line that was being written when the run died."""
        kept = [line for line in self.run.samples.read_bytes().split(b"\n") if (read_step(line) or step + 1) <= step]
        files.replace(self.run.samples, lambda file: file.write(b"".join(line + b"\n" for line in kept)))

    def sync(self) -> None:
        """Have the disk hold the metrics, before a snapshot says that this step was made."""
        if self.speaks and self.metrics_file:
            if self.unwritten:
                self._write()
            with contextlib.suppress(OSError):
                os.fsync(self.metrics_file.fileno())

    def progress(self, step: int, row: dict[str, Any], left: float | None) -> None:
        """Show the step in the bar, and now and then say a line where there is none."""
        if not self.speaks:
            return
        now = time.monotonic()
        says = now - self.last_line >= SECONDS_BETWEEN_LINES or step == self.steps
        if self.bar:
            self.bar_column.bar_width = self._bar_width()
            self.bar.update(self.task, completed=step, description=fitting(row, left, self.room()))
        if says:
            self.last_line = now
            words = status(row) + (f"  {duration(left)} left" if left is not None else "")
            line = f"step {step}/{self.steps}  {words}"
            self.log(line)
            if not self.bar:
                self.console.print(line, markup=False)

    def room(self) -> int:
        """Count the characters of the bar's line that are free for words."""
        return self.console.width - self._bar_width() - 2 * len(str(self.steps)) - 3

    def _bar_width(self) -> int:
        return 16 if self.console.width >= 110 else 6

    def renew_plots(self) -> None:
        """Begin to draw the plots in the background."""
        if self.drawer:
            self.drawer.renew()

    def finish_plots(self) -> None:
        """Draw the plots here and now."""
        if self.drawer:
            self.drawer.finish()

    def log(self, what: RenderableType) -> None:
        """Write to train.log alone."""
        with contextlib.suppress(OSError):  # a full disk must not end a training
            for line in [*streams.losses(), what]:
                self.log_console.print(line, markup=not isinstance(line, str))
            self.log_file.flush()

    def pause(self) -> None:
        """Take the bar away for good."""
        if self.bar:
            self.bar.stop()
            self.bar = None

    def close(self) -> None:
        """End all that writes and draws."""
        self.pause()
        self.finish({})
        if self.drawer:
            self.drawer.close()
        if self.speaks:
            with contextlib.suppress(OSError):
                self.log_file.close()
            if self.metrics_file:
                self.sync()
                self.metrics_file.close()


def _identity(folder: Path) -> tuple[int, int]:
    """Tell a folder from a new one of its name, as long as somebody has it open: a training has it locked."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def only_finite(row: dict[str, Any]) -> dict[str, Any]:
    """Put null in the place of what is not finite: JSON has no infinity."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def status(row: dict[str, Any]) -> str:
    """Write what there is to say of a step in one line."""
    return "  ".join(words for words, _ in _parts(row).values())


def fitting(row: dict[str, Any], left: float | None, room: int) -> str:
    """Fit the status and the time left into so many characters: in shorter words, then in fewer, if need be."""
    parts = _parts(row)
    if left is not None:
        parts["left"] = (f"{duration(left)} left",) * 2
    words = "  ".join(long for long, _ in parts.values())
    for dropped in ("nothing yet", "batch", "mfu", "lr", "speed", "left", "loss"):
        if len(words) <= room:
            break
        parts.pop(dropped, None)
        words = "  ".join(short for _, short in parts.values())
    return words


def _parts(row: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Write what there is to say of a step, in many words and in few."""
    loss, speed = row["train/loss"], row["tokens_per_second"]
    said = "loss not finite" if loss is None else f"loss {loss:.4f}"
    parts = {
        "loss": (said, said),
        "lr": (f"lr {row['lr']:.2e}", f"lr {row['lr']:.1e}"),
        "batch": (f"batch {row['batch']}", f"batch {row['batch']}"),
        "speed": (f"{speed:,.0f} tokens/s", f"{abbreviated(speed)} tok/s"),
    }
    return parts | ({"mfu": (f"MFU {row['mfu']:.1%}", f"MFU {row['mfu']:.0%}")} if "mfu" in row else {})
