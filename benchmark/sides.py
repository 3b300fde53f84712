"""Sides of others, by what is measured: somebody else's loop or model, decoding without a cache, real decoding."""

from dataclasses import replace
from typing import Any

import torch

from benchmark import peers, transformers_model
from benchmark.other_process import OtherProcess
from benchmark.plain_loop import Loop
from cleangpt import tasks
from cleangpt.basics.errors import UserError
from cleangpt.config.programs import BenchConfig
from cleangpt.machine.device import Compute
from cleangpt.measure.decode import Way
from cleangpt.measure.score import Scoring
from cleangpt.measure.train import first_weights
from cleangpt.measure.turns import Call, Side
from cleangpt.models.contract import LanguageModel

ANEW, THEIRS, DECODED = "without a cache", "transformers", "by decoding"


def train(config: BenchConfig, compute: Compute) -> list[Side]:
    """Train with `against=`, in a process of its own."""
    if getattr(config.dataset, "confine", False):
        raise UserError("`dataset.confine` is ours alone: set it to false, or use against=null")
    # A plain loop computes in float32 on a CPU, where nobody has it otherwise; everything else in what we compute in.
    against = config.against or "plain"
    on_cpu = compute.device.type == "cpu"
    theirs = replace(compute, dtype=torch.float32) if against == "plain" and on_cpu else compute
    arguments = (against, config, theirs)
    return [Side(peers.NAMES[against], lambda: OtherProcess(_step, arguments, theirs), theirs.dtype)]


def _step(against: str, config: BenchConfig, compute: Compute) -> Call:
    task = tasks.make(config.dataset, config.model.block_size)  # ours may have brought its data to the device
    return Loop(config, task, peers.build(against, first_weights(config, "cpu")), compute).step


def decode(config: BenchConfig, model: LanguageModel) -> dict[str, Way]:
    """Decode the same prompts by transformers, where it was asked for, and without a cache."""
    ways: dict[str, Way] = {ANEW: lambda prompts, new: without_cache(model, prompts, new)}
    if config.against == "transformers":
        theirs = transformers_model.build(model)
        ways = {THEIRS: lambda prompts, new: by_transformers(theirs, prompts, new), **ways}
    return ways


@torch.inference_mode()
def without_cache(model: LanguageModel, prompts: torch.Tensor, new: int) -> int:
    """Decode greedily by reading everything anew for each token, and count the tokens that were written."""
    read = prompts
    for _ in range(new):
        read = torch.cat([read, model(read)[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
    return new * len(read)


def by_transformers(theirs: Any, prompts: torch.Tensor, new: int) -> int:
    """Decode greedily by transformers' `generate`, and count the tokens that were written."""
    mask = torch.ones_like(prompts)
    written = theirs.generate(prompts, attention_mask=mask, max_new_tokens=new, do_sample=False)
    assert written.shape[1] == prompts.shape[1] + new
    return new * len(prompts)


def score(config: BenchConfig, scoring: Scoring) -> list[Side]:
    """Score by real decoding, where there is one right answer to decode: a text has none."""
    if config.against != "plain" or not scoring.task.has_answers:
        return []
    return [Side(DECODED, lambda: lambda: scoring.score(scoring.part, "generate"), torch.float32)]
