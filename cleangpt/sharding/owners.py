"""Matrices that lie in rows on several processes, each brought whole to one of them for a moment.

Matrix k goes to process k modulo their number, by one exchange; its rows go back by another.
"""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cleangpt.sharding.divide import Divided
from cleangpt.sharding.parts import rows_of


class Owners:
    """The exchange of the matrices of a model that is divided."""

    def __init__(self, divided: Divided):
        self.group = divided.group
        self.count, self.place = dist.get_world_size(self.group), dist.get_rank(self.group)
        self.whole_rows = {piece.local: piece.parameter.shape[0] for piece in divided.pieces}

    def stack(self, parameters: list[tuple[nn.Parameter, int]], work: Callable[[Tensor, int], Tensor]) -> "OwnedStack":
        """Make a stack of matrices of one shape, of which an update is worked on whole."""
        return OwnedStack(parameters, work, self)

    def rows(self, parameter: nn.Parameter) -> int:
        """Count the rows of a parameter that lie anywhere."""
        return self.whole_rows[parameter]

    def apply(
        self, parameters: list[nn.Parameter], values: list[Tensor], parts: list[int], work: Callable[[Tensor], Tensor]
    ) -> list[Tensor]:
        """Apply `work` (n, A, B) to values that are divided as parameters are, each of so many matrices; the rows here.

        The parameters have matrices of one shape.
        """
        owners = [number % self.count for number in range(len(values))]
        order = sorted(range(len(values)), key=owners.__getitem__)
        mine = [number for number in order if owners[number] == self.place]
        width = values[0].shape[1]
        sizes = {
            (number, place): (lambda rows: (rows[1] - rows[0]) * width)(
                rows_of(self.rows(parameters[number]), place, self.count)
            )
            for number in order
            for place in range(self.count)
        }
        there = [sum(sizes[n, self.place] for n in order if owners[n] == place) for place in range(self.count)]
        here = [sum(sizes[n, place] for n in mine) for place in range(self.count)]
        sent = torch.cat([values[number].reshape(-1) for number in order])
        came = torch.empty(sum(here), dtype=sent.dtype, device=sent.device)
        dist.all_to_all_single(came, sent, here, there, group=self.group)
        pieces = iter(came.split([sizes[n, place] for place in range(self.count) for n in mine]))
        rows: dict[int, list[Tensor]] = {number: [] for number in mine}
        for _ in range(self.count):
            for number in mine:
                rows[number].append(next(pieces).view(-1, width))
        back = came
        if mine:
            matrices = [part for number in mine for part in torch.cat(rows[number]).chunk(parts[number])]
            done = work(torch.stack(matrices)).to(sent.dtype)
            wholes = iter(torch.cat(list(group)) for group in done.split([parts[number] for number in mine]))
            cut: dict[tuple[int, int], Tensor] = {}
            for number in mine:
                whole = next(wholes)
                for place in range(self.count):
                    first, end = rows_of(len(whole), place, self.count)
                    cut[number, place] = whole[first:end].reshape(-1)
            back = torch.cat([cut[number, place] for place in range(self.count) for number in mine])
        found = torch.empty_like(sent)
        dist.all_to_all_single(found, back, there, here, group=self.group)
        by_number = dict(zip(order, found.split([sizes[n, self.place] for n in order]), strict=True))
        return [by_number[number].view(-1, width) for number in range(len(values))]


class OwnedStack:
    """Matrices of one shape, with one learning rate, of which each process holds some rows: Muon's step for them."""

    def __init__(
        self, parameters: list[tuple[nn.Parameter, int]], work: Callable[[Tensor, int], Tensor], owners: Owners
    ):
        self.parameters, self.work, self.owners = parameters, work, owners
        self.views = [torch.zeros_like(parameter) for parameter, _ in parameters]  # the mean gradients

    def step(self, lr: float, weight_decay: float, momentum: float, nesterov: bool, steps: int) -> None:
        parameters, parts = [p for p, _ in self.parameters], [count for _, count in self.parameters]
        gradients = [p.grad.clone() for p in parameters if p.grad is not None]
        torch._foreach_lerp_(self.views, gradients, 1 - momentum)
        if nesterov:
            torch._foreach_lerp_(gradients, self.views, momentum)
        mixed = gradients if nesterov else self.views
        updates = self.owners.apply(parameters, mixed, parts, lambda stack: self.work(stack, steps))
        rows, columns = self.owners.rows(parameters[0]) // parts[0], parameters[0].shape[1]
        own = [parameter.detach() for parameter in parameters]
        torch._foreach_mul_(own, 1 - lr * weight_decay)
        torch._foreach_add_(own, updates, alpha=-lr * max(1, rows / columns) ** 0.5)
