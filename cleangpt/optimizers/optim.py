"""Choose which parameters are trained, in groups, and by what. How each is treated, its model says."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, Protocol

from torch import Tensor, nn

from cleangpt.basics import found
from cleangpt.basics.errors import UserError
from cleangpt.optimizers.settings import OptimizerSettings


def freeze(model: nn.Module, patterns: list[str]) -> None:
    """Leave the parameters that a pattern names out of training: `token_embedding`, `blocks.0`, `blocks.*.mlp`."""
    names = [name for name, _ in model.named_parameters()]
    unused = [pattern for pattern in patterns if not any(_names(pattern, name) for name in names)]
    if unused:
        parts = sorted({name.partition(".")[0] for name in names})
        raise UserError(
            f"`train.freeze` holds {unused[0]!r}, which no parameter is called: there are {', '.join(parts)}, and in "
            f"them names like {max(names, key=lambda name: name.count('.'))}"
        )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not any(_names(pattern, name) for pattern in patterns))
    if not trained(model):
        raise UserError(f"`train.freeze` is {', '.join(patterns)}, which leaves nothing to train: name fewer")


def _names(pattern: str, name: str) -> bool:
    """Test whether a pattern names a parameter, or a module that it lies in."""
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:length]), pattern) for length in range(1, len(parts) + 1))


def trained(model: nn.Module) -> list[nn.Parameter]:
    """List the parameters that are not frozen."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


class Treated(Protocol):
    """A model that says of each parameter its depth, whether it decays, and how many matrices lie in it."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...

    def treatment(self, name: str, parameter: nn.Parameter) -> tuple[int, bool, int]: ...


def parameter_groups(model: Treated, layer_decay: float) -> list[dict[str, Any]]:
    """Put parameters that decay, and others that never do, into groups, whatever today's weight decay is.

    With a layer decay each depth has groups of its own, whose learning rate is `lr_scale` times that of the head.
    """
    treated = [(p, model.treatment(name, p)) for name, p in model.named_parameters()]
    deepest = max(depth for _, (depth, _, _) in treated)
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for parameter, (depth, decays, matrices) in treated:
        if parameter.requires_grad:
            scale = layer_decay ** (deepest - depth)
            empty: dict[str, Any] = {"params": [], "matrices": [], "decays": decays, "lr_scale": scale}
            group = groups.setdefault((scale, decays), empty)
            group["params"].append(parameter)
            group["matrices"].append(matrices)
    return sorted(groups.values(), key=lambda group: not group["decays"])


class Optimizer(Protocol):
    """An optimizer as a training needs it, made from its settings and from groups of parameters.

    A group has `params`, and in the same order `matrices`, how many matrices between hidden layers lie in each, 0 where
    it is none. At each step its `lr` and `weight_decay` are set to what the step shall use. One that says `divides =
    True` may have some rows of each matrix, and finds `owners` in its groups, which bring matrices together.
    """

    param_groups: list[dict[str, Any]]
    state: dict[nn.Parameter, dict[str, Tensor]]  # what is remembered of each parameter: snapshots keep it

    def step(self) -> None: ...


def build(config: OptimizerSettings, model: Treated, owners: Any = None) -> Optimizer:
    """Make the optimizer of these (resolved) settings for a model.

    Of a model that is divided the parameters are the rows that lie here, and `owners` brings matrices together.
    """
    groups = parameter_groups(model, config.layer_decay)
    kind = found.module_of(type(config)).Optimizer
    if owners is not None:
        if not getattr(kind, "divides", False):
            raise UserError(f"optimizer={config.name} does not say that it can be divided: use train.shard=none")
        groups = [{**group, "owners": owners} for group in groups]
    optimizer = kind(config, groups)
    set_schedule(optimizer, config.lr, config.weight_decay)
    return optimizer


def set_schedule(optimizer: Optimizer, lr: float, weight_decay: float) -> None:
    """Set what the next step uses."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
        group["weight_decay"] = weight_decay if group["decays"] else 0.0
