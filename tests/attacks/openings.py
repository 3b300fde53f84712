"""What each program does with a folder that it opens, below Hydra and in this process; the exit status."""

import time
from pathlib import Path
from typing import Any

from helpers.trainings import composed

from cleangpt.basics import schema
from cleangpt.config import composition, experiment, programs
from cleangpt.config.asked import Asked
from cleangpt.disk.rundir import RunDir
from cleangpt.hf import run as run_export
from cleangpt.report import run as run_report
from cleangpt.sample import run as run_sample
from cleangpt.score import run as run_score
from cleangpt.training import resuming, whole

DEFAULTS = {name: composition.defaults(name) for name in ("score", "sample", "export", "report")}


def _asked(name: str, section: type[schema.Section], **keys: Any) -> Any:
    return schema.parse({**DEFAULTS[name], **keys}, section)


def _of(words: list[str]) -> Asked:
    return Asked(experiment.parse(composed(*words)), tuple(words))


def train(folder: Path, *overrides: str) -> int:
    """Go on with a run."""
    words = [f"resume={folder}", "device=cpu", *overrides]
    run, asked, source = resuming.decide(_of(words), RunDir(folder), restarted=False)
    return whole.train(asked, run, source, time.monotonic())


def train_new(out: Path, *overrides: str) -> int:
    """Begin a run."""
    words = ["device=cpu", *overrides]
    return whole.train(_of(words), RunDir(out), None, time.monotonic())


def train_from(source: Path, out: Path, *overrides: str) -> int:
    """Begin a run with the weights of another."""
    words = [f"init_from={source}", "device=cpu", *overrides]
    run, asked, _ = resuming.decide(_of(words), RunDir(out), restarted=False)
    return whole.train(asked, run, None, time.monotonic())


def train_on(data: Path, out: Path, *overrides: str) -> int:
    """Begin a run on prepared text."""
    return train_new(out, "dataset=text", f"dataset.dir={data}", *overrides)


def score(folder: Path, **keys: Any) -> int:
    return run_score.score(_asked("score", programs.ScoreConfig, run=str(folder), device="cpu", **keys))


def sample(folder: Path, **keys: Any) -> int:
    given = {"max_new_tokens": 4, "prompt": None, **keys}
    return run_sample.sample(_asked("sample", programs.SampleConfig, run=str(folder), device="cpu", **given))


def export(folder: Path, out: Path, **keys: Any) -> int:
    return run_export.export(_asked("export", programs.ExportConfig, run=str(folder), out=str(out), **keys))


def report(folder: Path, out: Path) -> int:
    return run_report.report(_asked("report", programs.ReportConfig, runs=str(folder), out=str(out)))
