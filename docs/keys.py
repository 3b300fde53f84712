"""Write docs/keys.md: every key of every program, as the schema has them.

python docs/keys.py    # writes docs/keys.md anew; a test fails when it is out of date
"""

import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import yaml
from pydantic.fields import FieldInfo

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "keys.md"
sys.path.insert(0, str(ROOT))

from cleangpt.basics import verbs  # noqa: E402
from cleangpt.basics.schema import Section, expected, keys, leaves, sections_of  # noqa: E402
from cleangpt.config import composition, programs  # noqa: E402
from cleangpt.config.experiment import Config  # noqa: E402
from cleangpt.sweeps import settings  # noqa: E402

SCHEMAS: dict[str, type[Section]] = {"train": Config} | {
    verb: getattr(programs, f"{verb.capitalize()}Config") for verb in verbs.SCRIPTS if verb != "train"
}
HEAD = """# Configuration reference

```bash
python train.py dataset=text --help
```

Every program explains its keys by `--help`, with the values that the rest of the command line gives them. This page has
all of them, with the values of `conf/`. It is written by `python docs/keys.py` from the schema that checks them;
[configuration](configuration.md) says how they are set.
"""
TITLES = {
    "train": "Training: `train.py`, `cleangpt train`",
    "sample": "Sampling: `sample.py`, `cleangpt sample`",
    "score": "Scoring: `eval/score.py`, `cleangpt score`",
    "report": "Reports: `eval/report.py`, `cleangpt report`",
    "export": "Weights: `export.py`, `cleangpt export`",
    "prepare": "Preparing text: `data/prepare.py`, `cleangpt prepare`",
    "bench": "Benchmarks: `bench.py`, `cleangpt bench`",
}


def page() -> str:
    parts = [HEAD]
    for verb, schema in SCHEMAS.items():
        parts.append(f"## {TITLES[verb]}\n")
        if issubclass(schema, Config) and schema is not Config:
            parts.append("All keys of a training but `resume` and `init_from`, and:\n")
        for title, table in _tables(verb, schema):
            parts += [f"### {title}\n"] if title else []
            parts.append(table)
    return "\n".join(parts)


def _tables(verb: str, schema: type[Section]) -> Iterator[tuple[str, str]]:
    """Make a table of each section of a program; of what a choice decides, one for each choice with keys of its own."""
    inherited = Config.model_fields if schema is not Config and issubclass(schema, Config) else {}
    own = {name: field for name, field in schema.model_fields.items() if name not in inherited}
    data = composition.defaults(verb)
    every = keys(schema, data)
    alone = {key: every[key] for key in own if key in every}
    if alone:
        yield "", _table(alone, leaves(data))
    for name in own:
        if name in alone:
            continue
        told: dict[str, tuple[str | None, str]] = {}
        for choice in _choices(name, schema) or [None]:
            there = composition.defaults(verb, choice) if choice else data
            fields = {
                key: field
                for key, field in keys(schema, there).items()
                if key.startswith(f"{name}.") and told.get(key) != _said(field)
            }
            if choice:
                fields.pop(f"{name}.name")
            told |= {key: _said(field) for key, field in fields.items()}
            if fields:
                yield f"`{choice or name}`", _table(fields, leaves(there))
    if schema is Config:
        yield "Sweeps: `hydra.launcher`, `hydra.sweeper`", _table(settings.help_keys(), _of_sweeps())


def _of_sweeps() -> dict[str, typing.Any]:
    found: dict[str, typing.Any] = {}
    for part, name in (("launcher", "processes"), ("sweeper", "grid")):
        text = (Path(composition.CONF) / "hydra" / part / f"{name}.yaml").read_text(encoding="utf-8")
        values = {key: value for key, value in yaml.safe_load(text).items() if key != "defaults"}
        found |= leaves({"hydra": {part: values}})
    return found


def _choices(name: str, schema: type[Section]) -> list[str]:
    """List `model=gpt`, `model=llama`, … of a section whose keys a choice decides."""
    found = []
    for section in sections_of(schema.model_fields[name].annotation):
        if "name" in section.model_fields:
            (first, *_) = typing.get_args(section.model_fields["name"].annotation)
            if (Path(composition.CONF) / name / f"{first}.yaml").exists() and f"{name}={first}" not in schema.refuses:
                found.append(f"{name}={first}")
    return found


def _said(field: FieldInfo) -> tuple[str | None, str]:
    return field.description, expected(field)


def _table(fields: dict[str, FieldInfo], values: dict[str, typing.Any]) -> str:
    rows = ["| key | value in conf/ | may be | meaning |", "| --- | --- | --- | --- |"]
    for key, field in fields.items():
        cells = (f"`{key}`", f"`{_word(values.get(key))}`", expected(field), field.description or "")
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows) + "\n"


def _word(value: typing.Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_word, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) if value != "" else '""'


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
