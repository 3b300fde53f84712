"""The contract of models, so that training, sampling, scoring and measuring need not know which model it is.

A model is a plain `nn.Module` of the class `LanguageModel`. Shapes: B sequences, T tokens, C width, V vocabulary.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Generic, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cleangpt.models.settings import ModelSettings


class Treatment(NamedTuple):
    """The treatment of a parameter by an optimizer."""

    depth: int  # 0: what reads tokens; 1: the first layer; one more than there are layers: what makes logits
    decays: bool  # whether weight decay acts on it
    matrices: int  # how many matrices between hidden layers lie in it, one above the other; 0: it is none


class Cache(ABC):
    """The memory of a model, to go on without reading the same tokens again."""

    length: int  # columns that were read, padding included

    @abstractmethod
    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only, (n,) numbers of rows; one may stand there several times."""


C = TypeVar("C", bound=Cache)


class LanguageModel(nn.Module, ABC, Generic[C]):
    """A model from tokens to logits. What is abstract here, or has a default to be replaced, is what a model says.

    One that `reads_positions` takes `positions` in `hidden` and `new_cache`; others are never given any.
    """

    reads_positions: bool = False  # whether a task may say which position a token has
    trimmed: tuple[str, ...] = ()  # weights of others that may have more rows, of which it takes the first
    config: ModelSettings  # in a model's own file its `Settings`

    def __init__(self, config: ModelSettings):
        super().__init__()
        self.config = config
        self.checkpointing = False  # recompute activations in the backward pass

    # ---- what it computes

    @abstractmethod
    def hidden(self, tokens: Tensor, cache: C | None = None, documents: Tensor | None = None, since: int = 0) -> Tensor:
        """Read tokens (B, T), and return what `logits` needs (B, T - since, C) of those from `since` on.

        With a cache, they follow those that it remembers, and it remembers them too. With `documents` (B, T), the
        number of each token's document, nothing is known of tokens of other documents.
        """

    @abstractmethod
    def logits(self, x: Tensor) -> Tensor:
        """Turn (B, T, C) that `hidden` left into (B, T, V), of the token that follows each."""

    @abstractmethod
    def new_cache(self, batch: int, length: int | None = None, starts: Tensor | None = None) -> C:
        """Make an empty memory. `length` columns are going to be read at most, by default as many as the context has.

        Rows of different lengths end in the same column: `starts` (B,) says how many columns of padding come first.
        """

    def forward(
        self,
        tokens: Tensor,  # (B, T)
        targets: Tensor | None = None,  # (B, T)
        loss_weights: Tensor | None = None,  # (B, T)
        cache: C | None = None,
        documents: Tensor | None = None,  # (B, T)
        since: int = 0,
        positions: Tensor | None = None,  # (B, T)
    ) -> Tensor:
        """Compute logits (B, T - since, V), or, with targets, the sum of their weighted losses."""
        told = {} if positions is None else {"positions": positions}
        x = self.hidden(tokens, cache, documents, since, **told)
        return self.logits(x) if targets is None else self.loss(x, targets, loss_weights)

    def loss(self, x: Tensor, targets: Tensor, loss_weights: Tensor | None) -> Tensor:
        """Sum the weighted losses, in float32, of what `hidden` left.

        Whoever calls divides by the weight of the whole step.
        """
        losses = F.cross_entropy(self.logits(x).flatten(0, -2).float(), targets.flatten(), reduction="none")
        return losses.sum() if loss_weights is None else (losses * loss_weights.flatten()).sum()

    def following(self, tokens: Tensor, cache: C) -> Tensor:
        """Score the token after the last one of tokens (B, T): logits (B, V)."""
        return self.logits(self.hidden(tokens, cache)[:, -1])

    # ---- what it says of itself

    @abstractmethod
    def initialise(self, generator: torch.Generator) -> None:
        """Set all parameters, drawn on the CPU and in a fixed order, so that a seed means the same on any device."""

    @abstractmethod
    def treatment(self, name: str, parameter: nn.Parameter) -> Treatment:
        """Say how an optimizer treats this parameter of `named_parameters`."""

    @abstractmethod
    def flops_per_token(self, length: int) -> int:
        """Count the arithmetic of a training step, for each token of a sequence of this length.

        That is forward 2 and backward 4 for each number that a matmul multiplies a token's activations by. The head
        counts once, tied or not, and embedding tables never. Recomputed activations are no work of the model's, and
        padding is none either.
        """

    def compiled(self) -> Iterable[nn.Module]:
        """Name the modules that torch.compile makes faster in training: one of each kind is compiled, if alike."""
        return ()
