"""Muon for the matrices between hidden layers, and AdamW for everything else.

Jordan et al., "Muon", 2024: the mean gradient of a matrix is orthogonalised, so that an update moves all its
directions alike. Matrices of one shape lie in one stack, and a step is a few batched products, not a loop over them.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from cleangpt.basics.schema import Derived, Open
from cleangpt.optimizers.settings import AdamSettings


class Settings(AdamSettings):
    name: Literal["muon"] = Field(description="the optimizer")
    matrix_lr: Annotated[Open[float], Derived(("lr",), lambda lr: 2 * lr)] = Field(
        gt=0, description="peak learning rate of the matrices, which moves as schedule.lr does; null: twice lr"
    )
    momentum: float = Field(ge=0, lt=1, description="decay of the mean gradient of a matrix")
    nesterov: bool = Field(description="look ahead: mix the gradient of this step into the mean once more")
    ns_steps: int = Field(ge=1, le=20, description="Newton-Schulz steps that orthogonalise an update")


import torch
from torch import Tensor, nn

from cleangpt.optimizers.adamw import AdamW

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the polynomial that pulls singular values towards 1


def orthogonal(x: Tensor, steps: int) -> Tensor:
    """Bring the singular values of each matrix of x (n, A, B) near 1, by Newton and Schulz."""
    turned = x.shape[1] > x.shape[2]
    x = x.mT if turned else x
    if x.is_cuda:
        x = x.bfloat16()
    x = x / torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True).clamp(min=1e-7)
    exact = x.dtype == torch.float32 and steps <= 5
    x = _by_gram(x, steps) if exact and x.shape[2] >= 2 * x.shape[1] else _by_itself(x, steps)
    return x.mT if turned else x


def _by_itself(x: Tensor, steps: int) -> Tensor:
    for _ in range(steps):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, _polynomial(gram), x, beta=COEFFICIENTS[0])
    return x


def _by_gram(x: Tensor, steps: int) -> Tensor:
    """Do the same for wide matrices in half the time, on x·xᵀ alone, by which each step multiplies x.

    Rounding adds up faster this way: to a ten-thousandth in float32 and five steps.
    """
    gram = torch.bmm(x, x.mT)
    whole = factor = _factor(gram)
    for _ in range(steps - 1):
        gram = torch.bmm(torch.bmm(factor, gram), factor)
        factor = _factor(gram)
        whole = torch.bmm(factor, whole)
    return torch.bmm(whole, x)


def _factor(gram: Tensor) -> Tensor:
    factor = _polynomial(gram)
    factor.diagonal(dim1=1, dim2=2).add_(COEFFICIENTS[0])
    return factor


def _polynomial(gram: Tensor) -> Tensor:
    return torch.baddbmm(gram, gram, gram, beta=COEFFICIENTS[1], alpha=COEFFICIENTS[2])


class Stack:
    """Matrices of one shape, with one learning rate."""

    def __init__(self, parameters: list[tuple[nn.Parameter, int]]):
        """Parameters and how many matrices each of them is."""
        self.matrices = [part for parameter, parts in parameters for part in parameter.detach().chunk(parts)]
        self.parameters = parameters
        self.momentum = torch.zeros((len(self.matrices), *self.matrices[0].shape), device=self.matrices[0].device)
        pieces = self.momentum.split([parts for _, parts in parameters])
        self.views = [piece.view_as(p) for piece, (p, _) in zip(pieces, parameters, strict=True)]

    def step(self, lr: float, weight_decay: float, momentum: float, nesterov: bool, ns_steps: int) -> None:
        grads = [(p.grad, parts) for p, parts in self.parameters]
        gradients = torch.stack([part for grad, parts in grads if grad is not None for part in grad.chunk(parts)])
        self.momentum.lerp_(gradients, 1 - momentum)
        update = orthogonal(gradients.lerp_(self.momentum, momentum) if nesterov else self.momentum, ns_steps)
        rows, columns = update.shape[1:]
        scale = max(1, rows / columns) ** 0.5  # a change of the output that is as large for any shape
        torch._foreach_mul_(self.matrices, 1 - lr * weight_decay)
        torch._foreach_add_(self.matrices, list(update.to(self.momentum.dtype).unbind()), alpha=-lr * scale)


class Muon:
    """Both optimizers behind what a training needs of one: groups, state and a step."""

    divides = True

    def __init__(self, config: Settings, groups: list[dict[str, Any]]):
        self.config, self.owners = config, groups[0].get("owners")
        self.state: dict[nn.Parameter, dict[str, Tensor]] = {}
        self.param_groups: list[dict[str, Any]] = []
        self.stacks: list[list[Stack]] = []  # of each group
        others = []
        for group in groups:
            both = list(zip(group["params"], group["matrices"], strict=True))
            if matrices := [(p, parts) for p, parts in both if parts]:
                scale = group["lr_scale"] * config.matrix_lr / config.lr
                self.param_groups.append({**group, "params": [p for p, _ in matrices], "lr_scale": scale})
                self.stacks.append(self._stacked(matrices))
            if rest := [p for p, parts in both if not parts]:
                others.append({**group, "params": rest, "matrices": [0] * len(rest)})
        self.adamw = AdamW(config, others) if others else None
        if self.adamw:
            self.state |= self.adamw.state
            self.param_groups += others

    def _stacked(self, matrices: list[tuple[nn.Parameter, int]]) -> Any:
        by_shape: dict[tuple[int, int], list[tuple[nn.Parameter, int]]] = {}
        for p, parts in matrices:
            rows = self.owners.rows(p) if self.owners else p.shape[0]
            by_shape.setdefault((rows // parts, p.shape[1]), []).append((p, parts))
        every = by_shape.values()
        stacks = [self.owners.stack(some, orthogonal) if self.owners else Stack(some) for some in every]
        for stack in stacks:
            views = zip(stack.parameters, stack.views, strict=True)
            self.state |= {p: {"momentum": view} for (p, _), view in views}
        return stacks

    @torch.no_grad()
    def step(self) -> None:
        config = self.config
        for group, stacks in zip(self.param_groups, self.stacks, strict=False):  # those of AdamW come after
            for stack in stacks:
                stack.step(group["lr"], group["weight_decay"], config.momentum, config.nesterov, config.ns_steps)
        if self.adamw:
            self.adamw.step()


Optimizer = Muon
