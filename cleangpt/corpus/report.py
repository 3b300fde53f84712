"""What a person sees of a preparation: a bar, a table of what was made, and what to do next."""

import signal
import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from cleangpt.corpus import store
from cleangpt.errors import UserError

SECONDS_BETWEEN_LINES = 10.0  # where there is no terminal


def prepare(config: Any) -> int:
    settings = config.dataset
    if not hasattr(settings, "preparation"):
        raise UserError(f"`dataset={settings.name}` is computed, not read: there is nothing to prepare")
    from cleangpt.corpus.prepare import prepare

    console = Console(highlight=False, soft_wrap=True)
    began = time.monotonic()
    stops = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with _Bar(console) as bar:
            prepared, made = prepare(settings, config.workers, config.force, bar.update)
    except SystemExit as stop:
        console.print("Stopped: nothing was written. The same command starts over.", markup=False)
        return int(stop.code)
    finally:
        for number, handler in stops.items():
            signal.signal(number, handler)
    seconds = time.monotonic() - began
    console.print(table(prepared))
    text_bytes = sum(tokens.text_bytes for tokens in prepared.splits.values())
    speed = f"in {seconds:.1f} s, {text_bytes / 1e6 / seconds:.1f} MB/s" if made else "already, and its checksums hold"
    console.print(f"{settings.dir} is prepared {speed}. Next:", markup=False)
    words = [f"dataset={settings.name}"]
    if settings.dir != f"data/{settings.name}":
        words.append(f"dataset.dir={settings.dir}")
    console.print(f"    python train.py {' '.join(words)}", markup=False)
    return 0


def table(prepared: store.Prepared) -> Table:
    tokenizer = prepared.tokenizer
    made = Table(title=f"{tokenizer.kind}, {tokenizer.vocab_size:,} tokens in the vocabulary", title_justify="left")
    for name in ("split", "documents", "text", "tokens", "on disk", "bytes a token"):
        made.add_column(name, justify="right")
    for name, tokens in prepared.splits.items():
        header = tokens.header
        made.add_row(
            name,
            f"{header['documents']:,}",
            size(header["text_bytes"]),
            f"{header['tokens']:,}",
            size(tokens.path.stat().st_size),
            f"{header['text_bytes'] / max(1, header['tokens']):.2f}",
        )
    return made


def size(count: int) -> str:
    """Bytes as a person says them."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"


def _leave(number: int, _frame: object) -> None:
    sys.exit(128 + number)


class _Bar:
    """A bar on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console):
        self.console, self.task, self.what = console, None, ""
        self.last = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(24), DownloadColumn(), TransferSpeedColumn())
        self.bar = Progress(*columns, TimeRemainingColumn(), console=console) if console.is_terminal else None

    def update(self, what: str, read: int, total: int | None) -> None:
        if self.bar is not None:
            if what != self.what:
                self.task = self.bar.add_task(what, total=total)
            self.bar.update(self.task, completed=read, total=total)
        elif time.monotonic() - self.last > SECONDS_BETWEEN_LINES:
            self.last = time.monotonic()
            self.console.print(f"{what}: {size(read)}{f' of {size(total)}' if total else ''}", markup=False)
        self.what = what

    def __enter__(self) -> "_Bar":
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()
