"""The loss in pieces: the loss and gradients of the whole, in a fraction of the memory."""

import pytest
import torch
from helpers.any_model import TOKENS, made

from cleangpt.models import pieces

WEIGHTS = torch.rand(TOKENS.shape, generator=torch.Generator().manual_seed(3)) > 0.3


def found(model, scale=1.0, weights=None, dtype=torch.float32):
    model.train()
    model.zero_grad()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        loss = model(TOKENS, TOKENS.roll(-1, 1), weights)
    (loss * scale).backward()
    return loss.detach(), torch.cat([p.grad.flatten() for p in model.parameters()])


def cut(monkeypatch, rows):
    """Cut after so many tokens: seven do not divide sixty."""
    monkeypatch.setattr(pieces, "LOGITS", rows * 37)


def in_pieces(monkeypatch, *given, **how):
    calls = []
    real = pieces.Loss.apply
    monkeypatch.setattr(pieces.Loss, "apply", lambda *a: calls.append(1) or real(*a))
    result = found(*given, **how)
    assert calls == [1]
    return result


@pytest.mark.parametrize("rows", [1, 7, 59])
@pytest.mark.parametrize("weights", [None, WEIGHTS.float()])
@pytest.mark.parametrize("options", [{}, {"tied": False}, {"logit_softcap": 3.0}])
@pytest.mark.parametrize("name", ["gpt", "llama"])
def test_the_loss_and_its_gradients_are_those_of_the_whole(monkeypatch, name, options, weights, rows):
    model = made(name, **options)
    loss, gradients = found(model, 0.25, weights)
    cut(monkeypatch, rows)
    again, same = in_pieces(monkeypatch, model, 0.25, weights)
    torch.testing.assert_close(again, loss)
    torch.testing.assert_close(same, gradients, rtol=1e-4, atol=1e-5)


def test_bfloat16_rounds_alike(monkeypatch):
    model = made("gpt")
    exact = found(model)[1]
    loss, gradients = found(model, dtype=torch.bfloat16)
    cut(monkeypatch, 7)
    again, same = in_pieces(monkeypatch, model, dtype=torch.bfloat16)
    torch.testing.assert_close(again, loss, rtol=1e-5, atol=1e-5)
    assert (same - exact).norm() < 1.2 * (gradients - exact).norm() + 1e-6


def test_only_many_logits_that_need_gradients_are_cut_up(monkeypatch):
    x = torch.zeros(2, 50, 8)
    monkeypatch.setattr(pieces, "LOGITS", 1000)
    assert pieces.worth_it(x, 11)
    assert not pieces.worth_it(x, 10)
    with torch.no_grad():
        assert not pieces.worth_it(x, 11)
    with torch.autocast("cpu", torch.float16):
        assert not pieces.worth_it(x, 11)


def test_a_compiled_loss_is_the_same(monkeypatch):
    cut(monkeypatch, 20)
    model = made("gpt")
    loss, gradients = found(model)
    vars(model)["loss"] = torch.compile(model.loss, dynamic=False, fullgraph=True)
    again, same = found(model)
    torch.testing.assert_close(again, loss)
    torch.testing.assert_close(same, gradients, rtol=1e-4, atol=1e-5)
    torch.compiler.reset()
