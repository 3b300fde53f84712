"""Training: our step, and the plain loop around a model of somebody else."""

import contextlib
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from cleangpt import tasks
from cleangpt.basics.errors import UserError
from cleangpt.basics.seeds import derive
from cleangpt.config.programs import BenchConfig
from cleangpt.machine.device import Compute
from cleangpt.machine.distributed import world
from cleangpt.machine.signals import Stop
from cleangpt.measure import peers
from cleangpt.measure.apart import Apart, Work
from cleangpt.measure.plain_loop import Loop
from cleangpt.measure.turns import OURS, Side
from cleangpt.models.build import build
from cleangpt.models.layers import Decoder
from cleangpt.optimizers import optim
from cleangpt.runs.rundir import RunDir
from cleangpt.train.loop import Trainer
from cleangpt.train.training import prepare
from cleangpt.watch import profiling
from cleangpt.watch.tracking import Tracker

PROFILED = profiling.WARM_UP + profiling.STEPS


def sides(config: BenchConfig, task: Any, compute: Compute) -> list[Side]:
    """`config` is a resolved one."""
    found = [Side(OURS, lambda: _ours(config, task, compute), compute.dtype)]
    if config.against is not None:
        if getattr(config.dataset, "confine", False):
            raise UserError("`dataset.confine` is ours alone: set it to false, or use against=null")
        # A plain loop computes in float32; somebody else's model in whatever we compute in.
        theirs = replace(compute, dtype=torch.float32) if config.against == "plain" else compute
        found.append(Side(peers.NAMES[config.against], lambda: Apart(_theirs, (config, theirs), theirs), theirs.dtype))
    return found


def first_weights(config: BenchConfig, place: torch.device | str) -> Decoder:
    model = build(config.model, place)
    model.initialise(torch.Generator().manual_seed(derive(config.seed, "init")))
    return model


def _ours(config: BenchConfig, task: Any, compute: Compute) -> Work:
    trainer = make_trainer(config, task, compute)

    def step() -> int:
        before = trainer.state.tokens
        trainer.step(min(trainer.state.step + 1, config.train.steps))
        return trainer.state.tokens - before

    return step


def make_trainer(config: BenchConfig, task: Any, compute: Compute) -> Trainer:
    """As a training makes it, but that it writes nothing."""
    model = first_weights(config, compute.device)
    optim.freeze(model, config.train.freeze)
    nowhere = RunDir(Path(tempfile.gettempdir()) / "bench-writes-nothing")
    tracker = Tracker(nowhere, config.logger, config.train.steps, speaks=False)
    unwatched = config.model_copy(update={"profile": False})
    trainer = Trainer(unwatched, task, model, compute, world(), nowhere, tracker, Stop(), time.monotonic())
    prepare(trainer)
    return trainer


def _theirs(config: BenchConfig, compute: Compute) -> Work:
    task = tasks.make(config.dataset, config.model.block_size)  # ours may have brought its data to the device
    model = peers.build(config.against, first_weights(config, "cpu"))
    return Loop(config, task, model, compute).step


def profile(config: BenchConfig, task: Any, compute: Compute, folder: Path) -> None:
    """Leave a trace of a few of our steps in folder/profile/. Nothing is measured meanwhile."""
    trainer = make_trainer(config, task, compute)
    whole = config.train.model_copy(update={"steps": PROFILED, "eval_every": None, "snapshot_every": None})
    trainer.profiler = profiling.Profiler(RunDir(folder), whole, compute, Console(highlight=False).print)
    with contextlib.closing(trainer.profiler):
        for number in range(1, PROFILED + 1):
            with trainer.profiler.step(number):
                trainer.step(min(number, config.train.steps))
