"""A training step as train.py makes it, but that it writes nothing; and a profile of a few of them."""

import contextlib
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console

from cleangpt.basics.seeds import derive
from cleangpt.config.programs import BenchConfig
from cleangpt.disk.rundir import RunDir
from cleangpt.machine.device import Compute
from cleangpt.machine.launcher import world
from cleangpt.machine.signals import Stop
from cleangpt.measure.turns import Call
from cleangpt.models.build import build
from cleangpt.models.contract import LanguageModel
from cleangpt.optimizers import optim
from cleangpt.tasks.contract import Task
from cleangpt.training.compiling import prepare
from cleangpt.training.loop import Trainer
from cleangpt.watch import profiling
from cleangpt.watch.tracking import Tracker

PROFILED = profiling.WARM_UP + profiling.STEPS


def first_weights(config: BenchConfig, place: torch.device | str) -> LanguageModel:
    """Build the model of a (resolved) configuration as a training begins with it."""
    model = build(config.model, place)
    model.initialise(torch.Generator().manual_seed(derive(config.seed, "init")))
    return model


def steps(config: BenchConfig, task: Task, compute: Compute) -> Call:
    """Make a trainer; each call is a step, and says how many tokens it read."""
    trainer = make_trainer(config, task, compute)

    def step() -> int:
        before = trainer.state.tokens
        trainer.step(min(trainer.state.step + 1, config.train.steps))
        return trainer.state.tokens - before

    return step


def make_trainer(config: BenchConfig, task: Task, compute: Compute) -> Trainer:
    """Make a trainer as a training makes it, but that it writes nothing."""
    model = first_weights(config, compute.device)
    optim.freeze(model, config.train.freeze)
    nowhere = RunDir(Path(tempfile.gettempdir()) / "bench-writes-nothing")
    tracker = Tracker(nowhere, config.logger, config.train.steps, speaks=False)
    unwatched = config.model_copy(update={"profile": False})
    trainer = Trainer(unwatched, task, model, compute, world(), nowhere, tracker, Stop(), time.monotonic())
    prepare(trainer)
    return trainer


def profile(config: BenchConfig, task: Task, compute: Compute, folder: Path) -> None:
    """Leave a trace of a few of our steps in folder/profile/. Nothing is measured meanwhile."""
    trainer = make_trainer(config, task, compute)
    whole = config.train.model_copy(update={"steps": PROFILED, "eval_every": None, "snapshot_every": None})
    trainer.profiler = profiling.Profiler(RunDir(folder), whole, compute, Console(highlight=False).print)
    with contextlib.closing(trainer.profiler):
        for number in range(1, PROFILED + 1):
            with trainer.profiler.step(number):
                trainer.step(min(number, config.train.steps))
