"""The training loop that everybody writes first, as nanoGPT has it, around any model that gives logits.

Eager on a CPU, compiled on a GPU where ours is; samples are drawn with replacement and collated one by one in each
step; cross-entropy is a mean; the norm is clipped by torch's function; AdamW is torch's own choice for the device; the
loss is read after each step.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cleangpt.config.experiment import Config
from cleangpt.machine.device import Compute
from cleangpt.optimizers import schedule
from cleangpt.tasks import text
from cleangpt.tasks.contract import Task

NOT_COUNTED = -1


class Loop:
    """A plain training loop. `compute` says where and in what dtype; in float32 there is no autocast."""

    def __init__(self, config: Config, task: Task, model: nn.Module, compute: Compute):
        self.config, self.task, self.compute = config, task, compute
        self.model = model.to(compute.device).train()
        decay = config.optimizer.weight_decay
        groups: list[dict[str, Any]] = [
            {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": decay},
            {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
        ]
        if compute.device.type == "cuda" and config.compile not in (False, "auto"):
            self.model.compile()
        fused = True if compute.device.type == "cuda" else None  # None: torch's own choice
        self.optimizer = torch.optim.AdamW(groups, lr=config.optimizer.lr, fused=fused)
        self.generator = np.random.default_rng(config.seed)
        self.steps = 0
        self.losses: list[float] = []
        self.ready = self.batch()

    def step(self) -> int:
        """Make one optimizer step, and return how many tokens it read."""
        train = self.config.train
        self.steps = min(self.steps + 1, train.steps)
        now = schedule.at(self.config.schedule, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = now.lr
        tokens = 0
        for _ in range(now.grad_accum):
            inputs, targets, count = self.ready
            with self.compute.autocast():
                logits = self.model(inputs)
                loss = mean_loss(logits, targets) / now.grad_accum
            self.ready = self.batch()  # while a GPU is busy
            loss.backward()
            tokens += count
        if train.grad_clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), train.grad_clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.losses.append(loss.item() * now.grad_accum)
        return tokens

    def batch(self) -> tuple[Tensor, Tensor, int]:
        """Draw inputs (B, T), targets (B, T), and count the inputs that are no padding."""
        batch_size, on_gpu = self.config.train.batch_size, self.compute.device.type == "cuda"
        if isinstance(self.task, text.Task):
            inputs, targets, count = windows(self.task, self.generator, batch_size)
        else:
            inputs, targets, count = problems(self.task, self.generator, batch_size)
        if on_gpu:
            inputs, targets = inputs.pin_memory(), targets.pin_memory()
        inputs, targets = (x.to(self.compute.device, non_blocking=on_gpu) for x in (inputs, targets))
        return inputs, targets, count


def mean_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Average the loss over the targets that count."""
    return F.cross_entropy(logits.view(-1, logits.shape[-1]).float(), targets.view(-1), ignore_index=NOT_COUNTED)


def windows(task: text.Task, generator: np.random.Generator, count: int) -> tuple[Tensor, Tensor, int]:
    """Draw windows of a text, from any token on."""
    ids, length = task.ids["train"], task.sequence_length
    starts = generator.integers(len(ids) - length, size=count)
    inputs = torch.stack([torch.from_numpy(ids[i : i + length].astype(np.int64)) for i in starts])
    targets = torch.stack([torch.from_numpy(ids[i + 1 : i + 1 + length].astype(np.int64)) for i in starts])
    return inputs, targets, inputs.numel()


def problems(task: Task, generator: np.random.Generator, count: int) -> tuple[Tensor, Tensor, int]:
    """Draw any samples of a task."""
    batch = task.batch("train", generator.integers(task.size("train"), size=count))
    targets = batch.targets
    if batch.loss_weights is not None:
        targets = np.where(batch.loss_weights > 0, targets, NOT_COUNTED)
    rows = [list(map(torch.from_numpy, np.ascontiguousarray(x))) for x in (batch.inputs, targets)]
    inputs, targets = map(torch.stack, rows)
    return inputs, targets, inputs.numel() if batch.real is None else int(batch.real.sum())
