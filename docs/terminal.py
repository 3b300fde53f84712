"""Record what a program shows on a terminal, and draw its screens.

The terminal knows what our progress bars and tables use: colours, lines that are written over, a cursor that goes up.
"""

import os
import pty
import re
import select
import struct
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COLUMNS, LINES = 96, 27
PLAIN, GROUND = "#d8dee9", "#1b1f2b"
COLOURS = ("#4c566a", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d8dee9")
BRIGHT = ("#7f8899", "#ff7b86", "#b5e890", "#ffd68a", "#82c4ff", "#de95f2", "#6fd3df", "#ffffff")
CONTROL = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b[=>78]|\x1b\][^\x07]*\x07")
Cell = tuple[str, str, bool]  # a character, its colour, whether it is bold
BLANK: Cell = (" ", PLAIN, False)


@dataclass
class Screen:
    """A terminal of so many lines, of which the last ones are seen."""

    columns: int = COLUMNS
    lines: int = LINES
    rows: list[list[Cell]] = field(default_factory=lambda: [[]])
    row: int = 0
    column: int = 0
    colour: str = PLAIN
    bold: bool = False

    def feed(self, text: str) -> None:
        place = 0
        while place < len(text):
            if found := CONTROL.match(text, place):
                place = found.end()
                if found[2]:
                    self._control(found[1], found[2])
                continue
            self._write(text[place])
            place += 1

    def seen(self) -> list[list[Cell]]:
        first = max(0, len(self.rows) - self.lines)
        return [list(row) for row in self.rows[first:]]

    def _write(self, character: str) -> None:
        if character == "\n":
            self.row, self.column = self.row + 1, 0
        elif character == "\r":
            self.column = 0
        elif character >= " ":
            if self.column == self.columns:
                self.row, self.column = self.row + 1, 0
            line = self._line()
            line.extend([BLANK] * (self.column + 1 - len(line)))
            line[self.column] = (character, self.colour, self.bold)
            self.column += 1
        self._line()

    def _line(self) -> list[Cell]:
        while len(self.rows) <= self.row:
            self.rows.append([])
        return self.rows[self.row]

    def _control(self, given: str, kind: str) -> None:
        numbers = [int(number) for number in given.split(";") if number.isdigit()]
        count = numbers[0] if numbers else 1
        if kind == "m":
            self._paint(numbers or [0])
        elif kind == "A":
            self.row = max(0, self.row - count)
        elif kind == "B":
            self.row += count
        elif kind == "G":
            self.column = count - 1
        elif kind == "K":
            line = self._line()
            del line[0 if numbers[:1] == [2] else self.column :]
        elif kind == "J":
            del self._line()[self.column :], self.rows[self.row + 1 :]

    def _paint(self, numbers: list[int]) -> None:
        while numbers:
            number, *numbers = numbers
            if number == 0:
                self.colour, self.bold = PLAIN, False
            elif number == 1:
                self.bold = True
            elif number == 2:
                self.colour = BRIGHT[0]
            elif number == 39:
                self.colour = PLAIN
            elif 30 <= number <= 37:
                self.colour = COLOURS[number - 30]
            elif 90 <= number <= 97:
                self.colour = BRIGHT[number - 90]
            elif number == 38 and numbers[:1] == [2]:
                self.colour, numbers = "#{:02x}{:02x}{:02x}".format(*numbers[1:4]), numbers[4:]
            elif number == 38 and numbers[:1] == [5]:
                self.colour, numbers = _of_256(numbers[1]), numbers[2:]


def _of_256(number: int) -> str:
    if number < 16:
        return (COLOURS + BRIGHT)[number]
    if number > 231:
        return "#" + f"{8 + 10 * (number - 232):02x}" * 3
    levels = [0, 95, 135, 175, 215, 255]
    number -= 16
    return "#" + "".join(f"{levels[part]:02x}" for part in (number // 36, number // 6 % 6, number % 6))


def record(command: Sequence[str], folder: Path, every: float = 0.25) -> list[list[list[Cell]]]:
    """Run a command on a terminal of its own, and return the screens that it showed, one in so many seconds."""
    import fcntl
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(LINES)}
    streams: dict[str, Any] = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    process = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **streams)
    os.close(theirs)
    screen, screens, last = Screen(), [], time.monotonic()
    left = b""
    while True:
        if select.select([ours], [], [], 0.05)[0]:
            try:
                more = os.read(ours, 65536)
            except OSError:  # its end, on Linux
                break
            if not more:
                break
            left += more
            text = left.decode("utf-8", "ignore")
            screen.feed(text)
            left = b""
        if time.monotonic() - last > every:
            last = time.monotonic()
            if not screens or screens[-1] != screen.seen():
                screens.append(screen.seen())
    os.close(ours)
    if process.wait():
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return [*screens, screen.seen()]


def draw(rows: list[list[Cell]], size: int = 13, lines: int = LINES, columns: int = COLUMNS) -> Any:
    """Draw a screen as a picture of PIL."""
    from matplotlib import font_manager
    from PIL import Image, ImageDraw, ImageFont

    fonts = [
        ImageFont.truetype(font_manager.findfont(f"DejaVu Sans Mono:{weight}"), size) for weight in ("regular", "bold")
    ]
    width, height = fonts[0].getlength("M"), round(size * 1.18)
    picture = Image.new("RGB", (round(width * columns) + 2 * size, height * lines + 2 * size), GROUND)
    pen = ImageDraw.Draw(picture)
    for number, row in enumerate(rows[-lines:]):
        for place, (character, colour, bold) in enumerate(row):
            if character != " ":
                at = (size + place * width, size + number * height)
                pen.text(at, character, fill=colour, font=fonts[bold])
    return picture
