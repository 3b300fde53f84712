"""GPT-2: learned positions, LayerNorm before each half of a block, GELU.

Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from cleangpt.basics.schema import Derived, Open
from cleangpt.models.settings import AttentionSettings


class Settings(AttentionSettings):
    not_in_weights: ClassVar[tuple[str, ...]] = (*AttentionSettings.not_in_weights, "position_rows")
    hugging_face: ClassVar[str | None] = "gpt2"

    name: Literal["gpt"] = Field(description="the architecture")
    activation: Literal["gelu_tanh", "gelu", "relu2"] = Field(
        description="of the MLP: GELU as GPT-2 approximates it, GELU exactly, or ReLU squared"
    )
    bias: bool = Field(description="biases in linear layers and norms")
    positions: Literal["learned", "none", "alibi", "fire"] = Field(
        description="how it tells places apart: learned ones, not at all, or by distance, fixed or learned"
    )
    position_rows: Annotated[Open[int], Derived(("block_size", "task.position_rows"), max)] = Field(
        ge=1, description="positions that are learned; null: as many as the context and the task have"
    )

    @field_validator("n_head")
    @classmethod
    def _heads_divide_width(cls, n_head: int, info: ValidationInfo) -> int:
        n_embd = info.data.get("n_embd", n_head)
        if n_embd % n_head:
            raise ValueError(f"must divide model.n_embd={n_embd}, and {n_head} does not")
        return n_head

    @property
    def longest_context(self) -> int | None:
        return self.position_rows if self.positions == "learned" else None  # no more positions were learned


import torch.nn.functional as F
from torch import Tensor, nn

from cleangpt.models.attention import ATTENTION, those_since, to_memory
from cleangpt.models.cache import KVCache
from cleangpt.models.decoder import Decoder
from cleangpt.models.extras import ACTIVATIONS
from cleangpt.models.norm import RMSNorm


class Attention(nn.Module):
    def __init__(self, config: Settings):
        super().__init__()
        self.n_head, self.dropout = config.n_head, config.dropout
        self.attend = ATTENTION[config.attention]
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.out = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.qk_norm = config.qk_norm
        if config.qk_norm:
            self.query_norm, self.key_norm = (RMSNorm(config.n_embd // config.n_head, eps=1e-5) for _ in "qk")

    def forward(self, x: Tensor, mask: Tensor | None, cache: KVCache | None, layer: int, since: int) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.n_head, -1)).transpose(1, 2)  # (B, H, T, D)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        q = q[:, :, since:] if since else q
        if self.qk_norm:
            q, k = self.query_norm(q).to(v.dtype), self.key_norm(k).to(v.dtype)
        dropout = self.dropout if self.training else 0.0
        if cache:
            y = to_memory(self.attend, q, *cache.extend(layer, k, v), dropout, mask)
        else:
            y = self.attend(q, k, v, dropout, mask)
        y = self.out(y.transpose(1, 2).flatten(2))  # (B, T, C)
        return F.dropout(y, self.dropout, self.training)


class MLP(nn.Module):
    def __init__(self, config: Settings):
        super().__init__()
        self.dropout, self.activation = config.dropout, ACTIVATIONS[config.activation]
        self.up = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.down = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.down(self.activation(self.up(x))), self.dropout, self.training)


class Block(nn.Module):
    def __init__(self, config: Settings):
        super().__init__()
        self.norm_1 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.attention = Attention(config)
        self.norm_2 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.mlp = MLP(config)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        cache: KVCache | None = None,
        layer: int = 0,
        since: int = 0,  # of the tokens before only keys and values are made
    ) -> Tensor:
        x = those_since(x, since) + self.attention(self.norm_1(x), mask, cache, layer, since)
        return x + self.mlp(self.norm_2(x))


class GPT(Decoder):
    parts: ClassVar[dict[str, int]] = {"qkv": 3}  # queries, keys and values
    trimmed = ("position_embedding.weight",)
    config: Settings

    def __init__(self, config: Settings):
        super().__init__(config, cache_heads=config.n_head, head_dim=config.n_embd // config.n_head)
        self.token_embedding = nn.Embedding(config.vocab_size, config.n_embd)
        if config.positions == "learned":
            self.position_embedding = nn.Embedding(config.position_rows, config.n_embd)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = nn.LayerNorm(config.n_embd, bias=config.bias)
        if not config.tied:
            self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)

    def embed(self, x: Tensor, positions: Tensor, *tables: Tensor) -> tuple[Tensor, ...]:
        if self.config.positions == "learned":
            x = x + self.position_embedding(positions)  # (B, T, C)
        return (F.dropout(x, self.config.dropout, self.training),)


Model = GPT
