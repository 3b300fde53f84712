"""The memory of attention: keys and values of the tokens that were read."""

import torch
from torch import Tensor

from cleangpt.models.attention import causal_mask
from cleangpt.models.contract import Cache


class KVCache(Cache):
    """Keys and values of the tokens that were read, for all layers, in memory that is taken once.

    Rows of different lengths end in the same column: `starts` (B,) says how many columns of padding stand before
    each. Positions count from there, and no token looks at the padding.
    """

    def __init__(
        self,
        layers: int,
        batch: int,
        heads: int,
        columns: int,
        width: int,
        like: Tensor,
        starts: Tensor | None = None,
        positions: Tensor | None = None,  # (B, columns) where they do not simply count
    ):
        shape = (2, layers, batch, heads, columns, width)
        # One query's attention in bfloat16 takes three to ten times as long as in float32 on a CPU.
        dtype = torch.float32 if like.device.type == "cpu" else like.dtype
        self.memory = torch.empty(shape, dtype=dtype, device=like.device)
        self.length = 0  # columns that were read
        self.last = torch.zeros(batch, 1, dtype=torch.int64, device=like.device)  # the token in the last of them
        self.positions = torch.arange(columns, device=like.device)  # (columns,) or (B, columns)
        self.real: Tensor | None = None  # (B, 1, 1, columns) True where a column is no padding
        if starts is not None:
            self.positions = self.positions - starts[:, None]
            self.real = (self.positions >= 0)[:, None, None]
            self.positions = self.positions.clamp(min=0)
        if positions is not None:
            self.positions = positions
        self.tables: tuple[Tensor, ...] = ()  # (…, columns, D) each, what an architecture looks up by position

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keep k and v (B, G, T, D) behind those before, and return all. `length` moves on after the last layer."""
        keys, values = self.memory[0, layer], self.memory[1, layer]
        end = self.length + k.shape[2]
        keys[:, :, self.length : end] = k
        values[:, :, self.length : end] = v
        return keys[:, :, :end], values[:, :, :end]

    def next_positions(self, count: int) -> Tensor:
        """Give the tokens that are read next their positions, (count,) or (B, count)."""
        return self.positions[..., self.length : self.length + count]

    def next_of_tables(self, count: int) -> tuple[Tensor, ...]:
        return tuple(table[..., self.length : self.length + count, :] for table in self.tables)

    def mask(self, count: int) -> Tensor | None:
        """Mask what the next tokens may look at (B, 1, count, columns); None: back, as always.

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
            self.real = self.real[rows]
        if self.positions.dim() == 2:
            self.positions = self.positions[rows]
            self.tables = tuple(table[rows] for table in self.tables)
