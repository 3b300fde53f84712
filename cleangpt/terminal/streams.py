"""Standard output and standard error for readers that leave, disks that are full, and encodings that know little.

A training goes on without its console, and says so in train.log. Other programs exist for what they print: they end,
without a word where the reader has had enough, otherwise with one sentence and status 1.
"""

import atexit
import io
import os
import select
import sys
from typing import Any

HAD_ENOUGH, FAILED = 141, 1  # what a program has that SIGPIPE ended; what failed

_lost: list[str] = []


class _Raw(io.RawIOBase):
    """Writes to a descriptor. Once that fails, whatever comes is dropped, also while Python exits."""

    def __init__(self, number: int, name: str, goes_on: bool):
        self.number, self.name, self.goes_on = number, name, goes_on
        self.leaving = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.number

    def isatty(self) -> bool:
        return os.isatty(self.number)

    def write(self, data: Any) -> int:
        while True:
            try:
                return os.write(self.number, data)
            except BlockingIOError:  # another program has made it so, for all that share it
                select.select([], [self.number], [])
            except OSError as error:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.number)
                os.close(nowhere)
                self._give_up(error)
                return len(data)

    def _give_up(self, error: OSError) -> None:
        called = {1: "standard output", 2: "standard error"}[self.number]
        if self.goes_on:
            _lost.append(f"{called} is gone ({error.strerror}): going on without it")
            if not self.leaving and self.number == 1:
                sys.stderr.write(f"{_lost[-1]}\n")
        elif not self.leaving:
            if isinstance(error, BrokenPipeError):
                sys.exit(HAD_ENOUGH)
            sys.stderr.write(f"{called} can't be written ({error.strerror})\n")
            sys.exit(FAILED)


def losses() -> list[str]:
    """Write a sentence on each stream that was lost since the last time."""
    found, _lost[:] = _lost[:], []
    return found


def fill() -> None:
    """Give descriptors to streams that were closed when the program began, so that no file of ours gets their numbers.

    What is written there fails, as it did.
    """
    while (number := os.open(os.devnull, os.O_RDONLY)) <= 2:
        pass
    os.close(number)
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def settle(goes_on: bool) -> None:
    """Have streams do what this file says. What an encoding has no characters for is shown as escapes."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):  # that of a program which runs us
            continue
        if os.name == "posix" and _is_descriptor(stream, number):
            raw = _Raw(number, stream.name, goes_on or number == 2)
            atexit.register(setattr, raw, "leaving", True)
            lines, through = stream.line_buffering or number == 2, stream.write_through
            stream.flush()
            text = io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, "backslashreplace", None, lines, through)
            setattr(sys, name, text)
        else:
            stream.reconfigure(errors="backslashreplace")


def _is_descriptor(stream: io.TextIOWrapper, number: int) -> bool:
    try:
        return stream.fileno() == number
    except (OSError, ValueError):
        return False
