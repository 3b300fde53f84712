"""Exact scores: every sample of a fixed set, in float32, divided over the processes.

For an answer that is unique and terminated, greedy decoding is right exactly when, with the right answer forced
upon the model so far, the likeliest token is right at every place of the answer. One forward pass scores a
problem, and `Judge.decode` is there to prove it.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cleangpt import distributed, generate
from cleangpt.distributed import World
from cleangpt.models.layers import Decoder
from cleangpt.signals import Stop, Stopped
from cleangpt.tasks import Batch

TOKENS_AT_ONCE = 1 << 14
LOGITS_AT_ONCE = 1 << 26


class Judge:
    """A model as it is scored: without dropout, in float32, this process's share of the work."""

    def __init__(self, model: Decoder, device: torch.device, world: World, stop: Stop | None = None):
        self.model, self.device, self.world = model, device, world
        self.stop = stop or Stop()  # read between the parts of what takes long

    def share(self, count: int) -> range:
        """Which of `count` samples this process looks at."""
        return range(self.world.rank * count // self.world.size, (self.world.rank + 1) * count // self.world.size)

    def rows_at_once(self, length: int) -> int:
        vocabulary = self.model.config.vocab_size
        return max(1, min(TOKENS_AT_ONCE // length, LOGITS_AT_ONCE // (length * vocabulary)))

    @torch.no_grad()
    def forced(self, batch: Batch) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """In parts: likeliest tokens (n, T), their targets (n, T) and the losses (n, T), on the device."""
        was_training = self.model.training
        self.model.eval()
        at_once = self.rows_at_once(batch.inputs.shape[1])
        inputs, targets, documents = (on_device(x, self.device) for x in (batch.inputs, batch.targets, batch.documents))
        for start in range(0, len(batch.inputs), at_once):
            if self.stop.number:
                break
            rows = slice(start, start + at_once)
            within = {} if documents is None else {"documents": documents[rows]}
            logits = self.model.forward(inputs[rows], **within).float()  # (n, T, V), never torch.compile's
            losses = F.cross_entropy(logits.flatten(0, 1), targets[rows].flatten(), reduction="none")
            yield logits.argmax(dim=-1), targets[rows], losses.view_as(targets[rows])
        self.model.train(was_training)

    def predictions(self, batch: Batch) -> np.ndarray:
        """(n, T) the likeliest token at each place, given the right ones before it."""
        found = np.full(batch.targets.shape, -1, np.int64)
        row = 0
        for likeliest, _, _ in self.forced(batch):
            found[row : row + len(likeliest)] = likeliest.cpu().numpy()
            row += len(likeliest)
        return found

    def decode(self, prompts: np.ndarray, new_tokens: int) -> np.ndarray:
        """(n, P) prompts of one length → (n, new_tokens), by real greedy decoding."""
        was_training = self.model.training
        self.model.eval()
        at_once = self.rows_at_once(prompts.shape[1] + new_tokens)
        found = np.full((len(prompts), new_tokens), -1, np.int64)
        for start in range(0, len(prompts), at_once):
            if self.stop.number:
                break
            rows = slice(start, start + at_once)
            tokens = torch.from_numpy(np.ascontiguousarray(prompts[rows])).to(self.device)
            found[rows] = generate.greedy(self.model, tokens, new_tokens).cpu().numpy()
        self.model.train(was_training)
        return found

    def gather(self, values: np.ndarray) -> np.ndarray:
        """Everyone's rows in order, on every rank; raises Stopped on all of them when one was asked to stop."""
        everyone = distributed.gather((self.stop.number, values))
        if number := max(number for number, _ in everyone):
            raise Stopped(number)
        return np.concatenate([rows for _, rows in everyone])


def validate(judge: Judge, task: Any) -> dict[str, float]:
    """Loss and accuracy on the fixed validation set: sums over all processes, divided once."""
    share = judge.share(task.val_size)
    step = 16 * judge.rows_at_once(task.sequence_length)
    sums = torch.zeros(5, dtype=torch.float64, device=judge.device if judge.device.type != "mps" else "cpu")
    for start in range(share.start, share.stop, step):
        batch = task.batch("val", np.arange(start, min(start + step, share.stop)))
        weights, answer = on_device(batch.loss_weights, judge.device), on_device(batch.answer, judge.device)
        row = 0
        for likeliest, targets, losses in judge.forced(batch):
            rows = slice(row, row := row + len(targets))
            weight = torch.ones_like(losses) if weights is None else weights[rows]
            found = [(losses * weight).sum(), weight.sum()]
            if answer is not None:
                found.append(((likeliest == targets) | ~answer[rows]).all(dim=1).sum())
                found.append(torch.tensor(len(targets)))
            sums[: len(found)] += torch.stack([value.to(sums) for value in found])
    sums[4] = judge.stop.number
    loss, weight, right, count, stopped = distributed.sum_in_place(sums).tolist()
    if stopped:
        raise Stopped(judge.stop.number)
    scores = {"val/loss": loss / weight}
    if task.has_answers:
        scores["val/accuracy"] = right / count
    return scores | {f"val/{name}": value for name, value in task.measures(loss / weight).items()}


def on_device(values: Any, device: torch.device) -> Tensor | None:
    """An array or a tensor, where the model is."""
    if isinstance(values, np.ndarray):
        values = torch.from_numpy(np.ascontiguousarray(values))
    return None if values is None else values.to(device)


def wilson(right: float, count: float, z: float = 1.959964) -> tuple[float, float]:
    """The 95% interval of a proportion, which stays sensible at 0% and 100% (Wilson, 1927)."""
    if count <= 0:
        return 0.0, 1.0
    p = right / count
    middle = p + z * z / (2 * count)
    spread = z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)
