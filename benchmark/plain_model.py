"""GPT and Llama written down plainly in torch's own modules, without anything that `cleangpt.models` computes.

This is the model of the other side: what makes ours faster is not in it. Its parameters have the names of ours, so
that both sides can have the same weights. Shapes: B sequences, T tokens, C width, H heads, D width of a head.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cleangpt.basics.errors import UserError
from cleangpt.models.contract import LanguageModel
from cleangpt.models.settings import AttentionSettings

if TYPE_CHECKING:
    from cleangpt.models import gpt, llama


def build(ours: LanguageModel) -> nn.Module:
    """Build the model with the weights of ours: tokens (B, T) → logits (B, T, V).

    One that is not written down here is its own twin: then only the loops differ.
    """
    twins: dict[str, Callable[[Any], nn.Module]] = {"gpt": PlainGPT, "llama": PlainLlama}
    if ours.config.name not in twins:
        return ours
    if getattr(ours.config, "rope_scaling", None):
        raise UserError("against=plain has no model.rope_scaling: set it to null, or use against=transformers")
    model = twins[ours.config.name](ours.config)
    try:
        model.load_state_dict(ours.state_dict())
    except RuntimeError as error:
        raise UserError(f"against=plain has no model like this one: use against=null ({error})") from None
    return model


class Plain(nn.Module):
    """Embeddings, blocks, a norm and a head."""

    def __init__(self, config: AttentionSettings, blocks: list[nn.Module], norm: nn.Module):
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.token_embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.blocks, self.norm = nn.ModuleList(blocks), norm
        if not config.tied:
            self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)

    def through_blocks(self, x: Tensor, *angles: Tensor) -> Tensor:
        """Turn embeddings (B, T, C) into logits (B, T, V)."""
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, *angles)
        return F.linear(self.norm(x), getattr(self, "head", self.token_embedding).weight)


class Block(nn.Module):
    """Attention and an MLP, each behind a norm and added to what came in."""

    def __init__(self, norm_1: nn.Module, attention: nn.Module, norm_2: nn.Module, mlp: nn.Module):
        super().__init__()
        self.norm_1, self.attention, self.norm_2, self.mlp = norm_1, attention, norm_2, mlp

    def forward(self, x: Tensor, *angles: Tensor) -> Tensor:
        x = x + self.attention(self.norm_1(x), *angles)
        return x + self.mlp(self.norm_2(x))


class PlainGPT(Plain):
    """GPT-2's architecture."""

    def __init__(self, config: "gpt.Settings"):
        norm = partial(nn.LayerNorm, config.n_embd, bias=config.bias)
        layers = range(config.n_layer)
        super().__init__(config, [Block(norm(), GPTAttention(config), norm(), GPTMLP(config)) for _ in layers], norm())
        self.position_embedding = nn.Embedding(config.block_size, config.n_embd)

    def forward(self, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        return self.through_blocks(self.token_embedding(tokens) + self.position_embedding(positions))


class GPTAttention(nn.Module):
    def __init__(self, config: "gpt.Settings"):
        super().__init__()
        self.heads, self.dropout = config.n_head, config.dropout
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.out = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (in_heads(part, self.heads) for part in self.qkv(x).split(x.shape[2], dim=2))
        return F.dropout(self.out(attended(q, k, v, self.dropout if self.training else 0.0)), self.dropout, self.training)


class GPTMLP(nn.Module):
    def __init__(self, config: "gpt.Settings"):
        super().__init__()
        self.up = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.gelu = nn.GELU(approximate="tanh" if config.activation == "gelu_tanh" else "none")
        self.down = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.down(self.gelu(self.up(x))))


class PlainLlama(Plain):
    """Llama's architecture."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: "llama.Settings"):
        norm = partial(nn.RMSNorm, config.n_embd, eps=config.norm_eps)
        layers = range(config.n_layer)
        super().__init__(config, [Block(norm(), LlamaAttention(config), norm(), SwiGLU(config)) for _ in layers], norm())
        half = torch.arange(0, config.head_dim, 2) / config.head_dim
        angles = torch.outer(torch.arange(config.block_size).float(), 1.0 / config.rope_base**half)  # (T, D/2)
        self.register_buffer("cos", torch.cat([angles, angles], dim=1).cos(), persistent=False)
        self.register_buffer("sin", torch.cat([angles, angles], dim=1).sin(), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        T = tokens.shape[1]
        return self.through_blocks(self.token_embedding(tokens), self.cos[:T], self.sin[:T])


class LlamaAttention(nn.Module):
    def __init__(self, config: "llama.Settings"):
        super().__init__()
        self.heads, self.kv_heads, self.dropout = config.n_head, config.n_kv_head, config.dropout
        self.query = nn.Linear(config.n_embd, self.heads * config.head_dim, bias=False)
        self.key = nn.Linear(config.n_embd, self.kv_heads * config.head_dim, bias=False)
        self.value = nn.Linear(config.n_embd, self.kv_heads * config.head_dim, bias=False)
        self.out = nn.Linear(self.heads * config.head_dim, config.n_embd, bias=False)
        norm: Any = partial(nn.RMSNorm, config.head_dim, eps=config.norm_eps) if config.qk_norm else nn.Identity
        self.query_norm, self.key_norm = norm(), norm()

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        q = turned(self.query_norm(in_heads(self.query(x), self.heads)), cos, sin)
        k = turned(self.key_norm(in_heads(self.key(x), self.kv_heads)), cos, sin)
        v = in_heads(self.value(x), self.kv_heads)
        if self.kv_heads != self.heads:
            k, v = (part.repeat_interleave(self.heads // self.kv_heads, dim=1) for part in (k, v))
        return F.dropout(self.out(attended(q, k, v, self.dropout if self.training else 0.0)), self.dropout, self.training)


class SwiGLU(nn.Module):
    def __init__(self, config: "llama.Settings"):
        super().__init__()
        self.gate = nn.Linear(config.n_embd, config.ffn_dim, bias=False)
        self.up = nn.Linear(config.n_embd, config.ffn_dim, bias=False)
        self.down = nn.Linear(config.ffn_dim, config.n_embd, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.down(F.silu(self.gate(x)) * self.up(x)))


def in_heads(x: Tensor, heads: int) -> Tensor:
    """Cut (B, T, H·D) into (B, H, T, D)."""
    B, T, width = x.shape
    return x.view(B, T, heads, width // heads).transpose(1, 2)


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair (i, i + D/2) of x (B, H, T, D) by the angle of its position."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], dim=-1) * sin


def attended(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
    """Attend, and put the heads (B, H, T, D) side by side again (B, T, H·D)."""
    y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
    return y.transpose(1, 2).contiguous().flatten(2)
