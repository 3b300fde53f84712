"""Packed matrices: the same texts, where this torch can pack, and nothing where it can't."""

import pytest
import torch
from helpers.any_model import TOKENS, made

from cleangpt.sample import generate, packed

each_model = pytest.mark.parametrize(("name", "tied"), [("gpt", True), ("llama", False), ("lstm", False)])


def layers(model):
    return [module for module in model.modules() if isinstance(module, packed.Packed)]


@pytest.fixture
def small(monkeypatch):
    """Have matrices of toy models count as large."""
    monkeypatch.setattr(packed, "LARGE", 1)
    if not packed.available(torch.float32):
        pytest.skip("this torch can't pack")


@each_model
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_packed_model_scores_as_before(small, name, tied, dtype):
    if not packed.available(dtype):
        pytest.skip(f"nothing is packed in {dtype} on this processor")
    model = made(name, tied=tied).to(dtype)
    with torch.no_grad():
        wanted = model(TOKENS)
    packed.pack(model)
    assert bool(layers(model)) is (name != "lstm" or not tied)
    with torch.inference_mode():
        rounding = 1e-4 if dtype == torch.float32 else 0.05
        torch.testing.assert_close(model(TOKENS), wanted, rtol=rounding, atol=rounding * float(wanted.abs().max()))


@each_model
def test_its_texts_are_those_of_the_model(small, name, tied):
    model = made(name, tied=tied)
    prompts = [TOKENS[0, :3].tolist(), TOKENS[1, :7].tolist()]
    wanted = generate.greedy(model, prompts, 12)
    packed.pack(model)
    assert torch.equal(generate.greedy(model, prompts, 12), wanted)


def test_only_large_layers_of_a_cpu_are_packed_and_only_where_torch_can(monkeypatch):
    model = made("gpt")
    packed.pack(model)
    assert layers(model) == [], "a small model stays as it is, to the bit"
    monkeypatch.setattr(packed, "LARGE", 16 * 64)
    monkeypatch.setattr(packed, "available", lambda _: False)
    packed.pack(model)
    assert layers(model) == []
    monkeypatch.undo()
    monkeypatch.setattr(packed, "LARGE", 16 * 64)
    packed.pack(model)
    assert len(layers(model)) == (2 * 2 if packed.available(torch.float32) else 0), "both halves of an MLP, twice"


def test_a_torch_without_these_kernels_is_noticed(monkeypatch):
    monkeypatch.setattr(packed, "Packed", lambda _: torch.ops.mkldnn.no_such_kernel)
    packed.available.cache_clear()
    assert not packed.available(torch.float32)
    packed.available.cache_clear()
