"""Write a page about a run, card.md: how it was started, what it changed, where it ran, how it ended, and its pictures.

It is made from the files of the run directory alone.
"""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cleangpt.basics import files
from cleangpt.basics.shown import in_line, visible
from cleangpt.basics.words import counted
from cleangpt.disk import record
from cleangpt.disk.rundir import RunDir
from cleangpt.terminal.patience import duration


def write(run: RunDir) -> Path:
    """Write the card of a run that has ended, whichever way."""
    summary, config = files.read_json(run.summary), files.read_json(run.config)
    parts = record.parts(record.read(run.run))
    pictures = [path for folder in (run.plots, run.score) for path in sorted(folder.glob("*.png"))]
    sections = [
        f"# {run.path.name}",
        _ending(summary, config["train"]["steps"]),
        _commands(parts, config["processes"]),
        "## Result\n\n" + _table(("", ""), _results(summary)),
        "## Configuration\n\n" + _changes(parts[-1]["changed"]),
        "## Machine\n\n" + _table(("", ""), _machine(parts[-1])),
    ]
    if pictures:
        shown = [f"![{path.stem}]({path.relative_to(run.path).as_posix()})" for path in pictures]
        sections.append("## Plots\n\n" + "\n\n".join(shown))
    files.write_text(run.card, "\n\n".join(sections) + "\n")
    return run.card


NOT_LEARNED = {
    "plateau": "It did not learn this: its loss got no better, and it may have done no more than guess.",
    "by heart": "It did not learn this: it knows its training samples by heart.",
    "unfinished": "It did not learn this, or not completely, by then.",
}


def _ending(summary: dict[str, Any], steps: int) -> str:
    at = f"at step {summary['step']:,} of {steps:,}"
    ended = {
        "completed": f"Completed {at}." if summary["step"] >= steps else f"Solved {at}, as `train.stop_when` asks.",
        "early_stopped": f"Stopped early {at}: the validation loss got no better.",
        "stopped": f"Stopped by a signal {at}; `resume=` continues it.",
        "failed": f"Failed after step {summary['step']:,} of {steps:,}: {_code(summary.get('error', ''))}",
    }[summary["status"]]
    judged = NOT_LEARNED.get(summary.get("verdict", ""))
    return f"{ended} {judged}" if judged else ended


def _commands(parts: list[dict[str, Any]], processes: int | str) -> str:
    """List a command for each start: the run's own and each that continued it."""
    lines = []
    for part in parts:
        size, here = part["world_size"], part["local_world_size"]
        nodes = f" --nnodes={-(-size // here)}" if size > here else ""
        command, script = shlex.join(part["command"]), part["command"][0].endswith(".py")
        if size in (1, processes):
            lines.append(f"python {command}" if script else command)
        else:
            lines.append(f"torchrun{nodes} --nproc-per-node={here} {command if script else f'-m {command}'}")
    return "```\n" + "\n".join(lines) + "\n```"


def _results(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """List what summary.json says in the words of a person, then the measures of the task's own."""
    problems = summary.get("test/problems")
    of_test = f" of {counted(problems, 'problem')}" if problems else ""
    shown = {
        "test/accuracy": ("exact match on test", "{:.2%}" + of_test),
        "best/step": ("best step", "{:,}"),
        "best/val/loss": ("validation loss there", "{:.5f}"),
        "best/val/accuracy": ("exact match on validation there", "{:.2%}"),
        "val/loss": ("last validation loss", "{:.5f}"),
        "val/accuracy": ("last exact match on validation", "{:.2%}"),
        "train/loss": ("last training loss", "{:.5f}"),
        "tokens": ("tokens", "{:,}"),
        "tokens_per_second": ("tokens a second", "{:,.0f}"),
        "mfu": ("MFU", "{:.1%}"),
        "seconds": ("wall time", duration(summary.get("seconds", 0.0))),
    }
    rows = [(name, form.format(summary[key])) for key, (name, form) in shown.items() if summary.get(key) is not None]
    hidden = {*shown, "test/problems", "step", "train_seconds"}
    others = [
        (key, f"{value:,.6g}") for key, value in summary.items() if isinstance(value, float | int) and key not in hidden
    ]
    return sorted(rows + others, key=lambda row: "test" not in row[0])  # that of the test split first


def _changes(changed: dict[str, dict[str, Any]]) -> str:
    if not changed:
        return "Everything as in `conf/`."
    rows = [
        (_code(key), *(_value(values[side]) if side in values else "" for side in ("here", "default")))
        for key, values in changed.items()
    ]
    return "What differs from `conf/`; all keys are in [config.json](config.json).\n\n" + _table(
        ("key", "here", "by default"), rows
    )


def _machine(part: dict[str, Any]) -> list[tuple[str, str]]:
    machine, git, parameters = part["machine"], part["git"], part["parameters"]
    dirty = ", with changes that are not committed" if git.get("dirty") else ""
    total, without = (parameters.get(name, 0) for name in ("total", "without_embeddings"))
    cores = counted(machine["cores"], "core") if isinstance(machine.get("cores"), int) else "unknown cores"
    return [
        ("device", _said(machine, "device")),
        ("dtype", _said(machine, "dtype")),
        *([("processor", _said(machine, "processor"))] if machine.get("processor") else []),
        ("processes", str(part["world_size"])),
        ("host", f"{_said(machine, 'host')}, {cores}, {_said(machine, 'system')}"),
        ("versions", ", ".join(f"{name} {_said(part['versions'], name)}" for name in ("python", "torch", "cleangpt"))),
        ("commit", f"{_said(git, 'commit')}{dirty}"),
        ("parameters", f"{total:,} ({without:,} without embeddings)"),
        ("begun", part["started"]),
    ]


def _said(about: dict[str, Any], key: str) -> str:
    return str(about.get(key) or "unknown")


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    cells = [[in_line(cell, 1000).replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _value(value: Any) -> str:
    return _code(value if isinstance(value, str) else json.dumps(value))


def _code(text: str) -> str:
    """Write a text as code in one line, whatever its characters."""
    text = visible(" ".join(text.split()))
    return f"`` {text} ``" if "`" in text else f"`{text}`" if text else ""
