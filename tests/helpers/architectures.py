"""Small models with weights away from their initialisation, so that each of them matters."""

import pytest
import torch

from cleangpt.models import gpt, llama
from cleangpt.models.build import build
from helpers.configs import PLAIN

COMMON = {"n_layer": 2, "n_embd": 32, "n_head": 4, "block_size": 24, "vocab_size": 15, "dropout": 0.0}


def a_gpt(**changes):
    config = {"name": "gpt", **COMMON, **PLAIN["gpt"], "tied": True, "bias": True, "attention": "auto", **changes}
    return make(gpt.Settings(**{"position_rows": config["block_size"], **config}))


def a_llama(**changes):
    config = {"name": "llama", **COMMON, **PLAIN["llama"], "tied": False, "attention": "auto"}
    config |= {"head_dim": 8, "n_kv_head": 4, "ffn_dim": 64, "rope_base": 10000.0, "rope_scaling": None}
    return make(llama.Settings(**{**config, "norm_eps": 1e-5, **changes}))


def make(config):
    model = build(config)
    model.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():  # away from initialisation, so that every weight matters
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return model


# Every option that changes what a model computes; with as many rows as this, pairs of tokens share some.
OPTIONS = {"qk_norm": True, "activation": "relu2", "logit_softcap": 5.0, "bigram_embedding": 50}
SHAPES = [
    lambda **c: a_gpt(**c),
    lambda **c: a_gpt(bias=False, tied=False, **c),
    lambda **c: a_llama(**c),
    lambda **c: a_llama(n_kv_head=2, tied=True, **c),
    lambda **c: a_llama(n_kv_head=1, head_dim=12, qk_norm=True, **c),
    lambda **c: a_gpt(**OPTIONS, **c),
    lambda **c: a_llama(n_kv_head=2, tied=True, **OPTIONS, **c),
]
IDS = ["gpt", "gpt-untied", "llama", "llama-gqa", "llama-wide-heads", "gpt-options", "llama-options"]
each_shape = pytest.mark.parametrize("build", SHAPES, ids=IDS)
TOKENS = torch.randint(15, (3, 20), generator=torch.Generator().manual_seed(2))
