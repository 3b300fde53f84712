"""A recurrent network: torch's own LSTM, one layer above the other, with dropout between them.

Hochreiter & Schmidhuber, "Long Short-Term Memory", 1997; dropout where Zaremba et al., "Recurrent Neural Network
Regularization", 2014, have it. A token costs the same however long the text before it is: what was read is a state.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import ClassVar, Literal

from pydantic import Field

from cleangpt.models.settings import ModelSettings


class Settings(ModelSettings):
    not_in_weights: ClassVar[tuple[str, ...]] = ("dropout", "block_size")

    name: Literal["lstm"] = Field(description="the architecture")
    dropout: float = Field(ge=0, lt=1, description="probability of dropout, before each layer and the head")
    tied: bool = Field(description="one matrix for the embedding and the head")

    @property
    def context(self) -> int | None:
        return None  # there are no positions: a text simply goes on


import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cleangpt.models.contract import Cache, LanguageModel, Treatment


class State(Cache):
    """The state of each layer after what was read."""

    def __init__(self, layers: int, batch: int, width: int, like: Tensor, starts: Tensor | None):
        self.length = 0
        self.starts = starts  # (B,) columns of padding before each row
        self.last_start = 0 if starts is None else int(starts.max())
        self.hidden, self.cell = like.new_zeros(2, layers, batch, width)

    def begins(self, count: int) -> Tensor | None:
        """Mark where a row begins among the next columns (B, count); None: in none of them."""
        if self.starts is None or self.length > self.last_start:
            return None
        columns = torch.arange(self.length, self.length + count, device=self.starts.device)
        return columns == self.starts[:, None]

    def keep(self, rows: Tensor) -> None:
        self.hidden, self.cell = self.hidden[:, rows], self.cell[:, rows]
        self.starts = None if self.starts is None else self.starts[rows]


@cache
def not_on_this_processor() -> frozenset[torch.dtype]:
    """Name the dtypes that torch has no LSTM for on this processor, which depends on its instructions."""
    layer = nn.LSTM(8, 8, device="meta").to_empty(device="cpu")  # draws no number
    x = torch.zeros(1, 1, 8, device="cpu")
    missing = set()
    for dtype in (torch.bfloat16, torch.float16):
        try:
            with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
                layer(x)
        except RuntimeError:
            missing.add(dtype)
    return frozenset(missing)


def cuts_before(begins: Tensor) -> list[tuple[int, Tensor]]:
    """List the columns of (B, T) in which any row begins, each with (B, 1) False for the rows that do."""
    return [(column, ~begins[:, column, None]) for column in begins.any(dim=0).nonzero().flatten().tolist()]


def read(
    layer: nn.Module, x: Tensor, hidden: Tensor, cell: Tensor, cuts: list[tuple[int, Tensor]]
) -> tuple[Tensor, Tensor, Tensor]:
    """Read x (B, T, C) by a layer from its state, (B, C) each; return (B, T, C), and the state after it.

    It forgets what it knows of a row where that row begins anew.
    """
    pieces: list[Tensor] = []
    start = 0
    for stop, goes_on in [*cuts, (x.shape[1], None)]:
        if start < stop:
            piece, (hidden, cell) = layer(x[:, start:stop], (hidden[None], cell[None]))
            pieces, start, hidden, cell = [*pieces, piece], stop, hidden[0], cell[0]
        if goes_on is not None:
            hidden, cell = hidden * goes_on, cell * goes_on
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1), hidden, cell


class LSTM(LanguageModel[State]):
    config: Settings

    def __init__(self, config: Settings):
        super().__init__(config)
        self.in_float32 = not_on_this_processor()
        self.token_embedding = nn.Embedding(config.vocab_size, config.n_embd)
        width = config.n_embd
        self.layers = nn.ModuleList(nn.LSTM(width, width, batch_first=True) for _ in range(config.n_layer))
        if not config.tied:
            self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)

    def hidden(
        self, tokens: Tensor, cache: State | None = None, documents: Tensor | None = None, since: int = 0
    ) -> Tensor:
        state = cache or self.new_cache(len(tokens))
        begins = state.begins(tokens.shape[1])
        if documents is not None:
            begins = documents.diff(dim=1, prepend=documents[:, :1]) != 0
        cuts = [] if begins is None else cuts_before(begins)
        x = self.token_embedding(tokens)  # (B, T, C)
        for number, layer in enumerate(self.layers):
            x = F.dropout(x, self.config.dropout, self.training)
            given = (layer, x, state.hidden[number], state.cell[number], cuts)
            with self.dtype_that_there_is(x):
                if self.checkpointing and self.training:
                    x, hidden, cell = checkpoint(read, *given, use_reentrant=False)
                else:
                    x, hidden, cell = read(*given)
            if cache:
                cache.hidden[number], cache.cell[number] = hidden, cell
        state.length += tokens.shape[1]
        return F.dropout(x, self.config.dropout, self.training)[:, since:]

    def dtype_that_there_is(self, x: Tensor) -> AbstractContextManager:
        """Compute in float32 what this processor can't in the dtype that was asked for."""
        device = x.device.type
        if (
            device == "cpu"
            and torch.is_autocast_enabled(device)
            and torch.get_autocast_dtype(device) in self.in_float32
        ):
            return torch.autocast(device, enabled=False)
        return nullcontext()

    def logits(self, x: Tensor) -> Tensor:
        return F.linear(x, self.token_embedding.weight) if self.config.tied else self.head(x)  # (B, T, V)

    def new_cache(self, batch: int, length: int | None = None, starts: Tensor | None = None) -> State:
        return State(self.config.n_layer, batch, self.config.n_embd, self.token_embedding.weight, starts)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw uniformly within ±1/sqrt(width), as torch's LSTM does; the forget gate begins open, with a bias of 1.

        Jozefowicz et al., "An Empirical Exploration of Recurrent Network Architectures", 2015.
        """
        bound = self.config.n_embd**-0.5
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))
                continue
            parameter.zero_()
            if name.endswith("bias_ih_l0"):
                parameter.view(4, -1)[1] = 1.0  # torch's order: input, forget, cell, output

    def treatment(self, name: str, parameter: nn.Parameter) -> Treatment:
        """Matrices decay, biases do not. Each matrix of a layer is four, one for each gate."""
        first, *inner = name.split(".")
        is_matrix = parameter.dim() == 2
        if first == "layers":
            return Treatment(int(inner[0]) + 1, is_matrix, 4 if is_matrix else 0)
        return Treatment(0 if first == "token_embedding" else self.config.n_layer + 1, is_matrix, 0)

    def flops_per_token(self, length: int) -> int:
        """6 × weights: each token meets each of them once."""
        of_layers = sum(p.numel() for p in self.layers.parameters() if p.dim() == 2)
        return 6 * (of_layers + self.token_embedding.weight.numel())  # the head is as large as the embedding


Model = LSTM
