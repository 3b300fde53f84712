"""Tables and pictures, as a notebook shows them."""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from cleangpt.basics import extras
from cleangpt.basics.errors import UserError


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """Write a table in HTML."""
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    above = f"<caption style='text-align:left'>{escape(caption)}</caption>" if caption else ""
    return f"<table>{above}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def of_console(shown: Any) -> str:
    """Write a table of the console in HTML."""
    from rich.text import Text

    def plain(cell: Any) -> str:
        return Text.from_markup(cell).plain if isinstance(cell, str) else str(cell)

    columns = [[plain(cell) for cell in column._cells] for column in shown.columns]
    titles = [plain(column.header) for column in shown.columns]
    return table(titles, zip(*columns, strict=True), plain(shown.title or ""))


def picture(png: bytes) -> str:
    return f'<img style="max-width:100%" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


class Picture:
    """A picture that a notebook shows, and that can be saved."""

    def __init__(self, figure: Any):
        self.figure = figure  # matplotlib's

    def __repr__(self) -> str:
        width, height = self.figure.get_size_inches()
        return f"Picture({width:g} x {height:g} inches)"

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png")
        return buffer.getvalue()

    def save(self, path: str | Path) -> Path:
        """Write it to a file, in the format that its name ends with."""
        self.figure.savefig(path)
        return Path(path)


def pandas() -> Any:
    """Load pandas, which only tables need."""
    try:
        import pandas
    except ImportError:
        raise UserError(f"tables need pandas: install it by `{extras.command('notebook')}`") from None
    return pandas
