"""The console of every program: rich's, on which text of somebody else steers nothing."""

import sys
from collections.abc import Iterable

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from cleangpt.basics.shown import visible

WIDE = 120  # characters of a line of a table, where there is no terminal


class Console(rich.console.Console):
    """Shows all text as `shown.visible` has it, that in tables included. Colours are rich's own, and stay."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


def for_tables() -> Console:
    """Make a console for wide tables: as wide as the terminal, and wide enough where there is none."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
