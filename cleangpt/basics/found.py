"""Find what can be chosen: the files of a room, and what installed packages of others add to it.

A configuration is checked before torch is imported, and a model is one file with its keys and its layers. So of a file
that imports torch only the beginning is run at first, down to that import: its keys stand there. The rest is run when
anything of it is asked for. To whoever reads or imports such a file it is a module like any other.
"""

import ast
import functools
import importlib
import importlib.util
import pkgutil
import sys
from importlib import metadata
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any, get_args

from cleangpt.basics import schema
from cleangpt.basics.errors import UserError
from cleangpt.basics.schema import Section


def settings(room: str, group: str) -> dict[str, type[Section]]:
    """Map each name that can be chosen to the `Settings` that have it, from a room and from an entry point group.

    Only installed code is found, never code that a configuration names. A package of others that fails does not stop
    what does without it: `schema.unusable` has a sentence on it.
    """
    found: dict[str, type[Section]] = {}
    for info in pkgutil.iter_modules(importlib.import_module(room).__path__, f"{room}."):
        if any(map(_is_settings, _body(info.name)[0])):  # other files are what these are made of
            _add(found, info.name)
    for entry in sorted(installed().select(group=group)):
        try:
            if not _add(found, entry.module):
                raise ImportError(f"{entry.module} has no Settings with a name")
        except Exception as error:
            whose = entry.dist.name if entry.dist else entry.module
            why = f"{type(error).__name__}: {error}"
            schema.unusable.append(f"{whose}, which adds to {group}, can't be used ({why}): mend it, or uninstall it")
    return found


def _add(found: dict[str, type[Section]], name: str) -> bool:
    """Add the settings of a module by each of their names; False where it has none."""
    keys = getattr(beginning(name), "Settings", None)
    names = get_args(keys.model_fields["name"].annotation) if keys else ()
    for name in names:
        if name in found:
            raise ImportError(f"{keys.__module__} and {found[name].__module__} both answer to {name}")
    found |= dict.fromkeys(names, keys)
    return bool(names)


installed = functools.cache(metadata.entry_points)  # it reads every package there is


def module_of(settings: type[Section]) -> Any:
    """Return the module that defines these settings, and beside them what they are the settings of."""
    return importlib.import_module(settings.__module__)


def _body(name: str) -> tuple[list[ast.stmt], ModuleSpec]:
    """Parse the source of a module."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    source = spec.loader.get_source(name) if isinstance(spec.loader, InspectLoader) else None
    return ast.parse(source or "").body, spec


def beginning(name: str) -> ModuleType:
    """Import a module down to its first import of torch; the rest follows when something of it is asked for."""
    if name in sys.modules or "torch" in sys.modules:
        return importlib.import_module(name)
    body, spec = _body(name)
    first = next((place for place, statement in enumerate(body) if _imports_torch(statement)), None)
    if first is None or not any(map(_is_settings, body[:first])):
        return importlib.import_module(name)
    origin, parts = spec.origin or name, (body[:first], body[first:])
    head, rest = (compile(ast.Module(part, []), origin, "exec", dont_inherit=True) for part in parts)
    return _in_two_parts(importlib.util.module_from_spec(spec), head, rest)


def _in_two_parts(module: ModuleType, head: CodeType, rest: CodeType) -> ModuleType:
    """Run the head of a module now, and the rest when something is asked for that the head has not."""
    inside = module.__dict__

    def __getattr__(wanted: str) -> Any:
        if not (wanted.startswith("__") and wanted.endswith("__")) and inside.pop("__getattr__", None):
            try:
                exec(rest, inside)
            except ImportError as error:
                inside["__getattr__"] = __getattr__
                raise UserError(f"{module.__name__} can't be imported ({error}): install what it needs") from None
            return getattr(module, wanted)
        raise AttributeError(f"module {module.__name__!r} has no attribute {wanted!r}")

    room, _, leaf = module.__name__.rpartition(".")
    sys.modules[module.__name__] = module
    try:
        exec(head, inside)
    except BaseException:
        del sys.modules[module.__name__]
        raise
    inside["__getattr__"] = __getattr__
    if room:
        setattr(sys.modules[room], leaf, module)
    return module


def _imports_torch(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Import):
        return any(alias.name.partition(".")[0] == "torch" for alias in statement.names)
    return isinstance(statement, ast.ImportFrom) and (statement.module or "").partition(".")[0] == "torch"


def _is_settings(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.ClassDef) and statement.name == "Settings"
