"""Files that somebody else made are data: read as such, and refused in a sentence where they are not what they say."""

import contextlib
import errno
import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from cleangpt.basics.errors import UserError
from cleangpt.basics.shown import in_line

# The exceptions of code that reads a file which is not what it should be.
DAMAGE: tuple[type[Exception], ...]
DAMAGE = (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError)
DAMAGE += (RecursionError, MemoryError)


MOST_BYTES = 1 << 27  # of a JSON file
MOST_LEVELS = 100  # of lists and objects in each other, so that whatever is done with them has an end
MOST_OF_LINE = BLOCK = 1 << 22


@contextlib.contextmanager
def reading(path: Path | str, what: str, remedy: str = "") -> Iterator[None]:
    """Turn whatever goes wrong while a file is read, and its values are used, into one sentence about the file."""
    try:
        with rust():
            yield
    except DAMAGE as error:
        raise UserError(f"{path} can't be read as {what}: {reason(error)}{remedy}") from None


@contextlib.contextmanager
def rust() -> Iterator[None]:
    """Turn panics of a library that is written in Rust, which no `except Exception` sees, into ValueErrors."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"the library that reads it failed ({error})") from None


def reason(error: BaseException) -> str:
    """Write an exception as a part of a sentence."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    words = {RecursionError: "it is nested too deeply", MemoryError: "it asks for more memory than there is"}
    said = next((text for kind, text in words.items() if isinstance(error, kind)), str(error))
    if isinstance(error, KeyError):
        said = f"it has no {said}"
    return in_line(said or type(error).__name__, 200)


def parsed(text: str | bytes) -> Any:
    """Parse JSON; a ValueError where it is none, or holds a number that no file of ours could hold."""
    try:
        found = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [found]
    for _ in range(MOST_LEVELS):
        inner = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list))
        level = [value for values in inner for value in values if isinstance(value, dict | list)]
        if not level:
            return found
    raise ValueError("it is nested too deeply")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is not finite")
    return number


def parsed_object(text: str | bytes) -> dict[str, Any]:
    """Parse a JSON object; a ValueError where it is none."""
    found = parsed(text)
    if not isinstance(found, dict):
        raise ValueError("it holds no JSON object")
    return found


def json_object(path: Path) -> dict[str, Any]:
    """Read a file with a JSON object; an OSError or a ValueError where there is none."""
    with opened(path) as file:
        if os.fstat(file.fileno()).st_size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES >> 20} MB")
        return parsed_object(file.read(MOST_BYTES))


def lines(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield the whole lines among the next so many bytes, a part of them in memory at a time.

    One that is longer than any of ours is empty instead.
    """
    rest, skips = b"", False
    while size > 0 and (block := file.read(min(size, BLOCK))):
        size -= len(block)
        *whole, rest = (rest + block).split(b"\n")
        if skips and whole:
            whole[0], skips = b"", False
        if len(rest) > MOST_OF_LINE:
            rest, skips = b"", True
        yield from whole


def opened(path: Path) -> BinaryIO:
    """Open a file to read it; what is none, as a pipe that nobody writes to, would be waited for."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return os.fdopen(handle, "rb")
