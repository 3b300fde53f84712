"""Sides that do the same work, timed in turn: A B, B A, A B …

What disturbs the machine for a while then disturbs all of them, and a ratio is taken within a round, between
neighbours in time.
"""

import gc
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from cleangpt.machine.device import Compute
from cleangpt.watch.health import peak_memory

OURS = "cleangpt"
Call = Callable[[], int]  # does a little, and says how many tokens or problems it was


class Work(ABC):
    """The calls of a side, made in this process or in another."""

    @abstractmethod
    def turn(self, seconds: float) -> tuple[int, list[float]]:
        """Work for so long, once at least: how much was done, and the seconds of each call."""

    @abstractmethod
    def peak_memory(self) -> int | None:
        """Read how many bytes the process took at most, where that is known."""


class Here(Work):
    """Work of this process."""

    def __init__(self, call: Call, compute: Compute):
        self.call, self.compute = call, compute

    def turn(self, seconds: float) -> tuple[int, list[float]]:
        self.compute.synchronize()
        began = now = time.perf_counter()
        done = 0
        calls: list[float] = []
        while not calls or now - began < seconds:
            done += self.call()
            self.compute.synchronize()
            before, now = now, time.perf_counter()
            calls.append(now - before)
        return done, calls

    def peak_memory(self) -> int | None:
        return peak_memory(self.compute)


@dataclass
class Side:
    """One of those that do the same work, and how fast it was in each turn."""

    name: str
    prepare: Callable[[], Call | Work]  # sides are made one after the other, so that the memory of each is known
    dtype: torch.dtype
    group: str = ""  # only sides of one group are compared
    memory_gb: float | None = None
    calls: list[float] = field(default_factory=list)  # seconds
    rates: list[float] = field(default_factory=list)  # of each turn, in tokens or problems a second

    @property
    def label(self) -> str:
        return f"{self.name}, {self.group}" if self.group else self.name


def run(sides: list[Side], rounds: int, seconds: float, warm_up: int, compute: Compute) -> None:
    """Make each side, warm it up, and take its turns."""
    works = [(side, _prepared(side, warm_up, compute, first=side is sides[0])) for side in sides]
    for number in range(rounds):
        for side, work in works if number % 2 == 0 else reversed(works):
            gc.collect()
            done, calls = work.turn(seconds)
            side.calls += calls
            side.rates.append(done / sum(calls))


def _prepared(side: Side, warm_up: int, compute: Compute, first: bool) -> Work:
    on_gpu = compute.device.type == "cuda"
    gc.collect()
    before = 0
    if on_gpu:
        before = torch.cuda.memory_allocated(compute.device)
        torch.cuda.reset_peak_memory_stats(compute.device)
    made = side.prepare()
    work = made if isinstance(made, Work) else Here(made, compute)
    for _ in range(warm_up):
        work.turn(0.0)
    most, is_here = work.peak_memory(), isinstance(work, Here)
    if most is not None and (first or on_gpu or not is_here):  # a process has one peak: that of who was there first
        side.memory_gb = (most - (before if is_here else 0)) / 1e9
    return work


def found(sides: list[Side]) -> dict[str, dict[str, Any]]:
    """Sum up each side by its label; of the others also how many times as fast as they we are."""
    ours = {side.group: side for side in sides if side.name == OURS}
    results = {}
    for side in sides:
        result: dict[str, Any] = {"dtype": str(side.dtype).removeprefix("torch."), **spread(side.rates)}
        result["step_ms"] = spread([1000 * seconds for seconds in side.calls])
        if side.memory_gb is not None:
            result["memory_gb"] = side.memory_gb
        if side.name != OURS:
            pairs = zip(ours[side.group].rates, side.rates, strict=True)
            result["ratio"] = spread([our / other for our, other in pairs])
        results[side.label] = result
    return results


def spread(values: list[float]) -> dict[str, float]:
    """Find the median, and between what values four fifths lie (of a few, all)."""
    values = sorted(values)
    outside = len(values) // 10
    return {"median": statistics.median(values), "low": values[outside], "high": values[-1 - outside]}
