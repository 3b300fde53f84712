"""Greedy decoding with each number of texts at once: the first quarter of the context is read, the rest is written."""

from collections.abc import Callable

import torch

from cleangpt.config.programs import BenchConfig
from cleangpt.measure.turns import OURS, Side
from cleangpt.models.contract import LanguageModel
from cleangpt.sample import generate

Way = Callable[[torch.Tensor, int], int]  # prompts and how many new tokens each → how many tokens were written


def sides(config: BenchConfig, model: LanguageModel, others: dict[str, Way]) -> list[Side]:
    """Make a side of our decoding, and of each way of others, for each number of texts."""
    like = next(model.parameters())
    length = max(1, model.config.block_size // 4)
    new = model.config.block_size - length
    ways: dict[str, Way] = {OURS: lambda prompts, new: generate.greedy(model, prompts, new).numel(), **others}
    found = []
    for batch in config.batches:
        generator = torch.Generator().manual_seed(config.seed)
        prompts = torch.randint(model.config.vocab_size, (batch, length), generator=generator).to(like.device)
        for name, way in ways.items():
            call = lambda way=way, prompts=prompts: way(prompts, new)  # noqa: E731
            found.append(Side(name, lambda call=call: call, like.dtype, f"batch {batch}"))
    return found
