"""Attention: who looks at whom, and the kernels that compute it.

Shapes: B sequences, T tokens, C width of the model, H heads, G heads of keys and values, D width of a head.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def causal_mask(queries: int, keys: int, device: torch.device) -> Tensor:
    """Mark where a query may look (queries, keys): the queries are the last ones of the keys."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def later(queries: int, keys: int, like: Tensor) -> Tensor:
    """Make what is added to scores (queries, keys), -inf for later keys: it needs no backward pass, as a mask does."""
    return torch.full((queries, keys), float("-inf"), dtype=like.dtype, device=like.device).triu(keys - queries + 1)


def document_mask(documents: Tensor) -> Tensor:
    """Turn documents of tokens (B, T) into a mask of where a token may look (B, 1, T, T): back, in its own."""
    same = documents[:, None, :, None] == documents[:, None, None, :]
    return same & causal_mask(documents.shape[1], documents.shape[1], documents.device)


def document_positions(documents: Tensor) -> Tensor:
    """Count the place of each token in its document (B, T), of what a window has of it."""
    place = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    begins = documents.diff(dim=1, prepend=documents[:, :1] - 1) != 0
    return place - (place * begins).cummax(dim=1).values


def plain_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float, mask: Tensor | None = None) -> Tensor:
    """Compute attention as it is written in the paper. q: (B, H, Tq, D), k and v: (B, G, Tk, D) → (B, H, Tq, D)

    `mask` says which keys a query may look at, or holds what is added to its scores; without one it looks back.
    """
    if k.shape[1] != q.shape[1]:
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-2, -1)  # (B, H, Tq, Tk)
    if mask is not None and mask.dtype != torch.bool:
        scores = scores + mask.to(scores.dtype)
    elif mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    elif q.shape[-2] > 1:
        scores = scores + later(q.shape[-2], k.shape[-2], scores)
    weights = F.dropout(scores.softmax(dim=-1, dtype=torch.float32).to(v.dtype), dropout)
    return weights @ v


def sdpa_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float, mask: Tensor | None = None) -> Tensor:
    """Compute attention by torch's fused kernels."""
    queries, keys = q.shape[-2], k.shape[-2]
    causal = mask is None and queries > 1 and queries == keys  # in this order torch.compile guards on no shape
    if mask is None and 1 < queries < keys:
        mask = causal_mask(queries, keys, q.device)
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.to(q.dtype)
    grouped = k.shape[1] != q.shape[1]
    return F.scaled_dot_product_attention(q, k, v, mask, dropout_p=dropout, is_causal=causal, enable_gqa=grouped)


def auto_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float, mask: Tensor | None = None) -> Tensor:
    """Compute attention by the faster way: on a CPU the fused kernels are, in float32 without dropout only."""
    slow = q.device.type == "cpu" and (dropout > 0 or q.dtype != torch.float32)
    return (plain_attention if slow else sdpa_attention)(q, k, v, dropout, mask)


Attend = Callable[[Tensor, Tensor, Tensor, float, Tensor | None], Tensor]
ATTENTION: dict[str, Attend]
ATTENTION = {"auto": auto_attention, "plain": plain_attention, "sdpa": sdpa_attention}


def those_since(x: Tensor, since: int) -> Tensor:
    """Leave the tokens before `since` out of x (B, T, C)."""
    return x[:, since:] if since else x


def to_memory(attend: Attend, q: Tensor, k: Tensor, v: Tensor, dropout: float, mask: Tensor | None) -> Tensor:
    """Attend in the dtype in which a cache keeps k and v, unless autocast chooses one."""
    dtype = q.dtype if torch.is_autocast_enabled(q.device.type) else k.dtype
    return attend(q.to(dtype), k, v, dropout, mask).to(q.dtype)


def alibi(distance: Tensor, heads: int) -> Tensor:
    """Make scores fall with the distance (B, Tq, Tk), in each head at its own rate: (B, H, Tq, Tk).

    Press et al., "Train Short, Test Long", 2022.
    """
    rates = 2.0 ** (-8.0 * torch.arange(1, heads + 1, device=distance.device) / heads)
    return -distance[:, None].float() * rates[:, None, None]


class Fire(nn.Module):
    """A learned function of how far back a key lies, relative to how far the query has come; each head has its own.

    Li et al., "Functional Interpolation for Relative Positions Improves Long Context Transformers", 2024.
    """

    WIDTH, NEAR, FIRST = 32, 512.0, 0.1  # of its hidden layer; a threshold; how fast distances are squeezed

    def __init__(self, heads: int):
        super().__init__()
        self.up, self.down = nn.Linear(1, self.WIDTH), nn.Linear(self.WIDTH, heads)
        self.squeeze, self.near = nn.Parameter(torch.empty(1)), nn.Parameter(torch.empty(1))

    def forward(self, distance: Tensor, last: Tensor) -> Tensor:
        """Turn distances (B, Tq, Tk) and places of queries (B, Tq, 1) into what is added (B, H, Tq, Tk)."""
        squeeze = self.squeeze.abs()
        whole = torch.maximum(last.float(), (self.near * self.NEAR).abs())
        share = torch.log1p(squeeze * distance.float()) / torch.log1p(squeeze * whole + 1e-6)
        return self.down(F.relu(self.up(share[..., None]))).permute(0, 3, 1, 2)

    @torch.no_grad()
    def initialise(self, name: str, parameter: Tensor, generator: torch.Generator) -> None:
        """Draw one of its parameters."""
        if name in ("squeeze", "near"):
            parameter.fill_(self.FIRST if name == "squeeze" else 1.0)
        else:
            bound = 1.0 if name.startswith("up") else self.WIDTH**-0.5
            parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))
