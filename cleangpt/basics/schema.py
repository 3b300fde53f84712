"""From composed data to a checked section of keys, with every mistake named in a sentence.

The words of an error and of the help are read off the type and the bounds of a key, so they never disagree.
"""

import copy
import difflib
import math
import types
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen, MultipleOf
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from cleangpt.basics.errors import ConfigError
from cleangpt.basics.shown import in_line

unusable: list[str] = []  # why a name may be unknown: a sentence on each installed package that adds some, and failed

T = TypeVar("T")
if TYPE_CHECKING:
    Open = Annotated[T, "what reads it has a resolved configuration"]
else:
    Open = T | None  # a key whose null is filled in before anything reads it: see Derived


class Section(BaseModel):
    """A group of keys: frozen, strict about types, without unknown keys, infinities or NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    verbatim: ClassVar[tuple[str, ...]] = ()  # keys whose value on the command line is text as it stands there
    from_data: ClassVar[tuple[str, ...]] = ()  # keys that take their value from prepared data, whatever is composed
    refuses: ClassVar[tuple[str, ...]] = ()  # groups, options and keys that it has and its program can do nothing with


S = TypeVar("S", bound=Section)


class Derived(NamedTuple):
    """Mark a key whose null stands for a value that follows from others: Annotated[int | None, Derived(("n_head",))].

    A source without a dot is a key beside it, one with a dot begins at the top, and `task.…` is what the task says.
    """

    sources: tuple[str, ...]
    rule: Callable[..., Any] = lambda value: value  # from the values of the sources, in this order

    def of(self, key: str) -> list[str]:
        """Name the sources in full, where `key` is marked."""
        section = key.rpartition(".")[0]
        return [source if "." in source else f"{section}.{source}" for source in self.sources]

    def follows(self, key: str, values: dict[str, Any]) -> Any:
        """Compute the value of `key` from the values by key; None while one of its sources has none."""
        found = [values.get(source) for source in self.of(key)]
        return None if None in found else self.rule(*found)


def parse(data: dict[str, Any], schema: type[S]) -> S:
    """Check data and make a section of it; a ConfigError has a sentence on every mistake."""
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        found: dict[str, str] = {}  # one sentence a key: the branches of a union each report on their own
        for mistake in error.errors(include_url=False):
            key, sentence = _sentence(mistake, data, schema)
            found.setdefault(key, sentence)
        raise ConfigError(list(found.values())) from None


def keys(schema: type[Section], data: dict[str, Any] | None = None) -> dict[str, FieldInfo]:
    """Map every key of the schema, in dotted form, to its pydantic field.

    All branches of a union are walked, or, where `data` is given, the one that its `name` chose.
    """
    found: dict[str, FieldInfo] = {}
    for key, field in _fields(schema, data):
        found[key] = _either(found.get(key), field)
    return found


def _fields(schema: type[Section], data: Any, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in schema.model_fields.items():
        sections = sections_of(field.annotation)
        inner = data.get(name) if isinstance(data, dict) else None
        chosen = inner.get("name") if isinstance(inner, dict) else None
        named = [s for s in sections if (own := s.model_fields.get("name")) and chosen in get_args(own.annotation)]
        for section in named or sections:
            yield from _fields(section, inner, f"{prefix}{name}.")
        if not sections:
            yield prefix + name, field


def leaves(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested data to dotted keys and their values."""
    found: dict[str, Any] = {}
    for name, value in data.items():
        found |= leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def derived(schema: type[Section], data: dict[str, Any] | None = None) -> dict[str, Derived]:
    """Map the keys that are marked as derived to their marks: of all branches, or of those that `data` chose."""
    fields = _fields(schema, data)
    return {key: mark for key, field in fields for mark in field.metadata if isinstance(mark, Derived)}


def left_open(section: Section) -> list[str]:
    """List the derived keys of checked data that are null."""
    data = section.model_dump()
    values = leaves(data)
    return [key for key in derived(type(section), data) if key in values and values[key] is None]


def filled(section: S, told: dict[str, Any]) -> S:
    """Give every derived key that is null its value. `told` has the values that no key holds."""
    data = section.model_dump()
    marks, values, waiting = derived(type(section), data), leaves(data) | told, left_open(section)
    for _ in waiting:  # what follows from one that follows itself has its value a round later
        values |= {key: marks[key].follows(key, values) for key in waiting}
    return _replaced(section, {key: values[key] for key in waiting})


def _replaced(section: S, values: dict[str, Any]) -> S:
    """Copy a section with other values, by dotted key."""
    own = {key: value for key, value in values.items() if "." not in key}
    for name in dict.fromkeys(key.partition(".")[0] for key in values if "." in key):
        inner = {key.partition(".")[2]: value for key, value in values.items() if key.startswith(f"{name}.")}
        own[name] = _replaced(getattr(section, name), inner)
    return section.model_copy(update=own)


def _either(one: FieldInfo | None, other: FieldInfo) -> FieldInfo:
    """Join the fields of a key that two branches of a union have: it may be what it may be in either."""
    if one is None or expected(one) == expected(other):
        return one or other
    both: Any = copy.copy(one)
    if get_origin(one.annotation) is Literal and get_origin(other.annotation) is Literal:
        both.annotation = Literal[(*get_args(one.annotation), *get_args(other.annotation))]
    else:
        branches = (Annotated[(f.annotation, *f.metadata)] if f.metadata else f.annotation for f in (one, other))
        both.annotation = Union[tuple(branches)]  # noqa: UP007
        both.metadata = []
    if one.description != other.description:
        both.description = f"{one.description}; or {other.description}"
    return both


def sections_of(annotation: Any) -> list[type[Section]]:
    """List the sections among the branches of an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for branch in get_args(annotation) for section in sections_of(branch)]


def nearest(wrong: str, known: list[str]) -> str | None:
    """Guess which known name a misspelling means: also one that was put at the wrong level."""
    section, _, leaf = wrong.rpartition(".")
    beside = {name.rpartition(".")[2]: name for name in known if name.rpartition(".")[0] == section}
    anywhere = {name.rpartition(".")[2]: name for name in reversed(known)}
    same_leaf = [name for name in known if name.rpartition(".")[2] == leaf]
    sections = {name.rpartition(".")[0] for name in same_leaf}
    if close := difflib.get_close_matches(section, sections, n=1, cutoff=0.7):
        return f"{close[0]}.{leaf}"
    if close := difflib.get_close_matches(leaf, beside, n=1, cutoff=0.7):
        return beside[close[0]]
    if same_leaf:
        return same_leaf[0]
    if not beside and (close := difflib.get_close_matches(wrong, known, n=1, cutoff=0.8)):
        return close[0]
    close = difflib.get_close_matches(leaf, anywhere, n=1, cutoff=0.76)
    return anywhere[close[0]] if close else None


def expected(field: FieldInfo) -> str:
    """Describe what a key may be, read off its type and bounds, so that help and errors never disagree."""
    return _expected(field.annotation, field.metadata)


def _expected(annotation: Any, metadata: list[Any]) -> str:
    origin, branches = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner, *more = branches
        bounds = [bound for extra in more for bound in getattr(extra, "metadata", [extra])]
        return _expected(inner, [*metadata, *bounds])
    if origin in (Union, types.UnionType):
        return " or ".join(_expected(branch, metadata) for branch in branches)
    if origin is Literal:
        choices = [_show(value) for value in branches]
        return choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
    if annotation is type(None):
        return "null"
    if origin is list:
        return f"a list of {_expected(branches[0], [])}"
    if origin is dict:
        return "a group of keys"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[annotation]
    if annotation is str:
        most = next((bound.max_length for bound in metadata if isinstance(bound, MaxLen)), None)
        least = any(isinstance(bound, MinLen) for bound in metadata)
        return f"text of at most {most} character" if most else "text that is not empty" if least else words
    for bound in metadata:
        match bound:
            case Ge(ge=int() | float() as low):
                words += f" of at least {low:g}" if abs(low) < 1e6 else f" of at least {low}"
            case Gt(gt=int() | float() as low):
                words += f" above {low:g}"
            case Le(le=int() | float() as high):
                words += f" up to {high:g}"
            case Lt(lt=int() | float() as high):
                words += f" below {high:g}" if high < 1e6 else f" below 2^{math.log2(high):g}"
            case MultipleOf(multiple_of=factor):
                words += f", a multiple of {factor}"
    return words


def _show(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return in_line(repr(value) if isinstance(value, str) and " " in value else value)


def _sentence(mistake: ErrorDetails, data: dict[str, Any], schema: type[Section]) -> tuple[str, str]:
    """Find the key that a mistake is about, and write one sentence on it for the person who typed it."""
    known = keys(schema, data)
    key, value = _locate(mistake["loc"], data, known)
    kind = mistake["type"]
    if kind == "extra_forbidden":
        while isinstance(value, dict) and value:  # a whole group that is not there
            part, value = next(iter(value.items()))
            key = f"{key}.{in_line(part)}"
        section = key.rpartition(".")[0]
        allowed = _allowed_in(data, schema)
        guess = nearest(key, allowed)
        siblings = [name for name in allowed if name.rpartition(".")[0] == section] or sorted(schema.model_fields)
        hint = f"did you mean `{guess}`?" if guess else "there are " + ", ".join(siblings)
        return key, f"`{key}` is not a key: {hint}"
    if kind == "missing":
        return key, f"`{key}` is missing: set it to {expected(known[key]) if key in known else 'a group of keys'}"
    if kind == "value_error":
        return key, f"`{key}` {mistake['ctx']['error']}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        wrong = value.get("name") if isinstance(value, dict) else value
        return key, "; ".join([f"`{key}.name` must be {expected(known[f'{key}.name'])}, not {_show(wrong)}", *unusable])
    if key not in known:
        return key, f"`{key}` must be a group of keys, not {_show(value)}"
    words = f"`{key}` must be {expected(known[key])}, not {_show(value)}"
    if kind == "multiple_of":
        words = f"`{key}` must be a multiple of {mistake['ctx']['multiple_of']}, not {_show(value)}"
    if kind == "literal_error" and isinstance(value, str):
        choices = [str(choice) for choice in get_args(known[key].annotation)]
        close = difflib.get_close_matches(value, choices, n=1)
        words += f": did you mean {close[0]}?" if close else ""
    return key, words


def _locate(location: tuple[Any, ...], data: dict[str, Any], known: dict[str, FieldInfo]) -> tuple[str, Any]:
    """Find the dotted key and the value behind a pydantic location, which also names branches of unions."""
    path: list[str] = []
    value: Any = data
    for part in location:
        if ".".join(path) in known:
            break  # what follows names a branch of the key's own type
        if isinstance(value, dict) and part in value:
            path.append(in_line(part))
            value = value[part]
        elif part == location[-1] and not (isinstance(value, dict) and value.get("name") == part):
            path.append(in_line(part))  # a missing key
            value = None
    return ".".join(path), value


def _allowed_in(data: dict[str, Any], schema: type[Section]) -> list[str]:
    """List the keys and groups that data may have: of a union only those of the branch that its `name` chose."""
    inner = [key for key in keys(schema, data) if "." in key]
    groups = dict.fromkeys(key.rpartition(".")[0] for key in inner)
    return [*schema.model_fields, *inner, *(group for group in groups if "." in group)]
