"""Muon for the matrices of the blocks, and AdamW for everything else.

Jordan et al., "Muon", 2024: the mean gradient of a matrix is orthogonalised, so that an update moves all its
directions alike. Matrices of one shape lie in one stack, and a step is a few batched products, not a loop over them.
"""

from typing import Any

import torch
from torch import Tensor, nn

from cleangpt.config import MuonConfig

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the polynomial that pulls singular values towards 1
PARTS = {"qkv": 3}  # matrices that are several in one: queries, keys and values


def is_matrix(name: str, parameter: Tensor) -> bool:
    """What Muon trains: the linear layers within blocks."""
    return name.startswith("blocks.") and parameter.dim() == 2 and "embedding" not in name


def orthogonal(x: Tensor, steps: int) -> Tensor:
    """Each matrix of x (n, A, B) with singular values near 1 in the place of its own, by Newton and Schulz."""
    a, b, c = COEFFICIENTS
    turned = x.shape[1] > x.shape[2]
    x = x.mT if turned else x
    if x.is_cuda:
        x = x.bfloat16()
    x = x / torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if turned else x


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
        gradients = torch.stack([part for p, parts in self.parameters for part in p.grad.chunk(parts)])
        self.momentum.lerp_(gradients, 1 - momentum)
        update = orthogonal(gradients.lerp_(self.momentum, momentum) if nesterov else self.momentum, ns_steps)
        rows, columns = update.shape[1:]
        scale = max(1, rows / columns) ** 0.5  # a change of the output that is as large for any shape
        torch._foreach_mul_(self.matrices, 1 - lr * weight_decay)
        torch._foreach_add_(self.matrices, list(update.to(self.momentum.dtype).unbind()), alpha=-lr * scale)


class Muon:
    """Both optimizers behind what a training needs of one: groups, state, a step, and the state in and out."""

    def __init__(self, model: nn.Module, groups: list[dict[str, Any]], config: MuonConfig):
        names = {parameter: name for name, parameter in model.named_parameters()}
        self.config = config
        self.state: dict[nn.Parameter, dict[str, Tensor]] = {}
        self.param_groups: list[dict[str, Any]] = []
        self.stacks: list[list[Stack]] = []  # of each group; none where AdamW trains it
        for group in groups:
            matrices = [p for p in group["params"] if is_matrix(names[p], p)]
            others = [p for p in group["params"] if not is_matrix(names[p], p)]
            if matrices:
                scale = group["lr_scale"] * config.matrix_lr / config.lr
                self.param_groups.append({**group, "params": matrices, "lr_scale": scale})
                self.stacks.append(self._stacked(matrices, names))
            if others:
                self.param_groups.append({**group, "params": others})
                self.stacks.append([])
                self.state |= {p: first_state(p) for p in others}

    def _stacked(self, matrices: list[nn.Parameter], names: dict[nn.Parameter, str]) -> list[Stack]:
        by_shape: dict[tuple[int, int], list[tuple[nn.Parameter, int]]] = {}
        for p in matrices:
            parts = PARTS.get(names[p].split(".")[-2], 1)
            by_shape.setdefault((p.shape[0] // parts, p.shape[1]), []).append((p, parts))
        stacks = [Stack(parameters) for parameters in by_shape.values()]
        for stack in stacks:
            views = zip(stack.parameters, stack.views, strict=True)
            self.state |= {p: {"momentum": view} for (p, _), view in views}
        return stacks

    @torch.no_grad()
    def step(self) -> None:
        config = self.config
        for group, stacks in zip(self.param_groups, self.stacks, strict=True):
            for stack in stacks:
                stack.step(group["lr"], group["weight_decay"], config.momentum, config.nesterov, config.ns_steps)
            if not stacks:
                adamw_step(group, self.state, config.beta1, config.beta2, config.eps)

    def state_dict(self) -> dict[str, Any]:
        """As torch's optimizers have it: parameters are numbered in the order of the groups."""
        numbers = {p: number for number, p in enumerate(p for group in self.param_groups for p in group["params"])}
        groups = [{**group, "params": [numbers[p] for p in group["params"]]} for group in self.param_groups]
        return {"state": {numbers[p]: state for p, state in self.state.items()}, "param_groups": groups}

    def load_state_dict(self, stored: dict[str, Any]) -> None:
        parameters = [p for group in self.param_groups for p in group["params"]]
        for number, tensors in stored["state"].items():
            for key, tensor in tensors.items():
                self.state[parameters[number]][key].copy_(tensor)
        for group, other in zip(self.param_groups, stored["param_groups"], strict=True):
            group |= {key: value for key, value in other.items() if key != "params"}


def first_state(parameter: Tensor) -> dict[str, Tensor]:
    """What AdamW remembers of a parameter, at first."""
    zeros = {name: torch.zeros_like(parameter, requires_grad=False) for name in ("exp_avg", "exp_avg_sq")}
    return {"step": torch.zeros((), dtype=torch.float32, device=parameter.device), **zeros}


def adamw_step(group: dict[str, Any], state: dict[Any, dict], beta1: float, beta2: float, eps: float) -> None:
    """One step of AdamW by the fused kernel, in place."""
    parameters = group["params"]
    states = [state[p] for p in parameters]
    steps = [s["step"] for s in states]
    torch._foreach_add_(steps, 1)
    torch._fused_adamw_(
        parameters,
        [p.grad for p in parameters],
        [s["exp_avg"] for s in states],
        [s["exp_avg_sq"] for s in states],
        [],
        steps,
        lr=group["lr"],
        beta1=beta1,
        beta2=beta2,
        weight_decay=group["weight_decay"],
        eps=eps,
        amsgrad=False,
        maximize=False,
        grad_scale=None,
        found_inf=None,
    )
