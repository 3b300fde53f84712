"""What each program does with a folder that it opens, below Hydra and in this process; the exit status."""

import importlib.util
import time
from pathlib import Path
from typing import Any

from helpers import ROOT
from runs import composed

import export as export_program
import sample as sample_program
from cleangpt.basics import schema
from cleangpt.config import composition, experiment, programs
from cleangpt.runs.rundir import RunDir
from cleangpt.score import run as scoring
from cleangpt.train import resuming, training


def _program(path: str) -> Any:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


report_program = _program("eval/report.py")
DEFAULTS = {name: composition.defaults(name) for name in ("score", "sample", "export", "report")}


def _asked(name: str, section: type[schema.Section], **keys: Any) -> Any:
    return schema.parse({**DEFAULTS[name], **keys}, section)


def train(folder: Path, *overrides: str) -> int:
    """Go on with a run."""
    words = [f"resume={folder}", "device=cpu", *overrides]
    run, decided, source = resuming.decide(
        experiment.parse(composed(*words)), RunDir(folder), words[1:], restarted=False
    )
    return training.train(decided, run, words, source, time.monotonic())


def train_new(out: Path, *overrides: str) -> int:
    """Begin a run."""
    words = ["device=cpu", *overrides]
    return training.train(experiment.parse(composed(*words)), RunDir(out), words, None, time.monotonic())


def train_from(source: Path, out: Path, *overrides: str) -> int:
    """Begin a run with the weights of another."""
    words = [f"init_from={source}", "device=cpu", *overrides]
    run, decided, _ = resuming.decide(experiment.parse(composed(*words)), RunDir(out), words, restarted=False)
    return training.train(decided, run, words, None, time.monotonic())


def train_on(data: Path, out: Path, *overrides: str) -> int:
    """Begin a run on prepared text."""
    return train_new(out, "dataset=text", f"dataset.dir={data}", *overrides)


def score(folder: Path, **keys: Any) -> int:
    return scoring.score(_asked("score", programs.ScoreConfig, run=str(folder), device="cpu", **keys))


def sample(folder: Path, **keys: Any) -> int:
    given = {"max_new_tokens": 4, "prompt": None, **keys}
    return sample_program.sample(_asked("sample", programs.SampleConfig, run=str(folder), device="cpu", **given))


def export(folder: Path, out: Path, **keys: Any) -> int:
    return export_program.export(_asked("export", programs.ExportConfig, run=str(folder), out=str(out), **keys))


def report(folder: Path, out: Path) -> int:
    return report_program.report(_asked("report", programs.ReportConfig, runs=str(folder), out=str(out)))
