"""The arithmetic of a token is what torch counts."""

import pytest
import torch
from helpers.configs import toy
from torch.utils.flop_counter import FlopCounterMode

from cleangpt.config import experiment
from cleangpt.models.build import build

OPTIONS = {"qk_norm": True, "activation": "relu2", "logit_softcap": 9.0, "bigram_embedding": 70}
SHAPES = {
    "gpt, tied": ("gpt", {"tied": True}),
    "gpt, untied, heads of an odd width": ("gpt", {"tied": False, "n_embd": 21, "n_head": 3, "n_layer": 3}),
    "gpt, one head": ("gpt", {"n_embd": 20, "n_head": 1, "bias": False}),
    "llama, tied": ("llama", {"tied": True, "n_layer": 2}),
    "llama, untied, grouped heads": ("llama", {"tied": False, "n_embd": 32, "n_head": 4, "n_kv_head": 2}),
    "llama, one head of keys": ("llama", {"n_embd": 24, "n_head": 6, "n_kv_head": 1, "head_dim": 10, "ffn_dim": 13}),
    "llama, heads wider than the model": ("llama", {"n_embd": 10, "n_head": 3, "head_dim": 14, "qk_norm": True}),
    "gpt, all options": ("gpt", {"tied": False, **OPTIONS}),
    "llama, all options": ("llama", {"n_head": 4, "n_kv_head": 2, **OPTIONS}),
}


@pytest.mark.parametrize("attention", ["sdpa", "plain"])
@pytest.mark.parametrize(("name", "changes"), SHAPES.values(), ids=SHAPES)
def test_a_token_costs_what_torch_counts(name, changes, attention):
    rows, length = 3, 29
    changes = {"block_size": length, "vocab_size": 37, "attention": attention, **changes}
    settings = toy(f"model={name}", **{f"model.{key}": value for key, value in changes.items()})
    model = build(_resolved(experiment.parse(settings)).model, device="meta")
    tokens = torch.zeros(rows, length, dtype=torch.long, device="meta")
    with FlopCounterMode(display=False) as counter:
        model(tokens, tokens).backward()
    assert counter.get_total_flops() == rows * length * model.flops_per_token(length)


def _resolved(settings):
    from cleangpt import tasks

    return experiment.resolve(settings, tasks.make(settings.dataset))
