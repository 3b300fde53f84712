"""What the architectures share: attention, its cache, embeddings of pairs and of values, the loss, initialisation.

Shapes: B sequences, T tokens, C width of the model, H heads, G heads of keys and values, D width of a head,
V vocabulary.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def causal_mask(queries: int, keys: int, device: torch.device) -> Tensor:
    """(queries, keys) True where a query may look: the queries are the last ones of the keys."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def document_mask(documents: Tensor) -> Tensor:
    """(B, T) number of the document of each token → (B, 1, T, T) True where a token may look: back, in its own."""
    same = documents[:, None, :, None] == documents[:, None, None, :]
    return same & causal_mask(documents.shape[1], documents.shape[1], documents.device)


def document_positions(documents: Tensor) -> Tensor:
    """(B, T) place of each token in its document, of what a window has of it."""
    place = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    begins = documents.diff(dim=1, prepend=documents[:, :1] - 1) != 0
    return place - (place * begins).cummax(dim=1).values


def plain_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float, mask: Tensor | None = None) -> Tensor:
    """Attention as it is written in the paper. q: (B, H, Tq, D), k and v: (B, G, Tk, D) → (B, H, Tq, D)

    `mask` says which keys a query may look at; without one it looks back.
    """
    if k.shape[1] != q.shape[1]:
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-2, -1)  # (B, H, Tq, Tk)
    if mask is None and q.shape[-2] > 1:
        mask = causal_mask(q.shape[-2], k.shape[-2], q.device)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    weights = F.dropout(scores.softmax(dim=-1, dtype=torch.float32).to(v.dtype), dropout)
    return weights @ v


def sdpa_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float, mask: Tensor | None = None) -> Tensor:
    """The same by torch's fused kernels."""
    queries, keys = q.shape[-2], k.shape[-2]
    causal = mask is None and queries > 1 and queries == keys  # in this order no variable for torch.compile
    if mask is None and 1 < queries < keys:
        mask = causal_mask(queries, keys, q.device)
    grouped = k.shape[1] != q.shape[1]
    return F.scaled_dot_product_attention(q, k, v, mask, dropout_p=dropout, is_causal=causal, enable_gqa=grouped)


def auto_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float, mask: Tensor | None = None) -> Tensor:
    """On a CPU the fused kernel is the faster one in float32 without dropout only."""
    slow = q.device.type == "cpu" and (dropout > 0 or q.dtype != torch.float32)
    return (plain_attention if slow else sdpa_attention)(q, k, v, dropout, mask)


ATTENTION: dict[str, Callable[..., Tensor]] = {
    "auto": auto_attention,
    "plain": plain_attention,
    "sdpa": sdpa_attention,
}


class KVCache:
    """Keys and values of the tokens that were read, for all layers, in memory that is taken once.

    Rows of different lengths end in the same column: `starts` (B,) says how many columns of padding stand before
    each. Positions count from there, and no token looks at the padding.
    """

    def __init__(
        self, layers: int, batch: int, heads: int, columns: int, width: int, like: Tensor, starts: Tensor | None = None
    ):
        shape = (2, layers, batch, heads, columns, width)
        self.memory = torch.empty(shape, dtype=like.dtype, device=like.device)
        self.length = 0  # columns that were read
        self.last = torch.zeros(batch, 1, dtype=torch.int64, device=like.device)  # the token in the last of them
        self.positions = torch.arange(columns, device=like.device)  # (columns,) or (B, columns)
        self.real: Tensor | None = None  # (B, 1, 1, columns) True where a column is no padding
        if starts is not None:
            self.positions = self.positions - starts[:, None]
            self.real = (self.positions >= 0)[:, None, None]
            self.positions = self.positions.clamp(min=0)
        self.tables: list[Tensor] = []  # (…, columns, D) each, what an architecture looks up by position

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keep k and v (B, G, T, D) behind those before; all of them. `length` moves on after the last layer."""
        keys, values = self.memory[0, layer], self.memory[1, layer]
        end = self.length + k.shape[2]
        keys[:, :, self.length : end] = k
        values[:, :, self.length : end] = v
        return keys[:, :, :end], values[:, :, :end]

    def next_positions(self, count: int) -> Tensor:
        """(count,) or (B, count) of the tokens that are read next."""
        return self.positions[..., self.length : self.length + count]

    def next_of_tables(self, count: int) -> list[Tensor]:
        return [table[..., self.length : self.length + count, :] for table in self.tables]

    def mask(self, count: int) -> Tensor | None:
        """(B, 1, count, columns) what the next tokens may look at; None: back, as always.

        Padding looks at itself, so that there is no token without anything to look at.
        """
        if self.real is None:
            return None
        end = self.length + count
        if count == 1:
            return self.real[..., :end]
        causal = causal_mask(count, end, self.real.device)
        itself = causal & ~causal_mask(count, end, self.real.device).tril(end - count - 1)
        return (self.real[..., :end] & causal) | itself

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        self.memory, self.last = self.memory[:, :, rows], self.last[rows]
        if self.real is not None:
            self.positions, self.real = self.positions[rows], self.real[rows]
            self.tables = [table[rows] for table in self.tables]


class BigramEmbedding(nn.Embedding):
    """A row for each pair of a token and the one before it, and one row for a token that begins a text.

    Where there are fewer rows than pairs, pairs share rows. Those that end in different tokens after the same one
    share none, if there are as many rows as tokens.
    """

    SPREAD = 2654435761  # a prime of 32 bits: where the pairs after a token begin

    def __init__(self, rows: int, width: int, vocab_size: int):
        super().__init__(rows + 1, width)
        self.rows, self.spread = rows, vocab_size if vocab_size**2 <= rows else self.SPREAD

    def forward(self, tokens: Tensor, last: Tensor | None, positions: Tensor) -> Tensor:
        """(B, T) tokens at (T,) or (B, T) positions, `last` (B, 1) being the token before them → (B, T, C)"""
        last = torch.zeros_like(tokens[:, :1]) if last is None else last
        before = torch.cat((last, tokens[:, :-1]), dim=1)
        pairs = (before * self.spread + tokens) % self.rows
        return super().forward(torch.where(positions == 0, self.rows, pairs))


class ValueEmbedding(nn.Embedding):
    """What attention's values know of their token in every layer, however much the layers below have changed it."""

    def __init__(self, vocab_size: int, heads: int, width: int):
        super().__init__(vocab_size, heads * width)
        self.scale = nn.Parameter(torch.empty(heads))

    def forward(self, tokens: Tensor, v: Tensor) -> Tensor:
        """Values v (B, G, T, D) of tokens (B, T), with the embedding added."""
        added = super().forward(tokens).unflatten(-1, (len(self.scale), -1)).transpose(1, 2)
        return v + (self.scale[:, None, None] * added).to(v.dtype)


def relu_squared(x: Tensor) -> Tensor:
    """So et al., "Primer", 2021."""
    return F.relu(x).square()


def tanh_gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


# On a CPU the exact GELU is the faster one by far: 0.25 and 0.6 ms forward and backward where GPT-2's takes 1.4 twice.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu_tanh": tanh_gelu, "gelu": F.gelu, "relu2": relu_squared}


def those_since(x: Tensor, since: int) -> Tensor:
    """x (B, T, C) without the tokens before `since`."""
    return x[:, since:] if since else x


def softcapped(logits: Tensor, cap: float | None) -> Tensor:
    """Logits that stay within ±cap, in float32: as they are while they are small. (Gemma 2, 2024)"""
    return logits if cap is None else cap * torch.tanh(logits.float() / cap)


def summed_loss(logits: Tensor, targets: Tensor, loss_weights: Tensor | None) -> Tensor:
    """Cross-entropy in float32, weighted and summed. Whoever calls divides by the weight of the whole step."""
    losses = F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten(), reduction="none")
    return losses.sum() if loss_weights is None else (losses * loss_weights.flatten()).sum()


class Decoder(nn.Module):
    """What GPT and Llama do alike around their blocks: read tokens, score them, start from a seed.

    An architecture sets `token_embedding` and `blocks`, and defines `embed` and `logits`.
    """

    def __init__(self, config, cache_heads: int, head_dim: int):
        super().__init__()
        self.config = config
        self.cache_heads, self.head_dim = cache_heads, head_dim
        self.checkpointing = False  # recompute activations in the backward pass
        if config.bigram_embedding:
            self.bigram_embedding = BigramEmbedding(config.bigram_embedding, config.n_embd, config.vocab_size)

    def forward(
        self,
        tokens: Tensor,  # (B, T)
        targets: Tensor | None = None,  # (B, T)
        loss_weights: Tensor | None = None,  # (B, T)
        cache: KVCache | None = None,
        documents: Tensor | None = None,  # (B, T)
        since: int = 0,
    ) -> Tensor:
        """Logits (B, T, V); with targets, the sum of their weighted losses instead.

        With `documents`, the number of each token's document, attention and positions stay within a document. With
        `since`, only the tokens from that one on are asked for: (B, T - since, V).
        """
        x = self.hidden(tokens, cache, documents, since)
        return self.logits(x) if targets is None else self.loss(x, targets, loss_weights)

    def loss(self, x: Tensor, targets: Tensor, loss_weights: Tensor | None) -> Tensor:
        """The sum of the weighted losses, from what `hidden` left."""
        return summed_loss(self.logits(x), targets, loss_weights)

    def following(self, tokens: Tensor, cache: KVCache) -> Tensor:
        """Logits (B, V) for the token after the last one of tokens (B, T)."""
        return self.logits(self.hidden(tokens, cache)[:, -1])

    def hidden(
        self, tokens: Tensor, cache: KVCache | None = None, documents: Tensor | None = None, since: int = 0
    ) -> Tensor:
        """What the last block leaves of each token (B, T, C), or of those from `since` on: of the others it only makes
        the keys and values that these look at."""
        count = tokens.shape[1]
        if documents is not None:
            positions, mask = document_positions(documents), document_mask(documents)
        elif cache is not None:
            positions, mask = cache.next_positions(count), cache.mask(count)
        else:
            positions, mask = torch.arange(count, device=tokens.device), None
        tables = cache.next_of_tables(count) if cache else []
        x = self.token_embedding(tokens)
        if self.config.bigram_embedding:
            x = x + self.bigram_embedding(tokens, cache.last if cache else None, positions)
        x, *context = self.embed(x, positions, *tables)  # (B, T, C), and what every block needs besides
        for layer, block in enumerate(self.blocks):
            if self.checkpointing and self.training:
                x = checkpoint(block, x, *context, mask, tokens, use_reentrant=False)
            else:  # only training may be compiled, where shapes stay what they are
                run = block if self.training else block.forward
                last = {}
                if since and layer == self.config.n_layer - 1:
                    last, mask = {"since": since}, None if mask is None else mask[..., since:, :]
                x = run(x, *context, mask, tokens, cache=cache, layer=layer, **last)
        if cache:
            cache.length += count
            cache.last.copy_(tokens[:, -1:])
        return x

    def new_cache(self, batch: int, length: int | None = None, starts: Tensor | None = None) -> KVCache:
        like = next(self.parameters())
        length = length or self.config.block_size
        return KVCache(self.config.n_layer, batch, self.cache_heads, length, self.head_dim, like, starts)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """GPT-2's initialisation: normal with 0.02, what is added to the residual smaller by sqrt(2 layers), or zero.

        Drawn on the CPU in the order of the parameters, so that a seed means the same weights on any device.
        """
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.dim() == 1:
                parameter.fill_(1.0)
            else:
                std = 0.02
                if name.endswith(("out.weight", "down.weight")):
                    std = 0.0 if self.config.zero_init else 0.02 / math.sqrt(2 * self.config.n_layer)
                parameter.copy_(torch.empty(parameter.shape).normal_(0.0, std, generator=generator))
