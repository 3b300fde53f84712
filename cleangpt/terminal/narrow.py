"""Tables, names and lines for a narrow terminal: whole, and broken between words."""

import copy
import textwrap
from collections.abc import Iterator
from typing import Any

import rich.table
from rich import box
from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.text import Text

UNBOUNDED = 10_000  # characters


class Table(rich.table.Table):
    """A table of which nothing is cut.

    Where it is too wide, it has no lines between its columns; then cells of several lines, broken between words; and
    where a word would not fit either, each row is a list of its own.
    """

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        room = options.max_width
        shown: rich.table.Table = copy.copy(self)
        shown.columns = [copy.copy(column) for column in self.columns]
        if isinstance(self.title, str):
            shown.title = "\n".join(textwrap.fill(line, room) for line in self.title.splitlines())
        if _width(shown, console, options) > room:
            shown.box, shown.show_edge, shown.pad_edge, shown.padding = box.SIMPLE_HEAD, False, False, (0, 1, 0, 0)
            if not _breaks_between_words(shown, console, options):
                shown = _row_by_row(shown)
        yield from rich.table.Table.__rich_console__(shown, console, options)


class Name:
    """A name without spaces, like that of an operation: where there is no room for it, its middle is left out."""

    def __init__(self, text: str, least: int = 24):
        self.text, self.least = text, least

    def __str__(self) -> str:
        return self.text

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(self.least, len(self.text)), len(self.text)).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        room = options.max_width
        behind = (room - 1) // 2
        whole = len(self.text) <= room
        yield Text(self.text if whole else f"{self.text[: room - 1 - behind]}…{self.text[-behind:]}", no_wrap=True)


def _width(table: rich.table.Table, console: Console, options: ConsoleOptions) -> int:
    """Measure the width that shows a table whole."""
    return rich.table.Table.__rich_measure__(table, console, options.update(max_width=UNBOUNDED)).maximum


def _breaks_between_words(table: rich.table.Table, console: Console, options: ConsoleOptions) -> bool:
    """Give each column as much as there is and no less than its longest word, if there is that much."""
    free = options.update(max_width=UNBOUNDED)
    least, most = [], []
    for column in table.columns:
        cells = [console.render_str(cell) if isinstance(cell, str) else cell for cell in (column.header, *column.cells)]
        found = [Measurement.get(console, free, cell) for cell in cells]
        most.append(max(measure.maximum for measure in found))
        least.append(most[-1] if column.no_wrap else max(measure.minimum for measure in found))
    left = options.max_width - (_width(table, console, options) - sum(most)) - sum(least)
    if left < 0:
        return False
    for column, smallest, largest in zip(table.columns, least, most, strict=True):
        column.width = min(largest, smallest + left)
        left -= column.width - smallest
        column.overflow, column.no_wrap = "fold", False
    return True


def _row_by_row(table: rich.table.Table) -> rich.table.Table:
    """Make a list of each row: the heads of the columns, and what they have."""
    found = rich.table.Table.grid(padding=(0, 2, 0, 0))
    found.title, found.title_justify, found.title_style = table.title, table.title_justify, table.title_style
    found.caption, found.caption_justify = table.caption, table.caption_justify
    found.add_column(style="dim")
    found.add_column(overflow="fold")
    for number, row in enumerate(zip(*(column.cells for column in table.columns), strict=True)):
        if number:
            found.add_row()
        for column, cell in zip(table.columns, row, strict=True):
            found.add_row(" ".join(str(column.header).split()), cell)
    return found


def entries(lines: list[tuple[str, str]], width: int, indent: int = 4, head: int = 20) -> str:
    """Lay out lines of help: a head and what it means, which begins in one column and breaks between words."""
    found = []
    for name, meaning in lines:
        first, rest = f"{' ' * indent}{name:<{head}}", " " * (indent + head)
        if not meaning or width < 2 * (indent + head) or len(name) >= head:  # the meaning begins below
            found.append(f"{' ' * indent}{name}")
            first = rest = " " * 2 * indent
        found.append(
            textwrap.fill(meaning, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
        )
    return "\n".join(filter(None, found))
