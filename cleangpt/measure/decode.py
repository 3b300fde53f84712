"""Greedy decoding with each number of texts at once: the first quarter of the context is read, the rest is written."""

import copy
from collections.abc import Callable

import torch

from cleangpt.config.programs import BenchConfig
from cleangpt.measure.turns import OURS, Side
from cleangpt.models.contract import LanguageModel
from cleangpt.sample import generate, packed

Way = Callable[[torch.Tensor, int], int]  # prompts and how many new tokens each → how many tokens were written


def sides(config: BenchConfig, model: LanguageModel, others: dict[str, Way]) -> list[Side]:
    """Make a side of our decoding, and of each way of others, for each number of texts."""
    like, context = next(model.parameters()), model.config.block_size
    length = max(1, context // 4)

    def side(name: str, way: Way, batch: int) -> Side:
        generator = torch.Generator().manual_seed(config.seed)
        prompts = torch.randint(model.config.vocab_size, (batch, length), generator=generator).to(like.device)
        return Side(name, lambda: lambda: way(prompts, context - length), like.dtype, f"batch {batch}")

    ours = copy.deepcopy(model)
    packed.pack(ours)
    ways: dict[str, Way] = {OURS: lambda prompts, new: generate.greedy(ours, prompts, new).numel(), **others}
    return [side(name, way, batch) for batch in config.batches for name, way in ways.items()]
