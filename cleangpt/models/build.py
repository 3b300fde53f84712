"""Models from their settings, and how many parameters they have."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from cleangpt.basics import found
from cleangpt.basics.errors import UserError
from cleangpt.models.contract import LanguageModel
from cleangpt.models.settings import ModelSettings


class Unset(TorchFunctionMode):
    """Modules that are made do not draw weights: ours come later, and torch would load its compiler to do it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == torch.nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def build(config: ModelSettings, device: torch.device | str = "cpu") -> LanguageModel:
    """Make the model of these (resolved) settings, its weights not set yet."""
    with torch.device(device), Unset():
        return found.module_of(type(config)).Model(config)


def parameter_counts(model: LanguageModel) -> dict[str, int]:
    """Count the weights: all of them, those that are no embeddings, and those that are not frozen."""
    total = sum(p.numel() for p in model.parameters())
    embeddings = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Embedding))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {"total": total, "without_embeddings": total - embeddings, "trained": trained}


# What torch says of more numbers in one tensor than it can count.
UNCOUNTABLE = ("overflow", "Overflow", "argument 'size'", "must be tuple of ints")


def count_parameters(config: ModelSettings) -> int:
    """Count the weights of a model of these (resolved) settings, without making any.

    Of many layers, which are all alike, no more than three are looked at.
    """
    few = [config.model_copy(update={"n_layer": count}) for count in (2, 3) if count < config.n_layer]
    try:
        counts = [parameter_counts(build(smaller, "meta"))["total"] for smaller in (few if few[1:] else [config])]
    except (RuntimeError, OverflowError, TypeError) as error:
        if not any(word in str(error) for word in UNCOUNTABLE):
            raise
        raise UserError("the model is larger than any memory: lower model.n_embd or model.vocab_size") from None
    return counts[0] + (config.n_layer - 2) * (counts[1] - counts[0]) if counts[1:] else counts[0]
