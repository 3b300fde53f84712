"""Which parameters are trained, in groups, and by what. Matrices decay; norms and biases do not."""

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from cleangpt.config import AdamWConfig, MuonConfig
from cleangpt.errors import UserError
from cleangpt.muon import Muon


def freeze(model: nn.Module, patterns: list[str]) -> None:
    """Leave the parameters that a pattern names out of training: `token_embedding`, `blocks.0`, `blocks.*.mlp`."""
    names = [name for name, _ in model.named_parameters()]
    unused = [pattern for pattern in patterns if not any(_names(pattern, name) for name in names)]
    if unused:
        parts = sorted({name.partition(".")[0] for name in names})
        raise UserError(
            f"`train.freeze` holds {unused[0]!r}, which no parameter is called: there are {', '.join(parts)}, and in "
            f"each block names like {next((name for name in names if '.' in name.removeprefix('blocks.')), names[0])}"
        )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not any(_names(pattern, name) for pattern in patterns))
    if not trained(model):
        raise UserError(f"`train.freeze` is {', '.join(patterns)}, which leaves nothing to train: name fewer")


def _names(pattern: str, name: str) -> bool:
    """Whether a pattern names a parameter, or a module that it lies in."""
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:length]), pattern) for length in range(1, len(parts) + 1))


def trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def parameter_groups(model: nn.Module, layer_decay: float = 1.0) -> list[dict]:
    """Parameters that decay and others that never do, whatever today's weight decay is.

    With a layer decay each depth has groups of its own, whose learning rate is `lr_scale` times that of the head.
    """
    depth = len(model.blocks) + 1 if layer_decay != 1 else 0
    groups: dict[tuple[float, bool], dict] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            scale = layer_decay ** (depth - _layer(name, depth))
            key = (scale, parameter.dim() >= 2)
            group = groups.setdefault(key, {"params": [], "decays": key[1], "lr_scale": scale})
            group["params"].append(parameter)
    return sorted(groups.values(), key=lambda group: not group["decays"])


def _layer(name: str, depth: int) -> int:
    """How far up a parameter is: 0 for embeddings, 1 for the first block, `depth` for the last norm and head."""
    first, *rest = name.split(".")
    if first == "blocks":
        return min(int(rest[0]) + 1, depth)
    return 0 if first.endswith("embedding") else depth


def adamw(config: AdamWConfig, model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        parameter_groups(model, config.layer_decay),
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=0.0,
        fused=True,
    )


def muon(config: MuonConfig, model: nn.Module) -> Muon:
    return Muon(model, parameter_groups(model, config.layer_decay), config)


OPTIMIZERS: dict[str, Callable] = {"adamw": adamw, "muon": muon}


def build(config: AdamWConfig | MuonConfig, model: nn.Module) -> torch.optim.Optimizer | Muon:
    optimizer = OPTIMIZERS[config.name](config, model)
    set_schedule(optimizer, config.lr, config.weight_decay)
    return optimizer


def set_schedule(optimizer: torch.optim.Optimizer | Muon, lr: float, weight_decay: float) -> None:
    """What the next step uses."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
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
