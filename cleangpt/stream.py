"""Sample k of a run, and which samples a process computes.

An epoch is a seeded permutation that is computed index by index, so sample k is a pure function of (seed, k).
Micro-step m takes the samples from m × batch_size on, each process its share of them: any number of processes
sees the same samples in the same order, and the whole state of the data is m.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cleangpt.distributed import World
from cleangpt.seeds import Permutation, derive
from cleangpt.tasks import Batch

CHUNK = 8192  # samples that are made at a time: many small micro-steps cost no more than one


@dataclass(frozen=True)
class Rows:
    """Samples on the device."""

    inputs: Tensor  # (n, T)
    targets: Tensor  # (n, T)
    loss_weights: Tensor  # (n, T)
    weight: float  # the sum of the weights
    tokens: int  # inputs that are not padding


class Stream:
    def __init__(
        self,
        task: Any,
        seed: int,
        batch_size: int,
        micro_batch_size: int | None,
        world: World,
        device: torch.device,
    ):
        self.task, self.seed, self.batch_size, self.device = task, seed, batch_size, device
        self.size = task.size("train")
        self.first = world.rank * batch_size // world.size  # this process's share of a micro-step
        self.share = (world.rank + 1) * batch_size // world.size - self.first
        self.parts = -(-self.share // (micro_batch_size or self.share))
        self.chunk_steps = max(1, CHUNK // self.share)  # micro-steps in a chunk
        self._order = lru_cache(maxsize=4)(self._epoch_order)
        self._chunk: tuple[int, list[list[Rows]]] = (-1, [])

    def indices(self, k: np.ndarray) -> np.ndarray:
        """Samples k of the run → which samples of the training set they are."""
        epoch, place = k // self.size, k % self.size
        index = np.empty(k.shape, np.int64)
        for e in np.unique(epoch):
            here = epoch == e
            index[here] = self._order(int(e))(place[here])
        return index

    def micro_step(self, m: int) -> list[Rows]:
        """This process's samples of micro-step m, in as many parts as the device needs."""
        number, place = divmod(m, self.chunk_steps)
        if self._chunk[0] != number:
            self._chunk = (number, self._make(number))
        return self._chunk[1][place]

    def _epoch_order(self, epoch: int) -> Permutation:
        return Permutation(self.size, derive(self.seed, "order", epoch))

    def _make(self, number: int) -> list[list[Rows]]:
        starts = (np.arange(self.chunk_steps) + number * self.chunk_steps) * self.batch_size + self.first
        k = (starts[:, None] + np.arange(self.share)).reshape(-1)
        return self._upload(self.task.batch("train", self.indices(k)))

    def _upload(self, batch: Batch) -> list[list[Rows]]:
        """One copy for the whole chunk; its micro-steps and their parts are views of it."""
        inputs, targets, loss_weights = (
            torch.from_numpy(np.ascontiguousarray(x)).to(self.device)
            for x in (batch.inputs, batch.targets, batch.loss_weights)
        )
        weight, tokens = batch.loss_weights.sum(axis=1), batch.real.sum(axis=1)
        cuts = [p * self.share // self.parts for p in range(self.parts + 1)]
        micro_steps = []
        for start in range(0, len(inputs), self.share):
            slices = [slice(start + a, start + b) for a, b in pairwise(cuts)]
            micro_steps.append(
                [
                    Rows(inputs[s], targets[s], loss_weights[s], float(weight[s].sum()), int(tokens[s].sum()))
                    for s in slices
                ]
            )
        return micro_steps
