"""Make sample k of a run, and the samples that a process computes.

An epoch is a seeded permutation that is computed index by index, so sample k is a pure function of (seed, k). Of
samples that change as training goes on there is one epoch without end, in their order.
Micro-step m takes the samples from m × batch_size on, each process its share of them: any number of processes
sees the same samples in the same order, and the whole state of the data is m.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from cleangpt.basics.seeds import Permutation, derive
from cleangpt.machine.launcher import World
from cleangpt.tasks.contract import RUN, Batch, Task

CHUNK = 8192  # samples that are made at a time: many small micro-steps cost no more than one
CHUNK_TOKENS = 1 << 20  # of long samples fewer


@dataclass(frozen=True)
class Rows:
    """Samples on the device."""

    inputs: Tensor  # (n, T)
    targets: Tensor  # (n, T)
    loss_weights: Tensor | None  # (n, T)
    documents: Tensor | None  # (n, T)
    positions: Tensor | None  # (n, T)
    weight: float  # the sum of the weights
    tokens: int  # inputs that are not padding

    def model_inputs(self) -> dict[str, Tensor | None]:
        """Return the arguments of the model's forward pass."""
        named = {"tokens": self.inputs, "targets": self.targets, "loss_weights": self.loss_weights}
        more = {"documents": self.documents, "positions": self.positions}
        return named | {name: values for name, values in more.items() if values is not None}


class Stream:
    def __init__(
        self, task: Task, seed: int, batch_size: int, micro_batch_size: int | None, world: World, device: torch.device
    ):
        self.task, self.seed, self.batch_size, self.device = task, seed, batch_size, device
        self.size = task.size("train")
        self.first = world.rank * batch_size // world.size  # this process's share of a micro-step
        self.share = (world.rank + 1) * batch_size // world.size - self.first
        self.parts = -(-self.share // (micro_batch_size or self.share))
        largest = -(-batch_size // world.size)
        self.most_parts = -(-largest // (micro_batch_size or largest))  # of any process
        samples = min(CHUNK, CHUNK_TOKENS // task.sequence_length)
        self.chunk_steps = max(1, samples // self.share)  # micro-steps in a chunk
        self._order = lru_cache(maxsize=4)(self._epoch_order)
        self._chunk: tuple[int, list[list[Rows]]] = (-1, [])
        task.place(device)
        # What waits for a disk or a GPU is made by a thread while the chunk before is trained on.
        ahead = device.type == "cuda" or task.reads_disk
        self._thread = ThreadPoolExecutor(1, "samples") if ahead else None
        self._next: tuple[int, Future | None] = (-1, None)

    def indices(self, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map samples k of the run to samples of the training set, and to the keys of their epochs."""
        if self.task.in_order:
            first = derive(self.seed, "order") % (self.size // RUN) * RUN  # each seed has samples of its own
            return first + k, np.full(k.shape, derive(self.seed, "epoch", 0), np.int64)
        epoch, place = k // self.size, k % self.size
        index, keys = np.empty(k.shape, np.int64), np.empty(k.shape, np.int64)
        for e in np.unique(epoch):
            here = epoch == e
            index[here] = self._order(int(e))(place[here])
            keys[here] = derive(self.seed, "epoch", int(e))
        return index, keys

    def epochs(self, micro_steps: int) -> float:
        """Tell how often the training set was seen after so many micro-steps."""
        return micro_steps * self.batch_size / self.size

    def micro_step(self, m: int) -> list[Rows]:
        """Return this process's samples of micro-step m, in as many parts as the device needs."""
        number, place = divmod(m, self.chunk_steps)
        if self._chunk[0] != number:
            waiting, made = self._next
            self._chunk = (number, made.result() if made and waiting == number else self._make(number))
            if self._thread:
                self._next = (number + 1, self._thread.submit(self._make, number + 1))
        return self._chunk[1][place]

    def _epoch_order(self, epoch: int) -> Permutation:
        return Permutation(self.size, derive(self.seed, "order", epoch))

    def _make(self, number: int) -> list[list[Rows]]:
        starts = (np.arange(self.chunk_steps) + number * self.chunk_steps) * self.batch_size + self.first
        k = (starts[:, None] + np.arange(self.share)).reshape(-1)
        return self._upload(self.task.batch("train", *self.indices(k)))

    def _upload(self, batch: Batch) -> list[list[Rows]]:
        """Copy a whole chunk to the device at once; its micro-steps and their parts are views of it."""
        inputs, targets = self._on_device(batch.inputs), self._on_device(batch.targets)
        loss_weights, documents = (
            None if values is None else self._on_device(values) for values in (batch.loss_weights, batch.documents)
        )
        positions = None if batch.positions is None else self._on_device(batch.positions[:, :-1])
        everything = np.full(len(inputs), inputs.shape[1])
        weight = everything if batch.loss_weights is None else batch.loss_weights.sum(axis=1)
        tokens = everything if batch.real is None else batch.real.sum(axis=1)
        cuts = [p * self.share // self.parts for p in range(self.parts + 1)]

        def rows(s: slice) -> Rows:
            counted = None if loss_weights is None else loss_weights[s]
            numbers = None if documents is None else documents[s]
            places = None if positions is None else positions[s]
            return Rows(inputs[s], targets[s], counted, numbers, places, float(weight[s].sum()), int(tokens[s].sum()))

        starts = range(0, len(inputs), self.share)
        return [[rows(slice(start + a, start + b)) for a, b in pairwise(cuts)] for start in starts]

    def _on_device(self, values: np.ndarray | Tensor) -> Tensor:
        if isinstance(values, np.ndarray):
            values = torch.from_numpy(np.ascontiguousarray(values))
            if self.device.type == "cuda":
                return values.pin_memory().to(self.device, non_blocking=True)  # torch keeps the buffer until it is read
        return values.to(self.device).contiguous()
