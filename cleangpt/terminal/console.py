"""The console of every program: rich's, on which text of somebody else steers nothing."""

from collections.abc import Iterable
from typing import Any

import rich.console
from rich.segment import Segment

from cleangpt.basics.shown import visible


class Console(rich.console.Console):
    """Shows all text as `shown.visible` has it, that in tables included. Colours are rich's own, and stay."""

    def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))
