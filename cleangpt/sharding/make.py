"""Make a model as a configuration asks: whole on each process, or divided among them."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from cleangpt.basics.errors import UserError
from cleangpt.config.experiment import Config
from cleangpt.machine import distributed
from cleangpt.machine.device import Compute
from cleangpt.models.build import build
from cleangpt.models.contract import LanguageModel
from cleangpt.optimizers import optim
from cleangpt.sharding.flat import Gradients

if TYPE_CHECKING:  # which loads FSDP2, and that takes long
    from cleangpt.sharding.divide import Divided


def make(config: Config, compute: Compute) -> "tuple[LanguageModel, Divided | None]":
    """Make the model, its weights not set yet. One process alone has it whole."""
    is_divided = config.train.shard == "full" and distributed.is_distributed()
    model = build(config.model, "meta" if is_divided else compute.device)
    optim.freeze(model, config.train.freeze)
    group = config.train.shard_group
    if not is_divided:
        return model, None
    if config.compile == "graphs":
        raise UserError("`compile` is graphs, which need a whole model: use another one with train.shard=full")
    from cleangpt.sharding.divide import divide, mesh_of

    return model, divide(model, compute, mesh_of(compute.device.type, group))


Context = Callable[[], AbstractContextManager[Any]]
Parts = tuple[optim.Optimizer, Any, Context, Context]


def parts(config: Config, model: LanguageModel, divided: "Divided | None", judge: Any, compute: Compute) -> Parts:
    """Make what trains a model, whole or divided: its optimizer and its gradients.

    And two contexts: one in which the judge judges a whole model, and one in which weights are set as if it were whole.
    """
    if divided is None:
        gradients = Gradients(optim.trained(model), compute.device)
        return optim.build(config.optimizer, model), gradients, nullcontext, nullcontext
    from cleangpt.sharding.gradients import DividedGradients
    from cleangpt.sharding.owners import Owners

    optimizer = optim.build(config.optimizer, divided, Owners(divided))
    vectors = [p.local for p in divided.pieces if p.local.requires_grad and not p.is_divided]
    sums = DividedGradients(divided, Gradients(vectors, compute.device))
    return optimizer, sums, partial(divided.judging, judge), divided.filling
