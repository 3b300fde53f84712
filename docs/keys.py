"""Write docs/keys.md: every key of every program, as the schema has them.

python docs/keys.py    # writes docs/keys.md anew; a test fails when it is out of date
"""

import itertools
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
from cleangpt.basics.schema import Section, expected, keys, sections_of  # noqa: E402
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
all of them with their defaults. It is written by `python docs/keys.py` from `conf/` and from the schema that checks
them; [configuration](configuration.md) says how they are set.
"""
GROUPS = ("dataset", "model", "optimizer", "schedule", "logger", "experiment", "sweep", "template")
Told = tuple[str | None, str, str]
TITLES = {
    "train": "Training: `train.py`, `cleangpt train`",
    "sample": "Sampling: `sample.py`, `cleangpt sample`",
    "ui": "The page in the browser: `eval/ui.py`, `cleangpt ui`",
    "serve": "Serving: `serve.py`, `cleangpt serve`",
    "score": "Scoring: `eval/score.py`, `cleangpt score`",
    "report": "Reports: `eval/report.py`, `cleangpt report`",
    "runs": "Listing runs: `eval/runs.py`, `cleangpt runs`",
    "export": "Weights: `export.py`, `cleangpt export`",
    "prepare": "Preparing text: `data/prepare.py`, `cleangpt prepare`",
    "bench": "Benchmarks: `bench.py`, `cleangpt bench`",
}


def page() -> str:
    parts = [HEAD, "## Groups and presets\n"]
    for group in GROUPS:
        parts += [f"### `{group}=`\n", _options(Path(composition.CONF) / group)]
    for verb, schema in SCHEMAS.items():
        parts.append(f"## {TITLES[verb]}\n")
        if issubclass(schema, Config) and schema is not Config:
            parts.append("All keys of a training but `resume` and `init_from`, and:\n")
        for title, table in _tables(verb, schema):
            parts += [f"### {title}\n"] if title else []
            parts.append(table)
    return "\n".join(parts)


def _options(folder: Path) -> str:
    """List the files of a group, each with the lines that stand at its head."""
    rows = ["| option | |", "| --- | --- |"]
    for path in sorted(folder.glob("*.yaml")):
        lines = itertools.takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
        said = " ".join(line.removeprefix("#").strip() for line in lines if not line.startswith("# @package"))
        rows.append(f"| `{path.stem}` | {_cell(said)} |")
    return "\n".join(rows) + "\n"


def _tables(verb: str, schema: type[Section]) -> Iterator[tuple[str, str]]:
    """Make a table of each section of a program; of what a choice decides, one for each choice.

    The first choice has all its keys; another one those that it alone has, or that have another value or meaning there.
    """
    inherited = Config.model_fields if schema is not Config and issubclass(schema, Config) else {}
    own = {name: field for name, field in schema.model_fields.items() if name not in inherited}
    data = composition.defaults(verb)
    every = keys(schema, data)
    alone = {key: every[key] for key in own if key in every}
    if alone:
        yield "", _table(alone, data)
    for name in own:
        if name in alone:
            continue
        first: dict[str, Told] = {}
        for choice in _choices(name, schema) or [None]:
            there = composition.defaults(verb, choice) if choice else data
            fields = {key: field for key, field in keys(schema, there).items() if key.startswith(f"{name}.")}
            if choice:
                del fields[f"{name}.name"]
            told = {key: (field.description, expected(field), _value(key, there)) for key, field in fields.items()}
            shown = {key: field for key, field in fields.items() if first.get(key) != told[key]}
            table = _table(shown, there)
            if same := [key for key in fields if key not in shown]:
                table += f"\nAs with `{_choices(name, schema)[0]}`: {', '.join(f'`{key}`' for key in same)}.\n"
            yield f"`{choice or name}`", table
            first = first or told
    if schema is Config:
        yield "Sweeps: `hydra.launcher`, `hydra.sweeper`", _table(settings.help_keys(), _stored("processes", "grid"))
        slurm = {f"hydra.launcher.{key}": field for key, field in keys(settings.Submitit).items() if key != "name"}
        yield "Sweeps on Slurm: `hydra/launcher=submitit_slurm`", _table(slurm, _stored("submitit_slurm", "grid"))


def _stored(launcher: str, sweeper: str) -> dict[str, typing.Any]:
    found: dict[str, typing.Any] = {}
    for part, name in (("launcher", launcher), ("sweeper", sweeper)):
        text = (Path(composition.CONF) / "hydra" / part / f"{name}.yaml").read_text(encoding="utf-8")
        found[part] = {key: value for key, value in yaml.safe_load(text).items() if key != "defaults"}
    return {"hydra": found}


def _choices(name: str, schema: type[Section]) -> list[str]:
    """List `model=gpt`, `model=llama`, … of a section whose keys a choice decides."""
    found = []
    for section in sections_of(schema.model_fields[name].annotation):
        if "name" in section.model_fields:
            (first, *_) = typing.get_args(section.model_fields["name"].annotation)
            if (Path(composition.CONF) / name / f"{first}.yaml").exists() and f"{name}={first}" not in schema.refuses:
                found.append(f"{name}={first}")
    return found


def _table(fields: dict[str, FieldInfo], data: dict[str, typing.Any]) -> str:
    rows = ["| key | default | type | meaning |", "| --- | --- | --- | --- |"]
    for key, field in fields.items():
        value = _value(key, data)
        cells = (f"`{key}`", f"`{value}`" if value else "", expected(field), field.description or "")
        rows.append(f"| {' | '.join(map(_cell, cells))} |")
    return "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _value(key: str, data: typing.Any) -> str:
    """Write the value of a key; of a section that is null, nothing."""
    for part in key.split("."):
        if data is None:
            return ""
        data = data[part]
    return _word(data)


def _word(value: typing.Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_word, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) if value != "" else '""'


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
