"""Muon: what torch's own does to one matrix after the other, and AdamW for the rest."""

import pytest
import torch
from helpers.trainings import make_trainer

from cleangpt.optimizers import optim
from cleangpt.optimizers.muon import orthogonal

LR, DECAY = 0.03, 0.2


def trainer_of(folder, *overrides):
    trainer = make_trainer(folder, "optimizer=muon", "optimizer.lr=0.01", f"optimizer.matrix_lr={LR}", *overrides)
    return trainer.model, trainer.optimizer


def gradients(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def reference(model, nesterov, ns_steps):
    """torch's optimizers for copies of the parameters, by name; queries, keys and values of GPT are three matrices."""
    copies, matrices, decaying, others = {}, [], [], []
    for name, parameter in model.named_parameters():
        is_matrix = name.startswith("blocks.") and parameter.dim() == 2 and "embedding" not in name
        parts = parameter.detach().clone().chunk(3 if "qkv" in name and is_matrix else 1)
        copies[name] = [torch.nn.Parameter(part.clone()) for part in parts]
        (matrices if is_matrix else decaying if parameter.dim() == 2 else others).extend(copies[name])
    how = {"momentum": 0.95, "nesterov": nesterov, "ns_steps": ns_steps}
    muon = torch.optim.Muon(matrices, lr=LR / 2, weight_decay=DECAY, **how)  # the schedule is at half its peak
    groups = [{"params": decaying, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    return copies, (muon, torch.optim.AdamW(groups, lr=0.005, betas=(0.9, 0.99), eps=1e-8, fused=True))


@pytest.mark.parametrize("model_name", ["gpt_tiny", "llama_tiny"])
@pytest.mark.parametrize(("nesterov", "ns_steps"), [(True, 5), (False, 3)])
def test_steps_are_those_of_torchs_muon_and_adamw(tmp_path, monkeypatch, model_name, nesterov, ns_steps):
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)  # torch's has no other precision
    words = (f"model={model_name}", "model.n_layer=2", f"optimizer.nesterov={nesterov}")
    model, optimizer = trainer_of(tmp_path, *words, f"optimizer.ns_steps={ns_steps}")
    copies, theirs = reference(model, nesterov, ns_steps)
    optim.set_schedule(optimizer, 0.005, DECAY)
    for step in range(3):
        gradients(model, step)
        for name, parameter in model.named_parameters():
            for copy, part in zip(copies[name], parameter.grad.chunk(len(copies[name])), strict=True):
                copy.grad = part.clone()
        optimizer.step()
        for other in theirs:
            other.step()
        for name, parameter in model.named_parameters():
            expected = torch.cat([copy.detach() for copy in copies[name]])
            torch.testing.assert_close(parameter.detach(), expected, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 6, 20), (2, 20, 6)])
def test_an_orthogonalised_matrix_turns_and_does_not_stretch(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    found = orthogonal(x, 5)
    values = u.mT @ found @ v.mT  # nearly diagonal, with entries near 1
    assert (values.diagonal(dim1=1, dim2=2) - 0.95).abs().max() < 0.35
    assert (values - torch.diag_embed(values.diagonal(dim1=1, dim2=2))).abs().max() < 1e-3


def test_matrices_have_their_own_rate_that_moves_with_the_schedule(tmp_path):
    model, optimizer = trainer_of(tmp_path, "optimizer.layer_decay=0.5", "model.n_layer=2")
    optim.set_schedule(optimizer, 0.005, DECAY)
    names = {id(p): name for name, p in model.named_parameters()}
    rates = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    decays = {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert rates.keys() == {name for name, _ in model.named_parameters()}
    assert rates["head.weight"] == pytest.approx(0.005)
    assert rates["blocks.1.norm_1.weight"] == pytest.approx(0.0025)
    assert rates["blocks.1.mlp.up.weight"] == pytest.approx(LR / 2 / 2)
    assert rates["blocks.0.attention.query.weight"] == pytest.approx(LR / 2 / 4)
    assert decays == {name: DECAY if p.dim() >= 2 else 0.0 for name, p in model.named_parameters()}


def test_the_state_of_each_parameter_is_saved_and_put_back(tmp_path):
    model, optimizer = trainer_of(tmp_path / "one", "model=gpt_tiny")
    gradients(model, 0)
    optimizer.step()
    other, again = trainer_of(tmp_path / "two", "model=gpt_tiny")
    other.load_state_dict(model.state_dict())
    for p, twin in zip(model.parameters(), other.parameters(), strict=True):
        for key, value in optimizer.state[p].items():
            again.state[twin][key].copy_(value)
    for each in (model, other):
        gradients(each, 1)
    optimizer.step()
    again.step()
    for (name, one), two in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two), name
    kinds = {frozenset(state) for state in optimizer.state.values()}
    assert kinds == {frozenset({"momentum"}), frozenset({"step", "exp_avg", "exp_avg_sq"})}
    assert all(state[key].shape == p.shape for p, state in optimizer.state.items() for key in state if key != "step")
