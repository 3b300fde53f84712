"""Build the model that a training is compared with: our architecture and our weights in somebody else's code."""

from collections.abc import Callable

import torch
from torch import nn

from benchmark import litgpt_model, plain_model, transformers_model
from cleangpt.basics.errors import UserError
from cleangpt.models.build import build as build_ours
from cleangpt.models.contract import LanguageModel
from cleangpt.models.settings import ModelSettings

NAMES = {"plain": "plain loop", "transformers": "transformers", "litgpt": "litgpt"}
BUILD: dict[str, Callable[[LanguageModel], nn.Module]] = {
    "plain": plain_model.build,
    "transformers": transformers_model.Logits,
    "litgpt": litgpt_model.build,
}
DIFFERENCE = 1e-3  # of logits, in standard deviations


def build(against: str, ours: LanguageModel) -> nn.Module:
    """Build the peer's model with the weights of ours, in training mode: tokens (B, T) → logits (B, T, V)."""
    insist_on_equality(against, ours.config)
    return BUILD[against](ours).train()


@torch.no_grad()
def insist_on_equality(against: str, config: ModelSettings) -> None:
    """Refuse to compare what is not the same: a model of two layers of this kind has to give the same logits.

    Its weights are large, so that attention, positions and activations all show in them.
    """
    small = config.model_copy(update={"n_layer": min(2, config.n_layer), "dropout": 0.0})
    generator = torch.Generator().manual_seed(0)
    ours = build_ours(small)
    ours.initialise(generator)
    for parameter in ours.parameters():
        if parameter.dim() >= 2:
            parameter.normal_(0.0, 0.1, generator=generator)
    theirs = BUILD[against](ours).eval()
    tokens = torch.randint(config.vocab_size, (2, min(64, config.block_size)), generator=generator)
    wanted, found = ours.eval()(tokens), theirs(tokens)
    if not (found - wanted).abs().max() <= DIFFERENCE * wanted.std():
        raise UserError(
            f"against={against} has no model like this one, their logits differ: use another, or against=null"
        )
