"""The arithmetic of a token is what torch counts, and a peak is that of the very device, or none."""

from types import SimpleNamespace

import pytest
import torch
from helpers import toy
from torch.utils.flop_counter import FlopCounterMode

from cleangpt.config import experiment
from cleangpt.machine.device import Compute
from cleangpt.models import flops
from cleangpt.models.build import build

OPTIONS = {"qk_norm": True, "activation": "relu2", "logit_softcap": 9.0}
OPTIONS |= {"value_embeddings": True, "bigram_embedding": 70}
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
    assert counter.get_total_flops() == rows * length * flops.flops_per_token(model, length)


def _resolved(settings):
    from cleangpt import tasks

    return experiment.resolve(settings, tasks.make(settings.dataset))


def card(name, dtype):
    """A GPU of this name, which this machine need not have."""
    return SimpleNamespace(device=torch.device("cuda"), dtype=dtype, name=name)


def test_a_peak_is_that_of_the_device_and_the_dtype():
    assert flops.peak(card("NVIDIA H100 80GB HBM3", torch.bfloat16)) == 989.4e12
    assert flops.peak(card("NVIDIA H100 PCIe", torch.bfloat16)) == 756e12
    assert flops.peak(card("NVIDIA A100-SXM4-80GB", torch.float16)) == 312e12
    assert flops.peak(card("Tesla T4", torch.float16)) == 65e12


def test_float32_has_the_peak_of_the_cores_that_compute_it(monkeypatch):
    a100 = card("NVIDIA A100-SXM4-80GB", torch.float32)
    assert flops.peak(a100) == 19.5e12
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert flops.peak(a100) == 156e12


def test_what_is_not_known_has_no_peak():
    assert flops.peak(Compute(torch.device("cpu"), torch.float32)) is None
    assert flops.peak(card("NVIDIA H100 of next year", torch.bfloat16)) is None
    assert flops.peak(card("Tesla T4", torch.bfloat16)) is None, "it has no such cores"
