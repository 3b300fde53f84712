"""Decoding with a KV cache."""

import torch
from torch import Tensor

from cleangpt.models.layers import Decoder


@torch.no_grad()
def greedy(model: Decoder, prompts: Tensor, new_tokens: int) -> Tensor:
    """(n, P) prompts of one length → (n, new_tokens), the likeliest token each time."""
    cache = model.new_cache(len(prompts), prompts.shape[1] + new_tokens)
    tokens = prompts
    written = []
    for _ in range(new_tokens):
        tokens = model.forward(tokens, cache=cache)[:, -1].argmax(dim=-1, keepdim=True)  # (n, 1)
        written.append(tokens)
    return torch.cat(written, dim=1)
