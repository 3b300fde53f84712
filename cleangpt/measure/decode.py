"""Greedy decoding by our cache, by reading everything anew for each token, and by transformers on the same weights."""

from typing import Any

import torch

from cleangpt.config.programs import BenchConfig
from cleangpt.measure import of_transformers
from cleangpt.measure.turns import OURS, Side
from cleangpt.models.layers import Decoder
from cleangpt.sample import generate

ANEW, THEIRS = "without a cache", "transformers"


def sides(config: BenchConfig, model: Decoder) -> list[Side]:
    """Each way with each number of texts: the first quarter of the context is the prompt, the rest is written."""
    model.eval()
    like = next(model.parameters())
    length = max(1, model.config.block_size // 4)
    new = model.config.block_size - length
    theirs = of_transformers.build(model) if config.against == "transformers" else None
    found = []
    for batch in config.batches:
        generator = torch.Generator().manual_seed(config.seed)
        prompts = torch.randint(model.config.vocab_size, (batch, length), generator=generator).to(like.device)
        ways = {OURS: lambda p=prompts: generate.greedy(model, p, new).numel()}
        if theirs is not None:
            ways[THEIRS] = lambda p=prompts: _written_by(theirs, p, new)
        if config.against is not None:
            ways[ANEW] = lambda p=prompts: _anew(model, p, new)
        found += [Side(name, lambda way=way: way, like.dtype, f"batch {batch}") for name, way in ways.items()]
    return found


@torch.inference_mode()
def _anew(model: Decoder, prompts: torch.Tensor, new: int) -> int:
    read = prompts
    for _ in range(new):
        read = torch.cat([read, model(read)[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
    return new * len(read)


def _written_by(theirs: Any, prompts: torch.Tensor, new: int) -> int:
    mask = torch.ones_like(prompts)
    written = theirs.generate(prompts, attention_mask=mask, max_new_tokens=new, do_sample=False)
    assert written.shape[1] == prompts.shape[1] + new
    return new * len(prompts)
