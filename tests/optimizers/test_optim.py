"""Which parameters are trained, and how fast: frozen ones, and layers that learn more slowly than those above."""

import pytest
import torch
from helpers.trainings import fit, make_trainer, weights

from cleangpt.basics.errors import UserError
from cleangpt.models.build import parameter_counts
from cleangpt.optimizers import optim


def named(trainer):
    return {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}


def test_frozen_parameters_stay_and_have_no_gradient_no_decay_and_no_state(tmp_path):
    first = named(make_trainer(tmp_path / "first", "model=gpt_tiny", "model.n_embd=16"))
    overrides = ("model=gpt_tiny", "model.n_embd=16", "train.freeze=[token_embedding,'blocks.0','*.bias']")
    trainer = fit(tmp_path / "frozen", *overrides)
    frozen = {n for n in first if n.startswith(("token_embedding.", "blocks.0.")) or n.endswith(".bias")}
    after = named(trainer)
    assert {name for name in first if torch.equal(first[name], after[name])} == frozen
    in_groups = [id(p) for group in trainer.optimizer.param_groups for p in group["params"]]
    assert len(in_groups) == len(set(in_groups)) == len(first) - len(frozen) == len(trainer.optimizer.state)
    assert {n for n, p in trainer.model.named_parameters() if p.grad is None} == frozen
    trained = sum(first[name].numel() for name in first if name not in frozen)
    assert parameter_counts(trainer.model)["trained"] == trained
    assert trainer.gradients.flat.numel() < trained + 16 * len(first)


def test_a_run_with_frozen_parameters_resumes_exactly(tmp_path):
    overrides = ("train.freeze=['blocks.*.mlp']", "optimizer.layer_decay=0.5", "train.snapshot_every=4")
    whole = fit(tmp_path / "whole", *overrides)
    again = fit(tmp_path / "again", *overrides, snapshot=tmp_path / "whole" / "snapshots" / "step_00000004")
    assert torch.equal(weights(whole), weights(again))


@pytest.mark.parametrize(
    ("patterns", "words"),
    [(["embedding"], "'embedding', which no parameter is called"), (["*"], "leaves nothing to train")],
)
def test_patterns_that_name_nothing_or_everything_are_refused(tmp_path, patterns, words):
    with pytest.raises(UserError, match=words):
        make_trainer(tmp_path, f"train.freeze={patterns}")


def test_layer_decay_slows_each_layer_below_the_head(tmp_path):
    trainer = make_trainer(tmp_path, "optimizer=adamw", "optimizer.layer_decay=0.5", "model.n_layer=3")
    optim.set_schedule(trainer.optimizer, 0.8, 0.1)
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    rates = {names[id(p)]: group["lr"] for group in trainer.optimizer.param_groups for p in group["params"]}
    decays = {names[id(p)]: group["weight_decay"] for group in trainer.optimizer.param_groups for p in group["params"]}
    wanted = {"head": 0.8, "norm": 0.8, "blocks.2": 0.4, "blocks.1": 0.2, "blocks.0": 0.1, "token_embedding": 0.05}
    for name, rate in rates.items():
        assert rate == pytest.approx(next(value for start, value in wanted.items() if name.startswith(f"{start}.")))
    assert decays == {name: 0.1 if p.dim() >= 2 else 0.0 for name, p in trainer.model.named_parameters()}


def test_without_layer_decay_there_are_two_groups(tmp_path):
    groups = make_trainer(tmp_path, "optimizer=adamw").optimizer.param_groups
    assert [group["decays"] for group in groups] == [True, False]
