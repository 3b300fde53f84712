"""Scoring as eval/score.py scores: the task's own exact score of random weights, on the test split or validation."""

import time
from typing import Any

import torch

from cleangpt.benchmark.turns import OURS, Side, Work
from cleangpt.config import BenchConfig
from cleangpt.device import Compute
from cleangpt.distributed import world
from cleangpt.evaluate import Judge
from cleangpt.models.layers import Decoder

DECODED = "by decoding"
FEW, MANY = 256, 2048  # problems that tell what a whole set costs
LONGEST = 10.0  # seconds that a call may take


class Scoring:
    def __init__(self, config: BenchConfig, task: Any, model: Decoder, compute: Compute):
        self.config, self.task = config, task
        self.judge = Judge(model.to(compute.device), compute.device, world())
        self.split = "test" if task.size("test") else "val"
        self.whole = task.size(self.split)
        self.limit: int | None = None  # of a call, where the whole set takes too long
        self.seconds_of_a_call: list[float] = []

    def sides(self) -> list[Side]:
        found = [Side(OURS, self._whole_or_many, torch.float32)]
        if self.config.against == "plain" and self.task.has_answers:  # text has no one right answer to decode
            found.append(Side(DECODED, lambda: lambda: self.score(MANY, "generate"), torch.float32))
        return found

    def score(self, limit: int | None, method: str) -> int:
        """How many problems, or windows of text, were scored."""
        found = self.task.score(self.judge, self.split, limit, method)
        return found["problems"] if self.task.has_answers else found["windows"]

    def _whole_or_many(self) -> Work:
        self.score(FEW, "auto")
        began = time.perf_counter()
        done = self.score(MANY, "auto")
        took = time.perf_counter() - began
        if self.whole > done and took * self.whole / done > LONGEST:
            self.limit = MANY

        def call() -> int:
            began = time.perf_counter()
            done = self.score(self.limit, "auto")
            self.seconds_of_a_call.append(time.perf_counter() - began)
            return done

        return call

    def complete(self, rate: float) -> dict[str, Any]:
        """How long all of the split takes: as it was measured, or at this rate."""
        measured = self.limit is None
        seconds = min(self.seconds_of_a_call) if measured else self.whole / rate
        return {"split": self.split, "of": self.whole, "seconds": seconds, "measured": measured}
