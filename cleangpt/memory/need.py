"""What a training needs of a device's memory, and what `auto` means where that decides.

A small model makes a step on one sequence, which takes milliseconds; where as much for each sequence is a small part of
what there is, nothing else has to be known. Of others a step is imagined, with a few layers and sequences and with
some more, since each further one takes as much.
"""

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch

from cleangpt.basics.errors import UserError
from cleangpt.basics.shown import in_line
from cleangpt.config.experiment import Config
from cleangpt.machine import distributed
from cleangpt.machine.device import Compute
from cleangpt.machine.launcher import World
from cleangpt.memory import least
from cleangpt.memory.imagined import Memory, Step, imagine, outline
from cleangpt.models.build import build, count_parameters
from cleangpt.models.contract import LanguageModel
from cleangpt.models.pieces import LOGITS
from cleangpt.sharding.parts import rows_of
from cleangpt.tasks.contract import Task
from cleangpt.terminal.patience import size as in_words

SMALL = 0.1  # of the memory: up to there a bound is as good as a number
FEW = 30_000_000  # parameters of a model that is made at once
QUICK = 1e10  # floating point operations that take a moment
EXCHANGED = 3  # copies of a matrix while its rows are on the way
FEWEST = 4  # layers, from which on each further one was seen to add as much
USABLE = 0.9  # of the memory: an allocator can't use all of it, kernels need some
OTHERS = 1 << 30  # bytes on a GPU that are nobody's tensors: kernels, libraries
FLOAT = 4

Samples = dict[str, tuple[tuple[int, ...], torch.dtype]]


@dataclass(frozen=True)
class Need:
    """Bytes on one device."""

    memory: Memory
    evaluation: int  # with whole weights beside those that are divided
    is_bound: bool  # at most so much
    there: int | None  # of memory; None where the system does not say

    @property
    def peak(self) -> int:
        return max(self.memory.step, self.memory.update, self.evaluation)

    @property
    def fits(self) -> bool:
        return self.there is None or self.peak <= self.there

    def sentence(self) -> str:
        """Say it before a training begins."""
        of = "of memory" if self.there is None else f"of the {in_words(self.there)} that it can use"
        if self.is_bound:
            return f"needs at most {in_words(self.peak)} {of}"
        found = self.memory
        parts = {"weights": found.weights, "gradients": found.gradients, "optimizer": found.optimizer}
        parts |= {"gathered": found.gathered, "activations": found.cast + found.activations, "logits": found.logits}
        said = ", ".join(f"{name} {in_words(count)}" for name, count in parts.items() if count)
        return f"needs about {in_words(self.peak)} {of} ({said}){'' if self.fits else ': it may not fit'}"


def samples(task: Task) -> Samples:
    """Say what a model reads of one sample: shape and dtype by name."""
    batch = task.batch("train", np.zeros(1, np.int64), np.zeros(1, np.int64))
    length = tuple(batch.inputs.shape[1:])
    found: Samples = {"tokens": (length, torch.int64), "targets": (length, torch.int64)}
    if batch.loss_weights is not None:
        found["loss_weights"] = (length, torch.float32)
    more = {"documents": batch.documents, "positions": batch.positions}
    return found | {name: (length, torch.int64) for name, values in more.items() if values is not None}


def of_device(device: torch.device, here: int) -> int | None:
    """Count the bytes of memory that a process may use, of so many on this machine."""
    there = least.of(device)
    if there is None:
        return None
    return int(USABLE * (there - OTHERS)) if device.type == "cuda" else int(USABLE * there) // here


def estimate(step: Step, there: int | None) -> Need:
    """Estimate what a training needs, in a fraction of a second if that is little."""
    config, model = step.config.model, build(step.config.model, "meta")
    length = step.samples["tokens"][0][0]
    quick = count_parameters(config) <= FEW and model.flops_per_token(length) * length <= QUICK
    if there is not None and quick:
        bound = outline(step)
        if max(bound.step, bound.update) <= SMALL * there:
            return Need(bound, 0, True, there)
    found = told(replace(step, processes=1) if step.is_divided else step)
    return Need(*_divided(step, found, model), False, there) if step.is_divided else Need(found, 0, False, there)


def told(step: Step, every_layer: bool = False) -> Memory:
    """Tell a step of many layers and sequences by that of a few: each further one takes as much.

    Blocks of which some are frozen are not alike, and all of them are looked at, as where that is asked for.
    """
    layers = step.config.model.n_layer

    def of_rows(rows: int) -> Memory:
        fewer = replace(step, rows=rows)
        if every_layer or layers <= FEWEST + 1 or step.config.train.freeze:
            return imagine(fewer)
        return imagine(fewer, FEWEST).stretched(imagine(fewer, FEWEST + 1), layers - FEWEST)

    # Logits are made in pieces, once there are many: from there on their number does not change the peak.
    logits = step.samples["tokens"][0][0] * (step.config.model.vocab_size or 1)
    rows = max(2, -(-2 * LOGITS // logits))
    if step.rows <= 2 * rows:
        return of_rows(step.rows)
    return of_rows(rows).stretched(of_rows(2 * rows), (step.rows - rows) / rows)


def _divided(step: Step, whole: Memory, model: LanguageModel) -> tuple[Memory, int]:
    """Say what one process holds of a training, of which all is known, when it is divided; and in an evaluation."""
    group = step.config.train.shard_group or step.processes
    own = total = matrices = count = 0
    for name, parameter in model.named_parameters():
        size = parameter.numel()
        total += size
        own += rows_of(parameter.shape[0], 0, group)[1] * size // parameter.shape[0] if parameter.dim() > 1 else size
        if model.treatment(name, parameter).matrices:
            matrices, count = matrices + size, count + 1
    share, width = own / total, step.dtype.itemsize
    blocks = [sum(p.numel() for p in block.parameters()) for block in model.compiled()]
    root = total - sum(blocks)
    largest = max(blocks, default=0)
    gathered = root * FLOAT + 2 * largest * width
    leaving = largest * FLOAT  # gradients of a block, before each process has its rows of the sum
    shards = [round(value * share) for value in (whole.weights, whole.gradients, whole.optimizer)]
    kept = sum(shards)
    found = replace(whole, weights=shards[0], gradients=shards[1], optimizer=shards[2], gathered=gathered + leaving)
    found = replace(found, cast=0, step=kept + gathered + leaving + whole.activations + whole.logits)
    # What an update takes besides: matrices that are brought whole to one process, and their rows on the way.
    more = whole.update - whole.weights - whole.gradients - whole.optimizer
    if more > 0.1 * whole.weights and count:
        kinds = max(1, count // (step.config.model.n_layer or 1))
        owned = min(1.0, -(-count // kinds // group) * kinds / count)
        more = round(more * max(share, owned) + EXCHANGED * FLOAT * matrices * max(share, owned))
    return replace(found, update=kept + max(0, more)), kept + total * FLOAT


def settle(config: Config, task: Task, world: World, compute: Compute) -> tuple[Config, list[str]]:
    """Decide what `auto` means for the micro-batch and for dividing; and what there is to say before a training."""
    known = [count for count in distributed.gather(of_device(compute.device, world.local_size)) if count is not None]
    try:
        choice = Choice(config, samples(task), world.size, compute, min(known, default=None))
        return choice.config(), choice.remarks()
    except UserError:
        raise
    except Exception as error:  # of a model that can't be asked without values
        asked = [key for key in ("shard", "micro_batch_size") if getattr(config.train, key) == "auto"]
        if not asked:
            return config, []
        raise UserError(
            f"`train.{asked[0]}` is auto, and what this model needs can't be told ({in_line(str(error), 200)}): say "
            "what it shall be"
        ) from error


class Choice:
    """What fits of a training on so many processes with so much memory each."""

    def __init__(self, config: Config, read: Samples, processes: int, compute: Compute, there: int | None):
        self.asked, self.read, self.processes, self.compute, self.there = config, read, processes, compute, there
        self.share = math.ceil(config.train.batch_size / processes)  # of a micro-step, that one process has at most
        self.need = cache(self._need)
        smallest = 1 if config.train.micro_batch_size == "auto" else self._rows(config.train.at_once)
        self.shard = config.train.shard
        if self.shard == "auto":
            self.shard = "none" if processes == 1 or self.need("none", smallest).fits else "full"
        self.at_once = self._largest() if config.train.micro_batch_size == "auto" else config.train.at_once

    def _need(self, shard: str, rows: int) -> Need:
        train = self.asked.train.model_copy(update={"shard": shard})
        config = self.asked.model_copy(update={"train": train})
        on_gpu = self.compute.device.type == "cuda"
        return estimate(Step(config, self.read, rows, self.processes, self.compute.dtype, on_gpu), self.there)

    def _rows(self, at_once: int | None) -> int:
        """Count the sequences that a device takes at once: its share in equal parts."""
        return math.ceil(self.share / math.ceil(self.share / (at_once or self.share)))

    def _largest(self) -> int | None:
        """Find the largest micro-batch that fits, or the smallest if none does; None where no cap is needed."""

        def fits(parts: int) -> bool:
            return self.need(self.shard, math.ceil(self.share / parts)).fits

        most = 1
        while most < self.share and not fits(most):
            most = min(2 * most, self.share)
        fewest = most // 2 + 1
        while fewest < most:
            middle = (fewest + most) // 2
            fewest, most = (fewest, middle) if fits(middle) else (middle + 1, most)
        return None if most == 1 else math.ceil(self.share / most)

    def needs(self) -> Need:
        return self.need(self.shard, self._rows(self.at_once))

    def config(self) -> Config:
        """Return the configuration with a value where it said auto."""
        decided = {"shard": self.shard, "micro_batch_size": self.at_once}
        return self.asked.model_copy(update={"train": self.asked.train.model_copy(update=decided)})

    def remarks(self) -> list[str]:
        """Say what all needs, and what was chosen."""
        found = [self.needs().sentence()]
        train = self.asked.train
        if train.micro_batch_size == "auto":
            found.append(f"train.micro_batch_size=auto: {self.at_once or 'null, all of it fits'}")
        if train.shard == "auto" and self.processes > 1:
            smallest = 1 if train.micro_batch_size == "auto" else self._rows(train.at_once)
            whole = in_words(self.need("none", smallest).peak)
            fits = "fits" if self.shard == "none" else "does not fit"
            found.append(f"train.shard=auto: {self.shard}, {whole} for a whole model {fits}")
        return found
