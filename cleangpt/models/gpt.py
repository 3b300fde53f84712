"""GPT-2: learned positions, LayerNorm before each half of a block, GELU.

Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from cleangpt.models.layers import ACTIVATIONS, ATTENTION, Decoder, KVCache, ValueEmbedding, softcapped, those_since
from cleangpt.models.norm import RMSNorm
from cleangpt.models.settings import GPTConfig


class Attention(nn.Module):
    def __init__(self, config: GPTConfig):
        super().__init__()
        self.n_head, self.dropout = config.n_head, config.dropout
        self.attend = ATTENTION[config.attention]
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.out = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.qk_norm, self.embeds_values = config.qk_norm, config.value_embeddings
        if config.qk_norm:
            self.query_norm, self.key_norm = (RMSNorm(config.n_embd // config.n_head, eps=1e-5) for _ in "qk")
        if config.value_embeddings:
            self.value_embedding = ValueEmbedding(config.vocab_size, config.n_head, config.n_embd // config.n_head)

    def forward(
        self, x: Tensor, mask: Tensor | None, tokens: Tensor, cache: KVCache | None, layer: int, since: int
    ) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.n_head, -1)).transpose(1, 2)  # (B, H, T, D)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        q = q[:, :, since:] if since else q
        if self.qk_norm:
            q, k = self.query_norm(q).to(v.dtype), self.key_norm(k).to(v.dtype)
        if self.embeds_values:
            v = self.value_embedding(tokens, v)
        if cache:
            k, v = cache.extend(layer, k, v)
        y = self.attend(q, k, v, self.dropout if self.training else 0.0, mask)
        y = self.out(y.transpose(1, 2).flatten(2))  # (B, T, C)
        return F.dropout(y, self.dropout, self.training)


class MLP(nn.Module):
    def __init__(self, config: GPTConfig):
        super().__init__()
        self.dropout, self.activation = config.dropout, ACTIVATIONS[config.activation]
        self.up = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.down = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.down(self.activation(self.up(x))), self.dropout, self.training)


class Block(nn.Module):
    def __init__(self, config: GPTConfig):
        super().__init__()
        self.norm_1 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.attention = Attention(config)
        self.norm_2 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.mlp = MLP(config)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        tokens: Tensor,
        cache: KVCache | None = None,
        layer: int = 0,
        since: int = 0,  # of the tokens before only keys and values are made
    ) -> Tensor:
        x = those_since(x, since) + self.attention(self.norm_1(x), mask, tokens, cache, layer, since)
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

    def embed(self, x: Tensor, positions: Tensor) -> tuple[Tensor]:
        x = x + self.position_embedding(positions)  # (B, T, C)
        return (F.dropout(x, self.config.dropout, self.training),)

    def logits(self, x: Tensor) -> Tensor:
        head = self.token_embedding if self.config.tied else self.head
        return softcapped(F.linear(self.norm(x), head.weight), self.config.logit_softcap)  # (B, T, V)
