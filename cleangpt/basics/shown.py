"""Text that somebody else may have written, as it is shown: nothing in it steers a terminal or hides what it says.

Control characters but newline and tab, marks that turn the direction of writing, and halves of characters are shown as
what they are: an escape as ␛, a right-to-left override as \\u202e.
"""

import csv
import re
from typing import Any, TextIO

_PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"} | {0x7F: "\u2421"}
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that a spreadsheet would compute


def visible(text: str) -> str:
    """Make text harmless for a terminal, a log or a page."""
    if text.isprintable():  # as nearly all is, and that is told fast
        return text
    return _HIDDEN.sub(lambda found: _PICTURES.get(ord(found[0])) or _escaped(found[0]), text)


def visible_in(data: Any) -> Any:
    """Make all words harmless in what a JSON file holds."""
    if isinstance(data, dict):
        return {visible(key): visible_in(value) for key, value in data.items()}
    if isinstance(data, list):
        return [visible_in(value) for value in data]
    return visible(data) if isinstance(data, str) else data


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def in_line(value: Any, most: int = 100) -> str:
    """Write a value as a part of a sentence: in one line, and not too long."""
    text = visible(str(value)).replace("\n", "\\n").replace("\t", "\\t")
    return text if len(text) <= most else f"{text[:most]}…"


def cell(value: Any) -> Any:
    """Make a value harmless for CSV: text that a spreadsheet would take for a formula begins with an apostrophe."""
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if value.startswith(FORMULA) else text


def write_csv(file: TextIO, rows: list[dict[str, Any]], line_end: str) -> list[str]:
    """Write rows as CSV below the names of all their columns, which it returns. What a row lacks is an empty field."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.writer(file, lineterminator=line_end)
    writer.writerow(map(cell, names))
    writer.writerows([cell(row.get(name)) for name in names] for row in rows)
    return names
