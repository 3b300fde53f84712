"""Attention: who looks at whom, and the kernels that compute it.

Shapes: B sequences, T tokens, C width of the model, H heads, G heads of keys and values, D width of a head.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


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
