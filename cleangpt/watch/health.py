"""The health of a run in a line of metrics.jsonl: speed, MFU, memory, waiting for data, clipping, norms by layer.

All of it is read off clocks and counters, so logging adds no device synchronisation. Only the norms are
computed, at the steps that `logger.norms` asks for.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from cleangpt.machine import peaks
from cleangpt.machine.device import Compute
from cleangpt.machine.launcher import World
from cleangpt.models.contract import LanguageModel
from cleangpt.optimizers import optim
from cleangpt.snapshots.state import State

if TYPE_CHECKING:
    from cleangpt.sharding.divide import Divided

T = TypeVar("T")
# Keys of a row that tell of the machine: they differ between two runs that are alike in everything else.
OF_THE_MACHINE = ("seconds", "tokens_per_second", "mfu", "memory_gb", "data_wait")


class StepHealth:
    """Counts since the last line of metrics.jsonl. What a resumed run must know of them is in the trainer's State."""

    def __init__(
        self,
        model: LanguageModel,
        length: int,
        compute: Compute,
        world: World,
        norms_every: int | None,
        divided: "Divided | None" = None,
    ):
        self.model, self.compute, self.world, self.norms_every = model, compute, world, norms_every
        self.divided = divided
        self.flops_per_token = model.flops_per_token(length)
        peak = peaks.peak(compute)
        self.peak = None if peak is None else peak * world.size
        self.tokens, self.seconds, self.data_seconds = 0, 0.0, 0.0

    def start(self, state: State) -> None:
        self.tokens, self.seconds, self.data_seconds = state.tokens, state.train_seconds, 0.0

    def mfu(self, tokens_per_second: float) -> float | None:
        """Compute the share of the devices' peak that the model's own arithmetic is, where that peak is known."""
        return None if self.peak is None else tokens_per_second * self.flops_per_token / self.peak

    def speed(self, state: State) -> dict[str, float]:
        """Compute the speed since the last line; the time of evaluations and snapshots is not in it."""
        speed = (state.tokens - self.tokens) / max(state.train_seconds - self.seconds, 1e-9)
        found = {"tokens": state.tokens, "tokens_per_second": speed}
        mfu = self.mfu(speed)
        return found if mfu is None else {**found, "mfu": mfu}

    def line(self, state: State, clips: bool) -> dict[str, float]:
        """Sum up since the last line, and begin anew. Memory and waiting are those of this process."""
        spent = max(state.train_seconds - self.seconds, 1e-9)
        found = {"data_wait": min(1.0, self.data_seconds / spent)}
        if (memory := peak_memory(self.compute)) is not None:
            found["memory_gb"] = memory / 1e9
        if clips:
            found["clipped_share"] = state.clipped / max(state.step - state.line_step, 1)
        state.clipped, state.line_step = 0, state.step
        self.start(state)
        return found

    def waiting(self, parts: Iterator[T], phase: Callable[[str], AbstractContextManager[None]]) -> Iterator[T]:
        """Pass on the parts of a step, and count the time that they take to come."""
        while True:
            began = time.perf_counter()
            with phase("data"):
                part = next(parts, None)
            self.data_seconds += time.perf_counter() - began
            if part is None:
                return
            yield part

    # ---- norms by layer

    def measures_norms(self, step: int) -> bool:
        return self.norms_every is not None and step % self.norms_every == 0

    @torch.no_grad()
    def update(self, optimizer: optim.Optimizer, step: int) -> dict[str, float]:
        """Have the optimizer make its step, and where norms are due, compute those of the weights and their change."""
        if not self.measures_norms(step) or (self.divided is None and not self.world.is_main):
            optimizer.step()
            return {}
        held = dict((self.model if self.divided is None else self.divided).named_parameters())
        before = [parameter.clone() for parameter in held.values()]
        optimizer.step()
        layers: dict[str, tuple[list[Tensor], list[Tensor]]] = {}
        for (name, now), then in zip(held.items(), before, strict=True):
            weights, changes = layers.setdefault(layer_of(name), ([], []))
            if self.divided is None or self.divided.counts(name):
                weights.append(now)
                changes.append(now - then)
        norms = torch.stack([_norm(tensors, self.compute.device) for both in layers.values() for tensors in both])
        if self.divided is not None:
            norms = self.divided.norms(norms)
        keys = [f"{what}/{layer}" for layer in layers for what in ("weight_norm", "update_norm")]
        return dict(zip(keys, norms.tolist(), strict=True))


def layer_of(parameter: str) -> str:
    """Cut blocks.3.attention.out.weight to blocks.3, and head.weight to head."""
    first, *others = parameter.split(".")
    return f"{first}.{others[0]}" if others[0].isdigit() else first


def _norm(tensors: list[Tensor], device: torch.device) -> Tensor:
    """Compute the norm of all these tensors together."""
    if not tensors:
        return torch.zeros((), device=device)
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))


def peak_memory(compute: Compute) -> int | None:
    """Read the most bytes that tensors took on a GPU, or elsewhere that the process took."""
    if compute.device.type == "cuda":
        return torch.cuda.max_memory_allocated(compute.device)
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
