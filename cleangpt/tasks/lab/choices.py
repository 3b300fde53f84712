"""The operations and formats that there are: files found by looking, here and in installed packages."""

import importlib
import pkgutil
from functools import cache
from typing import Any

from cleangpt.basics import found
from cleangpt.basics.errors import UserError

ROOMS = {"operation": "cleangpt.tasks.lab.operations", "format": "cleangpt.tasks.lab.formats"}


@cache
def modules(kind: str) -> dict[str, str]:
    """Map each name that can be chosen to the module that it is: those of a room, then the entry points of packages."""
    room = importlib.import_module(ROOMS[kind])
    own = {info.name: f"{ROOMS[kind]}.{info.name}" for info in pkgutil.iter_modules(room.__path__)}
    theirs = {entry.name: entry.module for entry in found.installed().select(group=f"cleangpt.{kind}s")}
    return theirs | own


def load(kind: str, name: str) -> Any:
    """Return the class of an operation or a format."""
    try:
        return getattr(importlib.import_module(modules(kind)[name]), kind.capitalize())
    except (ImportError, AttributeError) as error:
        raise UserError(f"`dataset.{kind}={name}` can't be used ({error}): mend {modules(kind)[name]}") from None
