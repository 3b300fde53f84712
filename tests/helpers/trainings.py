"""Toy trainings inside the test's own process."""

import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir

from cleangpt import tasks
from cleangpt.config import cli, composition, experiment
from cleangpt.disk.rundir import RunDir, read_metrics
from cleangpt.machine import device, launcher, processor
from cleangpt.machine.signals import Stop
from cleangpt.score import evaluate
from cleangpt.sharding import make as sharding
from cleangpt.training.loop import Trainer
from cleangpt.training.whole import _first_weights
from cleangpt.watch.tracking import Tracker

TOY = (
    "model=llama_tiny",
    "model.n_embd=16",
    "dataset.digits=2",
    "dataset.val_size=40",
    "train.steps=8",
    "train.batch_size=8",
    "train.eval_every=4",
    "train.log_every=1",
    "train.snapshot_every=null",
    "train.test_at_end=false",
    "logger=quiet",
    "dtype=float32",
)


@cache
def composed(*overrides: str) -> dict[str, Any]:
    cli.register_resolvers(experiment.Config)
    with initialize_config_dir(composition.CONF, version_base=None):
        text = any(word.startswith("dataset=") for word in overrides)  # which has other keys
        toy = [word for word in TOY if not (text and word.startswith("dataset."))]
        return composition.plain(compose("train", [*toy, *overrides]))


def make_trainer(folder: Path, *overrides: str, snapshot: Path | None = None, task: Any = None) -> Trainer:
    """A trainer with its first weights, as `training.train` makes it."""
    settings = experiment.parse(composed(*overrides))
    task = task or tasks.make(settings.dataset, settings.model.block_size)
    settings = experiment.resolve(settings, task)
    compute = device.choose(settings.device, settings.dtype)
    run = RunDir(folder)
    run.path.mkdir(parents=True, exist_ok=True)
    model, divided = sharding.make(settings, compute)
    model.checkpointing = settings.train.activation_checkpointing
    tracker = Tracker(run, settings.logger, settings.train.steps, speaks=launcher.world().is_main)
    trainer = Trainer(settings, task, model, compute, launcher.world(), run, tracker, Stop(), time.monotonic(), divided)
    _first_weights(trainer, snapshot)
    return trainer


def fit(folder: Path, *overrides: str, **more: Any) -> Trainer:
    trainer = make_trainer(folder, *overrides, **more)
    trainer.status = trainer.fit()
    trainer.tracker.close()
    return trainer


def rows(folder: Path) -> list[dict[str, Any]]:
    return read_metrics(folder / "metrics.jsonl")


def losses(folder: Path) -> list[float]:
    return [row["train/loss"] for row in rows(folder) if "train/loss" in row]


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


# What processors say that they can do: tiles of bfloat16, dot products of them, and neither.
AMX, ZEN4, OLD = "fpu avx512_bf16 amx_bf16", "fpu avx512f avx512_bf16", "fpu avx2 avx512f avx_ne_convert"


def cpuinfo(monkeypatch: Any, folder: Path, flags: str, key: str = "flags", name: str = "Some CPU") -> None:
    """Have Linux say this of the processor."""
    path = folder / "cpuinfo"
    first = f"processor\t: 0\nmodel name\t: {name}\n{key}\t\t: {flags}\n"
    path.write_text(f"{first}\nprocessor\t: 1\n{key}\t\t: none\n")
    monkeypatch.setattr(processor, "CPUINFO", path)


UNEVEN = ("dataset.padded=false",)  # rows differ in how many of their tokens are supervised


def verdicts(judge: evaluate.Judge, task: Any) -> tuple[np.ndarray, np.ndarray]:
    """Say of each problem of the train split whether it is right, in one pass and by real decoding."""
    batch = task.batch("train", np.arange(task.size("train")))
    since = evaluate.first_that_counts(batch)
    answers = batch.targets[:, since:]
    forced = judge.predictions(batch)[0][:, since:]
    decoded = judge.decode(batch.inputs[:, : since + 1], answers.shape[1])
    assert len(np.unique(forced, axis=0)) > 3, "it should answer differently to different questions"
    return (forced == answers).all(axis=1), (decoded == answers).all(axis=1)
