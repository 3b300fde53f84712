"""Parameter groups and optimizers. Matrices decay; norms and biases do not."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from cleangpt.config import AdamWConfig


def parameter_groups(model: nn.Module) -> list[dict]:
    """The group that decays and the one that never does, whatever today's weight decay is."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.dim() >= 2], "decays": True},
        {"params": [p for p in parameters if p.dim() < 2], "decays": False},
    ]


def adamw(config: AdamWConfig, model: nn.Module) -> torch.optim.Optimizer:
    groups = [group for group in parameter_groups(model) if group["params"]]
    return torch.optim.AdamW(
        groups, lr=config.lr, betas=(config.beta1, config.beta2), eps=config.eps, weight_decay=0.0, fused=True
    )


OPTIMIZERS: dict[str, Callable[[AdamWConfig, nn.Module], torch.optim.Optimizer]] = {"adamw": adamw}


def build(config: AdamWConfig, model: nn.Module) -> torch.optim.Optimizer:
    optimizer = OPTIMIZERS[config.name](config, model)
    set_schedule(optimizer, config.lr, config.weight_decay)
    return optimizer


def set_schedule(optimizer: torch.optim.Optimizer, lr: float, weight_decay: float) -> None:
    """What the next step uses."""
    for group in optimizer.param_groups:
        group["lr"] = lr
        group["weight_decay"] = weight_decay if group["decays"] else 0.0


class Gradients:
    """All gradients of a model in one flat buffer, with a few sums of the step behind them.

    One buffer makes one all-reduce a step, which carries the sums as well; one kernel for the norm, one for
    the scale; and an order of reduction that never changes, so that a resumed run has the same bits as one
    that went on. (DistributedDataParallel lays its buckets out anew after the first backward pass.)
    """

    SUMS = ("loss", "weight", "tokens", "stop", "incomplete")
    ALIGN = 16  # elements: each gradient begins where vector instructions like it

    def __init__(self, parameters: Iterable[nn.Parameter]):
        parameters = list(parameters)
        sizes = [-(-p.numel() // self.ALIGN) * self.ALIGN for p in parameters]
        device = parameters[0].device
        self.buffer = torch.zeros(sum(sizes) + len(self.SUMS), dtype=torch.float32, device=device)
        self.flat, self.sums = self.buffer[: sum(sizes)], self.buffer[sum(sizes) :]
        start = 0
        for parameter, size in zip(parameters, sizes, strict=True):
            parameter.grad = self.flat[start : start + parameter.numel()].view_as(parameter)
            start += size

    def zero(self) -> None:
        self.buffer.zero_()

    def norm(self) -> Tensor:
        return torch.linalg.vector_norm(self.flat)
