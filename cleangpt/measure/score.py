"""Scoring as eval/score.py scores: the task's own exact score of random weights, on the test split or validation."""

import time
from typing import Any

import torch

from cleangpt.machine.device import Compute
from cleangpt.machine.launcher import world
from cleangpt.measure.turns import OURS, Call, Side
from cleangpt.models.contract import LanguageModel
from cleangpt.score import of_task
from cleangpt.score.evaluate import Judge
from cleangpt.tasks.contract import Task

FEW = 32  # problems of the first call; others have four times as many, until one takes ENOUGH seconds
ENOUGH, LONGEST = 0.5, 10.0  # seconds of a call: to tell what a problem costs, and that it may take


class Scoring:
    """The scoring of a split: whole where that is quick, otherwise of a part by which the whole is estimated."""

    def __init__(self, task: Task, model: LanguageModel, compute: Compute):
        self.task = task
        self.judge = Judge(model.to(compute.device), compute.device, world())
        self.split = "test" if task.size("test") else "val"
        self.whole = task.size(self.split)
        self.part = min(FEW, self.whole)  # problems of a call where the whole split takes too long
        self.estimate = 0.0  # seconds of the whole split
        self.seconds: list[float] = []  # of each call, once it is known what a call is

    def side(self) -> Side:
        return Side(OURS, self._whole_or_part, torch.float32)

    def score(self, limit: int | None, method: str) -> int:
        """Score so many problems, or windows of text, and count them."""
        found = of_task.score(self.task, self.judge, self.split, limit, method)
        return found["problems"] if self.task.has_answers else found["windows"]

    def _timed(self, limit: int | None) -> tuple[int, float]:
        began = time.perf_counter()
        return self.score(limit, "auto"), time.perf_counter() - began

    def _whole_or_part(self) -> Call:
        """Decide by growing calls, whose differences tell what a problem costs beyond what every call costs."""
        self._timed(self.part)
        done, seconds = self._timed(self.part)
        each = seconds / done
        while self.part < self.whole and seconds < ENOUGH:
            self.part = min(4 * self.part, self.whole)
            before, seconds_before = done, seconds
            done, seconds = self._timed(self.part)
            each = max(0.0, seconds - seconds_before) / max(1, done - before)
        self.estimate = seconds + (self.whole - done) * each
        limit = None if self.estimate < LONGEST else self.part

        def call() -> int:
            done, seconds = self._timed(limit)
            self.seconds.append(seconds)
            return done

        return call

    def complete(self) -> dict[str, Any]:
        """Say how long all of the split takes: as it was measured, or by what a problem costs."""
        measured = self.estimate < LONGEST
        seconds = min(self.seconds) if measured else self.estimate
        return {"split": self.split, "of": self.whole, "seconds": seconds, "measured": measured}
