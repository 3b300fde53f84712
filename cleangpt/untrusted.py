"""Files that somebody else made are data: read as such, and refused in a sentence where they are not what they say."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def parsed(text: str | bytes) -> Any:
    """What JSON says; a ValueError where it is none, or nested without end."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def json_object(path: Path) -> dict[str, Any]:
    """A file with a JSON object; an OSError or a ValueError where there is none."""
    found = parsed(path.read_bytes())
    if not isinstance(found, dict):
        raise ValueError("it holds no JSON object")
    return found


@contextlib.contextmanager
def rust() -> Iterator[None]:
    """Calls of a library that is written in Rust: its panics, which no `except Exception` sees, become ValueErrors."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"the library failed: {error}") from None
