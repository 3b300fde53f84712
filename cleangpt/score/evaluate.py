"""Exact scores: every sample of a fixed set, in float32, divided over the processes.

For an answer that is unique and terminated, greedy decoding is right exactly when, with the right answer forced
upon the model so far, the likeliest token is right at every place of the answer. One forward pass scores a
problem, and `Judge.decode` is there to prove it.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cleangpt.basics.seeds import Permutation
from cleangpt.machine import distributed
from cleangpt.machine.launcher import World
from cleangpt.machine.signals import Stop, Stopped
from cleangpt.models.contract import LanguageModel
from cleangpt.sample import generate
from cleangpt.tasks.contract import Batch, Task
from cleangpt.terminal import patience
from cleangpt.terminal.patience import Nobody, Voice

TOKENS_AT_ONCE = 1 << 14
CACHED = 1 << 19  # numbers of an activation that a core keeps at hand; four times as many took a tenth longer
LOGITS_AT_ONCE = 1 << 26
HAIR = 1e-4  # of a logit: ten times what the order of float32 sums was seen to change
WORTH_SHARING = 0.9  # of the tokens may be left to read, where some are read once for many rows


class Shown(NamedTuple):
    """A sample with what the model made of it: as a line for a person, and by name."""

    line: str
    parts: dict[str, Any]


class Judge:
    """A model as it is scored: without dropout, in float32, this process's share of the work."""

    def __init__(self, model: LanguageModel, device: torch.device, world: World, stop: Stop | None = None):
        self.model, self.device, self.world = model, device, world
        self.stop = stop or Stop()  # read between the parts of what takes long

    def share(self, count: int) -> range:
        """Return this process's part of `count` samples."""
        return range(self.world.rank * count // self.world.size, (self.world.rank + 1) * count // self.world.size)

    def rows_at_once(self, length: int) -> int:
        """Return how many rows of `length` tokens to read at once."""
        config, tokens = self.model.config, TOKENS_AT_ONCE
        if self.device.type == "cpu":
            tokens = min(tokens, max(TOKENS_AT_ONCE // 8, CACHED // config.n_embd))
        return max(1, min(tokens // length, LOGITS_AT_ONCE // (length * config.vocab_size)))

    @torch.no_grad()
    def teacher_forced(self, batch: Batch) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield in parts: likeliest tokens, their targets, the losses; each (n, T - `first_that_counts`)."""
        since = first_that_counts(batch)
        inputs, targets = on_device(batch.inputs, self.device), on_device(batch.targets, self.device)
        for rows in self.parts(*inputs.shape):
            within = None if batch.documents is None else on_device(batch.documents[rows], self.device)
            # never torch.compile's
            logits = self.model.forward(inputs[rows], documents=within, since=since, **self.places(batch, rows)).float()
            wanted = targets[rows, since:]
            losses = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
            yield logits.argmax(dim=-1), wanted, losses.view_as(wanted)

    @torch.inference_mode()
    def predictions(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Return the likeliest token (n, T) at each place, given the right ones before it; -1 before any answer.

        With it comes by how much (n, T) the logit of the right token is above those of all others.

        A beginning that rows which follow each other share is read once: a third of all tokens of sorted sums. This
        changes the rounding, so rows in which a choice was close are read again one by one.
        """
        inputs = on_device(batch.inputs, self.device)
        targets = on_device(batch.targets, self.device)
        found = np.full(batch.targets.shape, -1, np.int64)
        margins = np.full(batch.targets.shape, np.inf, np.float32)
        since = first_that_counts(batch)
        shared, group = shared_beginning(batch.inputs, since if batch.positions is None else 0)
        for rows in self.parts(*batch.inputs.shape):
            cache, here = None, inputs[rows]
            if shared:
                first, belongs = np.unique(group[rows], return_index=True, return_inverse=True)[1:]
                cache = self.model.new_cache(len(first), inputs.shape[1])
                self.model.hidden(here[torch.from_numpy(first).to(self.device), :shared], cache)
                cache.keep(torch.from_numpy(belongs).to(self.device))
            told = self.places(batch, rows)
            logits = self.model.forward(here[:, shared:], cache=cache, since=since - shared, **told)
            if shared and (again := _close(logits)).any():
                logits[again] = self.model.forward(here[again], since=since)
            found[rows, since:] = logits.argmax(dim=-1).cpu().numpy()
            margins[rows, since:] = _margins(logits, targets[rows, since:]).cpu().numpy()
        return found, margins

    def parts(self, count: int, length: int) -> Iterator[slice]:
        """Yield the rows to read at once, to a model in evaluation mode, until it is time to stop."""
        was_training = self.model.training
        self.model.eval()
        at_once = self.rows_at_once(length)
        for start in range(0, count, at_once):
            if self.stop.number:
                break
            yield slice(start, start + at_once)
        self.model.train(was_training)

    def places(self, batch: Batch, rows: slice) -> dict[str, Tensor]:
        """Name the positions of rows of a batch, where it says them."""
        return {} if batch.positions is None else {"positions": on_device(batch.positions[rows, :-1], self.device)}

    def decode(self, prompts: np.ndarray, new_tokens: int, positions: np.ndarray | None = None) -> np.ndarray:
        """Go on with prompts (n, P) of one length by real greedy decoding: (n, new_tokens)."""
        found = np.full((len(prompts), new_tokens), -1, np.int64)
        for rows in self.parts(len(prompts), prompts.shape[1] + new_tokens):
            tokens = torch.from_numpy(np.ascontiguousarray(prompts[rows])).to(self.device)
            places = None if positions is None else positions[rows]
            found[rows] = generate.greedy(self.model, tokens, new_tokens, places).cpu().numpy()
        return found

    def gather(self, values: np.ndarray) -> np.ndarray:
        """Return everyone's rows in order, on every rank; raise Stopped on all when one was asked to stop."""
        everyone = distributed.gather((self.stop.number, values))
        if number := max(number for number, _ in everyone):
            raise Stopped(number)
        return np.concatenate([rows for _, rows in everyone])


@dataclass(frozen=True)
class Watch:
    """A person who looks on while a score is made."""

    show: Callable[[Any], None] | None = None  # is shown a table of the first problems, if it is there
    voice: Voice | None = None  # is told how far the score is; None: standard error


ALONE = Watch(voice=Nobody())


def validate(judge: Judge, task: Task, watch: Watch = ALONE, of_train: int | None = None) -> dict[str, float]:
    """Compute loss and accuracy on the fixed validation set, and on so many fixed samples that are trained on."""
    unit = "problems" if task.has_answers else "windows"
    with patience.doing("Evaluating", task.val_size, unit, watch.voice) as progress:
        loss, accuracy = _means(judge, task, "val", task.val_size, advance=progress.advance)
    scores = {"val/loss": loss}
    if accuracy is not None:
        scores["val/accuracy"] = accuracy
    scores |= {f"val/{name}": measure.value for name, measure in task.measures(loss).items()}
    if of_train is not None:
        order = Permutation(task.size("train"), task.key("evaluated"))
        scores["train/evaluated_loss"], accuracy = _means(judge, task, "train", min(of_train, order.size), order)
        if accuracy is not None:
            scores["train/accuracy"] = accuracy
    return scores


def _means(
    judge: Judge,
    task: Task,
    split: str,
    count: int,
    order: Callable[[np.ndarray], np.ndarray] = lambda place: place,
    advance: Callable[[int], None] = lambda done: None,
) -> tuple[float, float | None]:
    """Compute the mean loss of samples and the share of right ones: sums over all processes, divided once."""
    share = judge.share(count)
    step = 16 * judge.rows_at_once(task.sequence_length)
    sums = torch.zeros(5, dtype=torch.float64, device=judge.device if judge.device.type != "mps" else "cpu")
    for start in range(share.start, share.stop, step):
        if judge.stop.number:
            break
        batch = task.batch(split, order(np.arange(start, min(start + step, share.stop))))
        since = first_that_counts(batch)
        weights, answer = (
            None if x is None else on_device(x[:, since:], judge.device) for x in (batch.loss_weights, batch.answer)
        )
        row = 0
        for likeliest, targets, losses in judge.teacher_forced(batch):
            rows = slice(row, row := row + len(targets))
            weight = torch.ones_like(losses) if weights is None else weights[rows]
            found = [(losses * weight).sum(), weight.sum()]
            if answer is not None:
                found.append(((likeliest == targets) | ~answer[rows]).all(dim=1).sum())
                found.append(torch.tensor(len(targets)))
            sums[: len(found)] += torch.stack([value.to(sums) for value in found])
            advance(len(targets) * judge.world.size)
    sums[4] = judge.stop.number
    loss, weight, right, seen, stopped = distributed.sum_in_place(sums).tolist()
    if stopped:
        raise Stopped(judge.stop.number)
    return loss / weight, right / seen if task.has_answers else None


def first_that_counts(batch: Batch) -> int:
    """Find the first place at which any row has a loss or an answer: nothing is asked of those before."""
    if batch.loss_weights is None:
        return 0
    counts = batch.loss_weights.any(axis=0)
    return int((counts if batch.answer is None else counts | batch.answer.any(axis=0)).argmax())


def shared_beginning(inputs: np.ndarray, longest: int) -> tuple[int, np.ndarray]:
    """Choose how many tokens are read once for all rows that follow each other and begin with them.

    That is as many, up to `longest`, as leave the fewest to read; the number (n,) of each row's group comes with it.
    """
    count, length = inputs.shape
    differs = inputs[1:] != inputs[:-1]
    first = np.where(differs.any(axis=1), differs.argmax(axis=1), length)  # at which a row is not like the one before
    groups = 1 + np.searchsorted(np.sort(first), np.arange(longest + 1))  # by the length of what they share
    reads = [groups[shared] * shared + count * (length - shared) for shared in range(longest + 1)]
    shared = int(np.argmin(reads))
    if reads[shared] > WORTH_SHARING * reads[0]:
        shared = 0
    return shared, np.concatenate([[0], np.cumsum(first < shared)])


def _close(logits: Tensor) -> Tensor:
    """Tell (n,) whether at any place of logits (n, T, V) two tokens are as likely, but for rounding."""
    best = logits.topk(2, dim=-1).values
    return (best[..., 0] - best[..., 1] < HAIR * best.abs().amax(dim=-1).clamp(min=1)).any(dim=1)


def _margins(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute by how much (n, T) the logit of the right token is above those of all others."""
    right = targets[..., None]
    return logits.gather(-1, right)[..., 0] - logits.scatter(-1, right, -math.inf).amax(dim=-1)


def on_device(values: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """Bring an array or a tensor to the model."""
    return torch.as_tensor(np.ascontiguousarray(values) if isinstance(values, np.ndarray) else values, device=device)


def wilson(right: float, count: float, z: float = 1.959964) -> tuple[float, float]:
    """Return the 95% interval of a proportion, which stays sensible at 0% and 100% (Wilson, 1927)."""
    if count <= 0:
        return 0.0, 1.0
    p = right / count
    middle = p + z * z / (2 * count)
    spread = z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)
