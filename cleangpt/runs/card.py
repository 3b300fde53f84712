"""A page about a run, card.md: how it was started, what it changed, where it ran, how it ended, and its pictures.

It is made from the files of the run directory alone.
"""

import json
import shlex
from pathlib import Path
from typing import Any

from cleangpt.basics import files
from cleangpt.basics.shown import in_line, visible
from cleangpt.basics.words import counted
from cleangpt.runs import record
from cleangpt.runs.rundir import RunDir
from cleangpt.terminal.patience import duration


def write(run: RunDir) -> Path:
    """Write the card of a run that has ended, whichever way."""
    about, summary = record.begun(run.run), files.read_json(run.summary)
    config = files.read_json(run.config)
    parts = record.parts(about)
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
    text = "\n\n".join(sections) + "\n"
    files.write_text(run.card, text)
    return run.card


COUNTS = ("total", "without_embeddings")
NOT_LEARNED = {
    "plateau": "It did not learn this: its loss got no better, and it may have done no more than guess.",
    "by heart": "It did not learn this: it knows its training samples by heart.",
    "unfinished": "It did not learn this, or not completely, by then.",
}


def _ending(summary: dict[str, Any], steps: int) -> str:
    at = f"at step {summary['step']:,} of {steps:,}"
    judged = NOT_LEARNED.get(summary.get("verdict", ""))
    return _status(summary, steps, at) + (f" {judged}" if judged else "")


def _status(summary: dict[str, Any], steps: int, at: str) -> str:
    return {
        "completed": f"Completed {at}." if summary["step"] >= steps else f"Solved {at}, as `train.stop_when` asks.",
        "early_stopped": f"Stopped early {at}: the validation loss got no better.",
        "stopped": f"Stopped by a signal {at}; `resume=` continues it.",
        "failed": f"Failed after step {summary['step']:,} of {steps:,}: {_code(summary.get('error', ''))}",
    }[summary["status"]]


def _commands(parts: list[dict[str, Any]], processes: int | str) -> str:
    """List a command for each start: the run's own and each that continued it."""
    lines = []
    for part in parts:
        size, here = part["world_size"], part["local_world_size"]
        nodes = f" --nnodes={-(-size // here)}" if size > here else ""
        launcher = "python" if size in (1, processes) else f"torchrun{nodes} --nproc-per-node={here}"
        lines.append(f"{launcher} {shlex.join(part['command'])}")
    return "```\n" + "\n".join(lines) + "\n```"


def _results(summary: dict[str, Any]) -> list[tuple[str, str]]:
    def percent(value: float) -> str:
        return f"{value:.2%}"

    def loss(value: float) -> str:
        return f"{value:.5f}"

    problems = summary.get("test/problems")
    of_test = f" of {counted(problems, 'problem')}" if problems else ""
    shown = {
        "test/accuracy": ("exact match on test", lambda value: percent(value) + of_test),
        "best/step": ("best step", lambda value: f"{value:,}"),
        "best/val/loss": ("validation loss there", loss),
        "best/val/accuracy": ("exact match on validation there", percent),
        "val/loss": ("last validation loss", loss),
        "val/accuracy": ("last exact match on validation", percent),
        "train/loss": ("last training loss", loss),
        "tokens": ("tokens", lambda value: f"{value:,}"),
        "tokens_per_second": ("tokens a second", lambda value: f"{value:,.0f}"),
        "mfu": ("MFU", lambda value: f"{value:.1%}"),
        "seconds": ("wall time", duration),
    }
    rows = [(name, show(summary[key])) for key, (name, show) in shown.items() if summary.get(key) is not None]
    hidden = {*shown, "test/problems", "step", "train_seconds"}  # the rest are measures of the task's own
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
    return [
        ("device", _said(machine, "device")),
        ("dtype", _said(machine, "dtype")),
        *([("processor", _said(machine, "processor"))] if machine.get("processor") else []),
        ("processes", str(part["world_size"])),
        ("host", f"{_said(machine, 'host')}, {_cores(machine)}, {_said(machine, 'system')}"),
        ("versions", ", ".join(f"{name} {_said(part['versions'], name)}" for name in ("python", "torch", "cleangpt"))),
        ("commit", f"{_said(git, 'commit')}{dirty}"),
        ("parameters", "{:,} ({:,} without embeddings)".format(*map(parameters.get, COUNTS, (0, 0)))),
        ("begun", part["started"]),
    ]


def _cores(machine: dict[str, Any]) -> str:
    cores = machine.get("cores")
    return counted(cores, "core") if isinstance(cores, int) else "unknown cores"


def _said(about: dict[str, Any], key: str) -> str:
    return str(about.get(key) or "unknown")


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    cells = [[in_line(cell, 1000).replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _value(value: Any) -> str:
    return _code(value if isinstance(value, str) else json.dumps(value))


def _code(text: str) -> str:
    """Write a text as code in one line, whatever its characters."""
    text = visible(" ".join(text.split()))
    return f"`` {text} ``" if "`" in text else f"`{text}`" if text else ""
