"""GPT-2: learned positions, LayerNorm before each half of a block, GELU.

Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from cleangpt.config import GPTConfig
from cleangpt.models.layers import ATTENTION, Decoder, KVCache


class Attention(nn.Module):
    def __init__(self, config: GPTConfig):
        super().__init__()
        self.n_head, self.dropout = config.n_head, config.dropout
        self.attend = ATTENTION[config.attention]
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.out = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor, mask: Tensor | None, cache: KVCache | None, layer: int) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.n_head, -1)).transpose(1, 2)  # (B, H, T, D)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        if cache:
            k, v = cache.extend(layer, k, v)
        y = self.attend(q, k, v, self.dropout if self.training else 0.0, mask)
        y = self.out(y.transpose(1, 2).flatten(2))  # (B, T, C)
        return F.dropout(y, self.dropout, self.training)


class MLP(nn.Module):
    def __init__(self, config: GPTConfig):
        super().__init__()
        self.dropout = config.dropout
        self.up = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.down = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = self.down(F.gelu(self.up(x), approximate="tanh"))
        return F.dropout(y, self.dropout, self.training)


class Block(nn.Module):
    def __init__(self, config: GPTConfig):
        super().__init__()
        self.norm_1 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.attention = Attention(config)
        self.norm_2 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, mask: Tensor | None, cache: KVCache | None = None, layer: int = 0) -> Tensor:
        x = x + self.attention(self.norm_1(x), mask, cache, layer)
        return x + self.mlp(self.norm_2(x))


class GPT(Decoder):
    def __init__(self, config: GPTConfig):
        super().__init__(config, cache_heads=config.n_head, head_dim=config.n_embd // config.n_head)
        self.token_embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.position_embedding = nn.Embedding(config.block_size, config.n_embd)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = nn.LayerNorm(config.n_embd, bias=config.bias)
        if not config.tied:
            self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)

    def embed(self, tokens: Tensor, positions: Tensor) -> tuple[Tensor]:
        x = self.token_embedding(tokens) + self.position_embedding(positions)  # (B, T, C)
        return (F.dropout(x, self.config.dropout, self.training),)

    def logits(self, x: Tensor) -> Tensor:
        head = self.token_embedding if self.config.tied else self.head
        return F.linear(self.norm(x), head.weight)  # (B, T, V)
