"""GPT and Llama written down plainly in torch's own modules, without anything that `cleangpt.models` computes.

This is the model of the other side: what makes ours faster is not in it. Its parameters have the names of ours, so
that both sides can have the same weights.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cleangpt.basics.errors import UserError
from cleangpt.models.contract import LanguageModel

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


class PlainGPT(nn.Module):
    def __init__(self, config: "gpt.Settings"):
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.token_embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.position_embedding = nn.Embedding(config.block_size, config.n_embd)
        self.blocks = nn.ModuleList(GPTBlock(config) for _ in range(config.n_layer))
        self.norm = nn.LayerNorm(config.n_embd, bias=config.bias)
        if not config.tied:
            self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.dropout(self.token_embedding(tokens) + self.position_embedding(positions))
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), getattr(self, "head", self.token_embedding).weight)


class GPTBlock(nn.Module):
    def __init__(self, config: "gpt.Settings"):
        super().__init__()
        self.norm_1 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.attention = GPTAttention(config)
        self.norm_2 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.mlp = GPTMLP(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm_1(x))
        return x + self.mlp(self.norm_2(x))


class GPTAttention(nn.Module):
    def __init__(self, config: "gpt.Settings"):
        super().__init__()
        self.heads, self.dropout = config.n_head, config.dropout
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.out = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        q, k, v = self.qkv(x).split(C, dim=2)
        q, k, v = (x.view(B, T, self.heads, C // self.heads).transpose(1, 2) for x in (q, k, v))  # (B, H, T, D)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        y = self.out(y.transpose(1, 2).contiguous().view(B, T, C))
        return F.dropout(y, self.dropout, self.training)


class GPTMLP(nn.Module):
    def __init__(self, config: "gpt.Settings"):
        super().__init__()
        self.up = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.gelu = nn.GELU(approximate="tanh" if config.activation == "gelu_tanh" else "none")
        self.down = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.down(self.gelu(self.up(x))))


class PlainLlama(nn.Module):
    cos: Tensor
    sin: Tensor

    def __init__(self, config: "llama.Settings"):
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.token_embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.blocks = nn.ModuleList(LlamaBlock(config) for _ in range(config.n_layer))
        self.norm = nn.RMSNorm(config.n_embd, eps=config.norm_eps)
        if not config.tied:
            self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        half = torch.arange(0, config.head_dim, 2) / config.head_dim
        angles = torch.outer(torch.arange(config.block_size).float(), 1.0 / config.rope_base**half)  # (T, D/2)
        self.register_buffer("cos", torch.cat([angles, angles], dim=1).cos(), persistent=False)
        self.register_buffer("sin", torch.cat([angles, angles], dim=1).sin(), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        T = tokens.shape[1]
        x = self.dropout(self.token_embedding(tokens))
        for block in self.blocks:
            x = block(x, self.cos[:T], self.sin[:T])
        return F.linear(self.norm(x), getattr(self, "head", self.token_embedding).weight)


class LlamaBlock(nn.Module):
    def __init__(self, config: "llama.Settings"):
        super().__init__()
        self.norm_1 = nn.RMSNorm(config.n_embd, eps=config.norm_eps)
        self.attention = LlamaAttention(config)
        self.norm_2 = nn.RMSNorm(config.n_embd, eps=config.norm_eps)
        self.mlp = SwiGLU(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attention(self.norm_1(x), cos, sin)
        return x + self.mlp(self.norm_2(x))


class LlamaAttention(nn.Module):
    def __init__(self, config: "llama.Settings"):
        super().__init__()
        self.heads, self.kv_heads, self.width = config.n_head, config.n_kv_head, config.head_dim
        self.dropout = config.dropout
        self.query = nn.Linear(config.n_embd, self.heads * self.width, bias=False)
        self.key = nn.Linear(config.n_embd, self.kv_heads * self.width, bias=False)
        self.value = nn.Linear(config.n_embd, self.kv_heads * self.width, bias=False)
        self.out = nn.Linear(self.heads * self.width, config.n_embd, bias=False)
        norms = (nn.RMSNorm(self.width, eps=config.norm_eps) if config.qk_norm else nn.Identity() for _ in range(2))
        self.query_norm, self.key_norm = norms

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        B, T, _ = x.shape
        q = self.query(x).view(B, T, self.heads, self.width).transpose(1, 2)  # (B, H, T, D)
        k = self.key(x).view(B, T, self.kv_heads, self.width).transpose(1, 2)
        v = self.value(x).view(B, T, self.kv_heads, self.width).transpose(1, 2)
        q, k = turned(self.query_norm(q), cos, sin), turned(self.key_norm(k), cos, sin)
        if self.kv_heads != self.heads:
            k, v = (x.repeat_interleave(self.heads // self.kv_heads, dim=1) for x in (k, v))
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        y = self.out(y.transpose(1, 2).contiguous().view(B, T, -1))
        return F.dropout(y, self.dropout, self.training)


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair (i, i + D/2) of x (B, H, T, D) by the angle of its position."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], dim=-1) * sin


class SwiGLU(nn.Module):
    def __init__(self, config: "llama.Settings"):
        super().__init__()
        self.gate = nn.Linear(config.n_embd, config.ffn_dim, bias=False)
        self.up = nn.Linear(config.n_embd, config.ffn_dim, bias=False)
        self.down = nn.Linear(config.ffn_dim, config.n_embd, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.down(F.silu(self.gate(x)) * self.up(x)))
