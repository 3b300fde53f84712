"""Transformers around their blocks: read tokens, score them, start from a seed, say what they are."""

import math
from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cleangpt.models import pieces
from cleangpt.models.attention import causal_mask, document_mask, document_positions
from cleangpt.models.cache import KVCache
from cleangpt.models.contract import LanguageModel, Treatment
from cleangpt.models.extras import BigramEmbedding, Fire, alibi, softcapped
from cleangpt.models.settings import AttentionSettings


class Decoder(LanguageModel[KVCache]):
    """A stack of blocks of attention. An architecture makes the modules below, and defines `embed`."""

    parts: ClassVar[dict[str, int]] = {}  # modules whose weight is several matrices in one
    config: AttentionSettings
    token_embedding: nn.Embedding
    blocks: nn.ModuleList
    norm: nn.Module
    head: nn.Linear  # none where it is tied

    def __init__(self, config: AttentionSettings, cache_heads: int, head_dim: int):
        super().__init__(config)
        self.cache_heads, self.head_dim = cache_heads, head_dim
        self.reads_positions = config.positions in ("learned", "rotary")
        if config.positions == "fire":
            self.relative = Fire(config.n_head)
        if config.bigram_embedding:
            self.bigram_embedding = BigramEmbedding(config.bigram_embedding, config.n_embd, config.vocab_size)

    @abstractmethod
    def embed(self, x: Tensor, positions: Tensor, *tables: Tensor) -> tuple[Tensor, ...]:
        """Give embedded tokens (B, T, C) their positions; return them, and what every block needs besides.

        `tables` are those of the cache, looked up at these positions.
        """

    def hidden(
        self,
        tokens: Tensor,
        cache: KVCache | None = None,
        documents: Tensor | None = None,
        since: int = 0,
        positions: Tensor | None = None,  # (B, T), which a cache has already
    ) -> Tensor:
        """Read tokens. Of those before `since` the last block only makes the keys and values that others look at."""
        count = tokens.shape[1]
        mask: Tensor | None
        if documents is not None:
            own, mask = document_positions(documents), document_mask(documents)
        elif cache is not None:
            own, mask = cache.next_positions(count), cache.mask(count)
        else:
            own, mask = torch.arange(count, device=tokens.device), None
        positions = own if positions is None else positions
        if self.config.positions in ("alibi", "fire"):
            mask = self.bias(own, cache.positions[..., : cache.length + count] if cache else own, mask)
        tables = cache.next_of_tables(count) if cache else ()
        x = self.token_embedding(tokens)
        if self.config.bigram_embedding:
            pairs = self.bigram_embedding.pairs(tokens, cache.last if cache else None, own)
            x = x + self.bigram_embedding(pairs)
        x, *context = self.embed(x, positions, *tables)  # (B, T, C), and what every block needs besides
        for layer, block in enumerate(self.blocks):
            if self.checkpointing and self.training:
                x = checkpoint(block, x, *context, mask, use_reentrant=False)
            else:  # only training may be compiled, where shapes stay what they are
                run = block if self.training else block.forward
                last = {}
                if since and layer == self.config.n_layer - 1:
                    last, mask = {"since": since}, None if mask is None else mask[..., since:, :]
                x = run(x, *context, mask, cache=cache, layer=layer, **last)
        if cache:
            cache.length += count
            cache.last.copy_(tokens[:, -1:])
        return x

    def bias(self, queries: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
        """Make what is added to the scores of attention (B or 1, H, Tq, Tk), by distance; -inf where none looks."""
        last = queries[..., :, None]
        distance = (last - keys[..., None, :]).clamp(min=0)
        distance, last = (x if x.dim() == 3 else x[None] for x in (distance, last))
        found = (
            alibi(distance, self.config.n_head) if self.config.positions == "alibi" else self.relative(distance, last)
        )
        if mask is None:
            mask = causal_mask(queries.shape[-1], keys.shape[-1], queries.device)
        return found.masked_fill(~mask, float("-inf"))

    def logits(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        scores = F.linear(x, self.token_embedding.weight) if self.config.tied else self.head(x)
        return softcapped(scores, self.config.logit_softcap)  # (B, T, V)

    def loss(self, x: Tensor, targets: Tensor, loss_weights: Tensor | None) -> Tensor:
        if not pieces.worth_it(x, self.config.vocab_size):
            return super().loss(x, targets, loss_weights)
        weights = None if loss_weights is None else loss_weights.flatten()
        flat, head = self.norm(x).flatten(0, -2), self.token_embedding if self.config.tied else self.head
        return pieces.Loss.apply(flat, head.weight, targets.flatten(), weights, self.config.logit_softcap)

    def new_cache(
        self,
        batch: int,
        length: int | None = None,
        starts: Tensor | None = None,
        positions: Tensor | None = None,  # (B, length)
    ) -> KVCache:
        like = next(self.parameters())
        length = length or self.config.block_size
        return KVCache(self.config.n_layer, batch, self.cache_heads, length, self.head_dim, like, starts, positions)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Initialise as GPT-2: normal with 0.02, what is added to the residual smaller by sqrt(2 layers), or zero."""
        for name, parameter in self.named_parameters():
            if name.startswith("relative"):
                self.relative.initialise(name.removeprefix("relative."), parameter, generator)
            elif name.endswith("bias"):
                parameter.zero_()
            elif parameter.dim() == 1:
                parameter.fill_(1.0)
            else:
                std = 0.02
                if name.endswith(("out.weight", "down.weight")):
                    std = 0.0 if self.config.zero_init else 0.02 / math.sqrt(2 * self.config.n_layer)
                parameter.copy_(torch.empty(parameter.shape).normal_(0.0, std, generator=generator))

    def treatment(self, name: str, parameter: nn.Parameter) -> Treatment:
        """Let matrices decay, and norms and biases not; between hidden layers lie the matrices of blocks."""
        first, *inner = name.split(".")
        is_matrix = parameter.dim() == 2
        if first == "blocks":
            return Treatment(int(inner[0]) + 1, is_matrix, self.parts.get(inner[-2], 1) if is_matrix else 0)
        return Treatment(
            0 if first.endswith("embedding") or first == "relative" else self.config.n_layer + 1, is_matrix, 0
        )

    def flops_per_token(self, length: int) -> int:
        """Count 6 × weights + 12 × layers × heads × head width × length: attention in full, though half is masked."""
        weights = sum(module.weight.numel() for module in self.modules() if isinstance(module, nn.Linear))
        if self.config.tied:  # then the head is no module of its own
            weights += self.token_embedding.weight.numel()
        return 6 * weights + 12 * self.config.n_layer * self.config.n_head * self.head_dim * length

    def compiled(self) -> Iterable[nn.Module]:
        return self.blocks
