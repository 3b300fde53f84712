"""Small models of any kind that is registered."""

import torch

from cleangpt import tasks
from cleangpt.config import experiment
from cleangpt.models.build import build
from helpers.configs import toy

VOCABULARY, CONTEXT = 37, 24


TOKENS = torch.randint(VOCABULARY, (3, 20), generator=torch.Generator().manual_seed(2))


def settings(name, **changes):
    changes = {"n_layer": 2, "block_size": CONTEXT, "vocab_size": VOCABULARY, **changes}
    config = experiment.parse(toy(f"model={name}", **{f"model.{key}": value for key, value in changes.items()}))
    return experiment.resolve(config, tasks.make(config.dataset)).model


def made(name, **changes):
    """A model with weights so large that every token matters."""
    model = build(settings(name, **changes))
    model.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return model.eval()
