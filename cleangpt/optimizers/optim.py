"""Which parameters are trained, in groups, and by what. Matrices decay; norms and biases do not."""

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Protocol

from torch import Tensor, nn

from cleangpt.basics.errors import UserError
from cleangpt.optimizers.adamw import AdamW
from cleangpt.optimizers.muon import Muon
from cleangpt.optimizers.settings import AdamWConfig, MuonConfig


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


class Optimizer(Protocol):
    """What a training needs of one; `state` holds what is remembered of each parameter, for snapshots."""

    param_groups: list[dict]
    state: dict[nn.Parameter, dict[str, Tensor]]

    def step(self) -> None: ...


def adamw(config: AdamWConfig, model: nn.Module) -> Optimizer:
    return AdamW(config, parameter_groups(model, config.layer_decay))


def muon(config: MuonConfig, model: nn.Module) -> Optimizer:
    return Muon(model, parameter_groups(model, config.layer_decay), config)


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adamw": adamw, "muon": muon}


def build(config: AdamWConfig | MuonConfig, model: nn.Module) -> Optimizer:
    optimizer = OPTIMIZERS[config.name](config, model)
    set_schedule(optimizer, config.lr, config.weight_decay)
    return optimizer


def set_schedule(optimizer: Optimizer, lr: float, weight_decay: float) -> None:
    """What the next step uses."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
        group["weight_decay"] = weight_decay if group["decays"] else 0.0
