"""Follow a training as it goes on: its rows, as they are written, and a bar where a person waits."""

import time
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from cleangpt.disk.rundir import read_row
from cleangpt.terminal.patience import duration

Row = dict[str, Any]
BETWEEN_FRAMES = 0.5  # seconds


class Rows:
    """The rows that a metrics.jsonl gets from now on."""

    def __init__(self, path: Path):
        self.path = path
        self.known = set(self._lines(0))  # a run that goes on has some already
        self.file, self.place = self._state()

    def new(self) -> list[Row]:
        """Read what has been written since: whole lines, each once."""
        file, size = self._state()
        if file != self.file or size < self.place:  # written anew, without what comes behind the snapshot to go on from
            self.file, self.place = file, 0
        if size == self.place:
            return []
        lines = self._lines(self.place)
        self.place += sum(len(line) + 1 for line in lines)
        fresh = [line for line in lines if line not in self.known]
        self.known.update(fresh)
        return [row for row in map(read_row, fresh) if row is not None]

    def _state(self) -> tuple[int, int]:
        """Say which file it is, and how long."""
        try:
            found = self.path.stat()
        except OSError:  # it is not there yet
            return 0, 0
        return found.st_ino, found.st_size

    def _lines(self, start: int) -> list[bytes]:
        """List the whole lines from a place on."""
        if not self._state()[1]:
            return []
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read().split(b"\n")[:-1]


def bar(total: int, what: str, unit: str) -> "Bar":
    """Make a bar as it is shown here: in a notebook as a part of the cell's output, else as programs have it."""
    return NotebookBar(total, what, unit) if in_notebook() else TerminalBar(total, what, unit)


def in_notebook() -> bool:
    """Tell whether a notebook's kernel runs this, which shows more than text."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return getattr(get_ipython(), "kernel", None) is not None


class Bar:
    """A bar that shows nothing."""

    def __init__(self, total: int, what: str = "", unit: str = ""):
        self.total, self.what, self.unit, self.done = total, what, unit, 0
        self.began = time.monotonic()

    def reach(self, done: int, words: str = "") -> None:
        """Show how much is done, and a few words."""

    def close(self, words: str = "") -> None:
        """End it."""


class TerminalBar(Bar):
    """A line on standard error, as of every program that takes longer than two seconds."""

    def __init__(self, total: int, what: str, unit: str):
        from cleangpt.terminal import patience

        super().__init__(total, what, unit)
        self._shown = patience.doing(what, total, unit)
        self._progress = self._shown.__enter__()

    def reach(self, done: int, words: str = "") -> None:
        if done > self.done:
            self._progress.advance(done - self.done)
            self.done = done

    def close(self, words: str = "") -> None:
        self._shown.__exit__(None, None, None)


class NotebookBar(Bar):
    """A bar in the output of a cell, which is taken away in the end: what was trained shows itself."""

    def __init__(self, total: int, what: str, unit: str):
        from IPython.display import HTML, display

        super().__init__(total, what, unit)
        self._html: Callable[[str], Any] = HTML
        self._next = 0.0
        self._handle = display(HTML(self._text("")), display_id=True)

    def reach(self, done: int, words: str = "") -> None:
        self.done = max(done, self.done)
        if time.monotonic() >= self._next or done >= self.total:
            self._next = time.monotonic() + BETWEEN_FRAMES
            self._handle.update(self._html(self._text(words)))

    def close(self, words: str = "") -> None:
        self._handle.update(self._html(f"<small>{escape(words)}</small>" if words else ""))

    def _text(self, words: str) -> str:
        spent = time.monotonic() - self.began
        left = f"{duration(spent / self.done * (self.total - self.done))} left" if 0 < self.done < self.total else ""
        told = " · ".join(filter(None, [f"{self.what}: {self.done:,} of {self.total:,} {self.unit}", words, left]))
        return f'<progress value="{self.done}" max="{self.total}"></progress> <small>{escape(told)}</small>'


def in_words(row: Row) -> str:
    """Write what a row says that a person waits for."""
    shown = {"train/loss": "loss {:.4g}", "val/loss": "val/loss {:.4g}", "val/accuracy": "val/accuracy {:.1%}"}
    return " · ".join(form.format(row[key]) for key, form in shown.items() if row.get(key) is not None)
