"""What a person wrote about a run, notes.json in its directory: a text, tags, and whether it is hidden in lists."""

import contextlib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from cleangpt.basics import files, untrusted
from cleangpt.basics.errors import UserError
from cleangpt.disk.rundir import RunDir


class Notes(BaseModel):
    """Notes on one run, and whatever else somebody keeps beside them."""

    model_config = ConfigDict(extra="allow", strict=True)

    note: str = ""
    tags: list[str] = []
    hidden: bool = False


def read(path: Path) -> Notes:
    """Read the notes; of what is no such file there are none."""
    with contextlib.suppress(*untrusted.DAMAGE, ValidationError):
        return Notes.model_validate(untrusted.json_object(path))
    return Notes()


def write(run: RunDir, changed: dict[str, Any]) -> Notes:
    """Change some of the notes, and return them all. What can't be read is left as it is."""
    found = {}
    if run.notes.exists() or run.notes.is_symlink():
        with untrusted.reading(run.notes, "notes", ": put it right, or take it away"):
            found = untrusted.json_object(run.notes)
    try:
        notes = Notes.model_validate(found | changed)
    except ValidationError:
        raise UserError(f"{run.notes} can't be read as notes: put it right, or take it away") from None
    files.write_json(run.notes, notes.model_dump())
    return notes
