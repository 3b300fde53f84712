"""What a person wrote about a run, notes.json in its directory: a text, tags, and whether it is hidden in lists."""

import contextlib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cleangpt.basics import files, untrusted
from cleangpt.disk.rundir import RunDir


class Notes(BaseModel):
    """Notes on one run."""

    model_config = ConfigDict(extra="forbid", strict=True)

    note: str = Field("", max_length=2000)
    tags: list[str] = Field([], max_length=20)
    hidden: bool = False


def read(path: Path) -> Notes:
    """Read the notes; of what is no such file there are none."""
    with contextlib.suppress(OSError, ValueError, ValidationError):
        return Notes.model_validate(untrusted.json_object(path))
    return Notes()


def write(run: RunDir, changed: dict[str, Any]) -> Notes:
    """Change some of the notes, and return them all."""
    found = Notes.model_validate(read(run.notes).model_dump() | changed)
    files.write_json(run.notes, found.model_dump())
    return found
