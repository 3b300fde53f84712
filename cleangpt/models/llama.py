"""Llama: rotary positions, RMSNorm, SwiGLU, grouped-query attention, no biases.

Touvron et al., "Llama 2", 2023; rotary positions after Su et al., "RoFormer", 2021.
"""

import math
import operator
from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from cleangpt.basics.schema import Derived, Open, Section
from cleangpt.models.settings import AttentionSettings


class RopeScaling(Section):
    """Scaling of the rotary angles in Llama 3: slow ones become slower still, for contexts beyond the original one."""

    factor: float = Field(ge=1, description="how much slower the slowest rotary angles become")
    low_freq_factor: float = Field(gt=0, description="turns within the original context, below which all of it applies")
    high_freq_factor: float = Field(gt=0, description="turns within the original context, above which none applies")
    original_context: int = Field(ge=1, description="the context before scaling")

    @field_validator("high_freq_factor")
    @classmethod
    def _above_the_low_one(cls, high: float, info: ValidationInfo) -> float:
        if high <= info.data.get("low_freq_factor", 0):
            raise ValueError(f"must be above low_freq_factor={info.data['low_freq_factor']:g}, and {high:g} is not")
        return high


def _usual_ffn_dim(n_embd: int, activation: str) -> int:
    return 4 * n_embd if activation == "relu2" else -(-8 * n_embd // (3 * 32)) * 32


class Settings(AttentionSettings):
    hugging_face: ClassVar[str | None] = "llama"

    name: Literal["llama"] = Field(description="the architecture")
    head_dim: Annotated[Open[int], Derived(("n_embd", "n_head"), operator.floordiv)] = Field(
        ge=2, multiple_of=2, description="width of a head; null: n_embd / n_head"
    )
    n_kv_head: Annotated[Open[int], Derived(("n_head",))] = Field(
        ge=1, description="heads of keys and values; null: n_head"
    )
    activation: Literal["swiglu", "relu2"] = Field(description="of the MLP: a SiLU that gates, or ReLU squared")
    ffn_dim: Annotated[Open[int], Derived(("n_embd", "activation"), _usual_ffn_dim)] = Field(
        ge=1, description="hidden width of the MLP; null: 8/3 n_embd, rounded up to 32, and 4 n_embd with relu2"
    )
    positions: Literal["rotary", "none", "alibi", "fire"] = Field(
        description="how it tells places apart: rotary ones, not at all, or by distance, fixed or learned"
    )
    rope_base: float = Field(gt=1, description="base of the rotary angles")
    rope_scaling: RopeScaling | None
    norm_eps: float = Field(gt=0, description="epsilon of RMSNorm")

    @field_validator("head_dim")
    @classmethod
    def _head_width(cls, head_dim: int | None, info: ValidationInfo) -> int | None:
        n_embd, n_head = info.data.get("n_embd"), info.data.get("n_head")
        if head_dim is None and n_embd and n_head and n_embd % (2 * n_head):
            raise ValueError(
                f"must be given, since model.n_embd={n_embd} over model.n_head={n_head} is not an even number: "
                "change one of the three"
            )
        return head_dim

    @field_validator("n_kv_head")
    @classmethod
    def _kv_heads_divide_heads(cls, n_kv_head: int | None, info: ValidationInfo) -> int | None:
        n_head = info.data.get("n_head")
        if n_kv_head and n_head and n_head % n_kv_head:
            raise ValueError(f"must divide model.n_head={n_head}, and {n_kv_head} does not")
        return n_kv_head


import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cleangpt.models.attention import ATTENTION, those_since, to_memory
from cleangpt.models.cache import KVCache
from cleangpt.models.decoder import Decoder
from cleangpt.models.extras import relu_squared
from cleangpt.models.norm import RMSNorm


def rotary_angles(
    positions: Tensor, width: int, base: float, scaling: RopeScaling | None = None
) -> tuple[Tensor, Tensor]:
    """Turn positions (T,) or (B, T) into cosines and sines (T, D) or (B, 1, T, D): two halves that are alike."""
    frequencies = 1.0 / base ** (torch.arange(0, width, 2, device=positions.device, dtype=torch.float32) / width)
    if scaling:
        frequencies = slower(frequencies, scaling)
    angles = positions.float()[..., None] * frequencies
    angles = torch.cat((angles, angles), dim=-1)
    if positions.dim() == 2:
        angles = angles[:, None]
    return angles.cos(), angles.sin()


def slower(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Slow down angles that turn seldom within the original context, as Llama 3 does; fast ones stay."""
    turns = frequencies * scaling.original_context / (2 * math.pi)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    stays = ((turns - low) / (high - low)).clamp(0, 1)
    return frequencies * (stays + (1 - stays) / scaling.factor)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (i, i + D/2) of x (B, H, T, D) by the angle of its position."""
    first, second = x.chunk(2, dim=-1)
    return x * cos.to(x.dtype) + torch.cat((-second, first), dim=-1) * sin.to(x.dtype)


class Attention(nn.Module):
    def __init__(self, config: Settings):
        super().__init__()
        self.dropout, self.head_dim = config.dropout, config.head_dim
        self.attend = ATTENTION[config.attention]
        self.query = nn.Linear(config.n_embd, config.n_head * config.head_dim, bias=False)
        self.key = nn.Linear(config.n_embd, config.n_kv_head * config.head_dim, bias=False)
        self.value = nn.Linear(config.n_embd, config.n_kv_head * config.head_dim, bias=False)
        self.out = nn.Linear(config.n_head * config.head_dim, config.n_embd, bias=False)
        self.qk_norm = config.qk_norm
        if config.qk_norm:
            self.query_norm = RMSNorm(config.head_dim, eps=config.norm_eps)
            self.key_norm = RMSNorm(config.head_dim, eps=config.norm_eps)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, cache: KVCache | None, layer: int, since: int
    ) -> Tensor:
        q, k, v = (
            project(y).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (B, H or G, T, D)
            for project, y in ((self.query, those_since(x, since)), (self.key, x), (self.value, x))
        )
        if self.qk_norm:
            q, k = self.query_norm(q), self.key_norm(k)
        cos_q, sin_q = (cos[..., since:, :], sin[..., since:, :]) if since else (cos, sin)
        q, k = rotate(q, cos_q, sin_q).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        dropout = self.dropout if self.training else 0.0
        if cache:
            y = to_memory(self.attend, q, *cache.extend(layer, k, v), dropout, mask)
        else:
            y = self.attend(q, k, v, dropout, mask)
        y = self.out(y.transpose(1, 2).flatten(2))  # (B, T, C)
        return F.dropout(y, self.dropout, self.training)


class MLP(nn.Module):
    """SwiGLU, or ReLU squared without a gate."""

    def __init__(self, config: Settings):
        super().__init__()
        self.dropout, self.gated = config.dropout, config.activation == "swiglu"
        if self.gated:
            self.gate = nn.Linear(config.n_embd, config.ffn_dim, bias=False)
        self.up = nn.Linear(config.n_embd, config.ffn_dim, bias=False)
        self.down = nn.Linear(config.ffn_dim, config.n_embd, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.gate(x)) * self.up(x) if self.gated else relu_squared(self.up(x))
        return F.dropout(self.down(y), self.dropout, self.training)


class Block(nn.Module):
    def __init__(self, config: Settings):
        super().__init__()
        self.norm_1 = RMSNorm(config.n_embd, eps=config.norm_eps)
        self.attention = Attention(config)
        self.norm_2 = RMSNorm(config.n_embd, eps=config.norm_eps)
        self.mlp = MLP(config)

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor | None,
        cache: KVCache | None = None,
        layer: int = 0,
        since: int = 0,  # of the tokens before only keys and values are made
    ) -> Tensor:
        x = those_since(x, since) + self.attention(self.norm_1(x), cos, sin, mask, cache, layer, since)
        return x + self.mlp(self.norm_2(x))


class Llama(Decoder):
    config: Settings

    def __init__(self, config: Settings):
        super().__init__(config, cache_heads=config.n_kv_head, head_dim=config.head_dim)
        self.token_embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = RMSNorm(config.n_embd, eps=config.norm_eps)
        if not config.tied:
            self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)

    def angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        if self.config.positions != "rotary":  # no turn at all
            positions = torch.zeros_like(positions)
        return rotary_angles(positions, self.config.head_dim, self.config.rope_base, self.config.rope_scaling)

    def new_cache(
        self,
        batch: int,
        length: int | None = None,
        starts: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> KVCache:
        cache = super().new_cache(batch, length, starts, positions)
        cache.tables = tuple(table.to(cache.memory.dtype) for table in self.angles(cache.positions))
        return cache

    def embed(self, x: Tensor, positions: Tensor, *tables: Tensor) -> tuple[Tensor, ...]:
        cos, sin = tables or self.angles(positions)
        return F.dropout(x, self.config.dropout, self.training), cos, sin


Model = Llama
