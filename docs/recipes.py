"""Rows for the table of docs/recipes.md, from runs of its presets.

python train.py -m experiment=adder model=llama,gpt dtype=float32,bfloat16 'seed=range(0,20)'
python docs/recipes.py outputs/sweeps/<of that sweep>

A row is a preset on one kind of processor in one dtype. Runs that have not ended, or differ from their preset in more
than the columns say, are told and left out; one that failed counts as one that did not keep the promise.
"""

import sys
from collections import defaultdict
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from cleangpt.basics import files  # noqa: E402
from cleangpt.config.command_line import split  # noqa: E402
from cleangpt.disk.rundir import RunDir  # noqa: E402
from cleangpt.report.collect import FINISHED, find  # noqa: E402
from cleangpt.terminal.patience import duration  # noqa: E402

# What a run may say for itself and still be one of its preset.
ALIKE = ("experiment=", "model=", "dataset=", "dataset.dir=", "dtype=", "seed=", "logger", "hydra.", "resume=")
ALIKE += ("train.stop_when=", "device=", "processes=")
HEAD = ("preset", "model", "dtype", "seeds", "judged by", "median", "worst", "steps", "time of one", "machine")


def promises() -> dict[str, list[tuple[str, str, float]]]:
    """What docs/recipes.md promises: of each preset (what is judged, at least or at most, the bound)."""
    found: dict[str, list[tuple[str, str, float]]] = defaultdict(list)
    for line in (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        if len(cells) >= 4 and cells[2] in ("at least", "at most"):
            found[cells[0]].append((cells[1], cells[2], float(cells[3])))
    return found


def reached(folder: Path, quantity: str) -> float | None:
    """A number of summary.json, or one of the complete score by its path: test/leak.clean.accuracy"""
    run = RunDir(folder)
    summary = files.read_json(run.summary)
    if quantity in summary:
        return summary[quantity]
    split, _, path = quantity.partition("/")
    for found in sorted(run.score.glob(f"{split}_*.json")):
        value = files.read_json(found)
        for part in path.split(".") if value["complete"] else ["nothing"]:
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            return value
    return None


def kept(value: float | None, side: str, bound: float) -> bool:
    return value is not None and (value >= bound if side == "at least" else value <= bound)


def rows(folders: list[Path]) -> list[tuple[str, ...]]:
    groups: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for folder in folders:
        ended = files.read_json(RunDir(folder).summary)["status"] if RunDir(folder).summary.exists() else "not ended"
        about = files.read_json(RunDir(folder).run)
        parts = [about, *about.get("resumed", [])]
        words = dict(split(word) for part in parts for word in part["overrides"])
        other = [key for key in words if not f"{key}=".startswith(ALIKE)]
        if ended not in (*FINISHED, "failed") or other:
            print(f"{folder} is left out: {', '.join(other) or ended}", file=sys.stderr)
            continue
        machine, config = about["machine"], files.read_json(RunDir(folder).config)
        threads = "1 thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
        where = f"{machine.get('processor') or machine['device']}, {threads}"
        preset = words.get("experiment", f"dataset={config['dataset']['name']}")
        if words.get("train.stop_when") == "null":  # a run that was continued to its last step, past its goal
            preset = f"dataset={config['dataset']['name']}"
        model = words.get("model", config["model"]["name"])
        groups[preset, model, machine["dtype"], where].append(folder)
    return [row for key, runs in sorted(groups.items()) for row in _rows(*key, runs)]


def _rows(preset: str, model: str, dtype: str, where: str, runs: list[Path]) -> list[tuple[str, ...]]:
    summaries = [files.read_json(RunDir(run).summary) for run in runs]
    steps = [summary["step"] for summary in summaries]
    seconds = [summary["seconds"] for summary in summaries if "seconds" in summary] or [0.0]
    took = f"{duration(median(seconds))}, at most {duration(max(seconds))}"
    made = str(steps[0]) if len(set(steps)) == 1 else f"{median(steps):.0f}, at most {max(steps)}"
    found = []
    for quantity, side, bound in promises().get(preset, [("best/val/loss", "at most", 0.0)]):
        values = [reached(run, quantity) for run in runs]
        numbers = sorted((value for value in values if value is not None), reverse=side == "at least")
        if len(numbers) < len(values):
            print(f"{preset}: {len(values) - len(numbers)} of {len(values)} runs have no {quantity}", file=sys.stderr)
        ends = (f"{median(numbers):.5g}", f"{numbers[-1]:.5g}") if numbers else ("–", "–")
        good = sum(kept(value, side, bound) for value in values)
        found.append((preset, model, dtype, f"{good} of {len(runs)}", quantity, *ends, made, took, where))
    return found


def table(lines: list[tuple[str, ...]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [HEAD, ("---",) * len(HEAD), *lines])


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("python docs/recipes.py <folders with runs>")
    print(table(rows([path for word in sys.argv[1:] for path in find(word)])))
