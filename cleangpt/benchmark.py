"""Speed, measured so that it can be believed: both sides in one process, in turn, medians and their spread."""

import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from cleangpt import compiling, decode_benchmark, device, models, tasks
from cleangpt.config import BenchConfig, resolve
from cleangpt.distributed import world
from cleangpt.evaluate import Judge
from cleangpt.rundir import RunDir
from cleangpt.seeds import derive
from cleangpt.signals import Stop
from cleangpt.tracking import Tracker
from cleangpt.trainer import Trainer

Side = Callable[[], int]  # does a little work and says how many tokens or problems it was


def sides(config: BenchConfig) -> tuple[dict[str, Side], str, device.Compute]:
    """What is measured, by name, and the unit of its work."""
    compute = device.choose(config.device, config.dtype)
    task = tasks.make(config.dataset, config.model.block_size)
    config = resolve(config, task)
    model = models.build(config.model, compute.device)
    model.initialise(torch.Generator().manual_seed(derive(config.seed, "init")))
    if config.what == "score":
        judge = Judge(model, compute.device, world())
        batch = task.batch("val", np.arange(min(2048, task.size("val"))))
        return {"cleangpt": lambda: len(judge.predictions(batch))}, "samples", compute
    if config.what == "decode":
        return decode_benchmark.sides(config, model.to(compute.dtype), task.tokenizer.vocab_size), "tokens", compute
    found = {"cleangpt": our_step(config, task, model, compute)}
    if config.against == "plain":
        found["plain loop"] = plain_step(config, task, compute)
    return found, "tokens", compute


def our_step(config: BenchConfig, task: Any, model: Any, compute: device.Compute) -> Side:
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    model.checkpointing = config.train.activation_checkpointing
    compiling.apply(config.compile not in (False, "auto"), model)
    tracker = Tracker(RunDir(folder), config.logger, config.train.steps, speaks=False)
    trainer = Trainer(config, task, model, compute, world(), RunDir(folder), tracker, Stop(), time.monotonic())
    folder.rmdir()

    def step() -> int:
        before = trainer.state.tokens
        trainer.step(min(trainer.state.step + 1, config.train.steps))
        return trainer.state.tokens - before

    return step


def plain_step(config: BenchConfig, task: Any, compute: device.Compute) -> Side:
    """The loop that everybody writes first: eager, random batches, a mean loss that is read each step."""
    model = models.build(config.model, compute.device)
    model.initialise(torch.Generator().manual_seed(derive(config.seed, "init")))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.optimizer.lr)
    generator = np.random.default_rng(0)
    losses = []

    def step() -> int:
        optimizer.zero_grad(set_to_none=True)
        tokens = 0
        for _ in range(config.schedule.grad_accum.begin):
            index = generator.integers(task.size("train"), size=config.train.batch_size)
            batch = task.batch("train", index)
            inputs, targets, loss_weights = (
                torch.from_numpy(np.ascontiguousarray(x)).to(compute.device)
                for x in (batch.inputs, batch.targets, batch.loss_weights)
            )
            with compute.autocast():
                logits = model(inputs)
            wanted = targets.masked_fill(loss_weights == 0, -1)
            loss = F.cross_entropy(logits.flatten(0, 1).float(), wanted.flatten(), ignore_index=-1)
            (loss / config.schedule.grad_accum.begin).backward()
            tokens += int(batch.real.sum())
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.train.grad_clip or float("inf"))
        optimizer.step()
        losses.append(loss.item())
        return tokens

    return step


def measure(config: BenchConfig) -> dict[str, Any]:
    """Turns of each side after a warm-up, as rates with their median and spread."""
    device.share_threads(1)
    found, unit, compute = sides(config)
    rates: dict[str, list[float]] = {name: [] for name in found}
    for side in found.values():
        for _ in range(1 if config.what == "decode" else 3):
            side()
    for _ in range(config.rounds):
        for name, side in found.items():
            compute.synchronize()
            began, done = time.perf_counter(), 0
            while time.perf_counter() - began < config.seconds:
                done += side()
            compute.synchronize()
            rates[name].append(done / (time.perf_counter() - began))
    result: dict[str, Any] = {"what": config.what, "unit": f"{unit} a second", "rounds": config.rounds}
    for name, values in rates.items():
        spread = {"median": statistics.median(values), "min": min(values), "max": max(values)}
        result[name] = spread
    if config.what == "decode":
        result["ratios"] = decode_benchmark.ratios({name: result[name]["median"] for name in rates})
    elif len(rates) == 2:
        ours, other = rates.values()
        result["ratio"] = statistics.median(a / b for a, b in zip(ours, other, strict=True))
    result |= {"device": compute.name, "dtype": str(compute.dtype).removeprefix("torch."), "torch": torch.__version__}
    return {**result, "python": platform.python_version()}
