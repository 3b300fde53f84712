"""Every model of the room keeps the contract: a new file there is tested by these as it stands."""

import inspect

import pytest
import torch
from helpers.any_model import TOKENS, VOCABULARY, made, settings
from helpers.trainings import fit, losses, verdicts, weights

from cleangpt import models, optimizers
from cleangpt.basics import found
from cleangpt.models.build import build, count_parameters, parameter_counts
from cleangpt.models.contract import LanguageModel
from cleangpt.optimizers import optim
from cleangpt.training import compiling

each_model = pytest.mark.parametrize("name", sorted(models.SETTINGS))
each_optimizer = pytest.mark.parametrize("optimizer", sorted(optimizers.SETTINGS))


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@each_model
def test_a_model_says_all_that_the_contract_asks(name):
    model = found.module_of(models.SETTINGS[name]).Model
    assert issubclass(model, LanguageModel)
    assert not inspect.isabstract(model)
    assert count_parameters(settings(name, n_layer=5)) == parameter_counts(build(settings(name, n_layer=5)))["total"]


@each_model
def test_a_seed_means_the_same_weights_whatever_was_there(name):
    states = []
    for there in (float("nan"), 7.0):
        model = build(settings(name))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(there)
        torch.manual_seed(int(there == 7.0))
        model.initialise(torch.Generator().manual_seed(3))
        states.append(torch.cat([parameter.flatten() for parameter in model.parameters()]))
    assert states[0].isfinite().all()
    assert torch.equal(*states)


@each_model
def test_no_token_sees_a_later_one(name):
    model, changed = made(name), TOKENS.clone()
    changed[:, 11:] = (changed[:, 11:] + 1) % VOCABULARY
    before, after = model(TOKENS), model(changed)
    close(before[:, :11], after[:, :11])
    assert not torch.allclose(before[:, 11:], after[:, 11:])


@each_model
def test_what_comes_first_matters_to_what_comes_last(name):
    model, changed = made(name), TOKENS.clone()
    changed[:, 0] = (changed[:, 0] + 1) % VOCABULARY
    assert not torch.allclose(model(TOKENS)[:, 5], model(changed)[:, 5], atol=1e-4)


@each_model
def test_only_the_tokens_that_are_asked_for_are_answered(name):
    model = made(name)
    close(model(TOKENS, since=13), model(TOKENS)[:, 13:])


@each_model
@pytest.mark.parametrize("pieces", [[1] * 20, [7, 1, 1, 1, 10], [20]])
def test_a_cache_goes_on_from_what_was_read(name, pieces):
    model = made(name)
    cache = model.new_cache(len(TOKENS))
    assert cache.length == 0
    with torch.no_grad():
        parts = [model(piece, cache=cache) for piece in TOKENS.split(pieces, dim=1)]
    assert cache.length == 20
    close(torch.cat(parts, dim=1), model(TOKENS))


@each_model
@pytest.mark.parametrize("pieces", [[20], [3, 1, 1, 4, 11]])
def test_padding_before_a_row_changes_nothing_in_it(name, pieces):
    model, starts = made(name), [0, 5, 12]
    cache = model.new_cache(3, 20, torch.tensor(starts))
    with torch.no_grad():
        read = torch.cat([model(piece, cache=cache) for piece in TOKENS.split(pieces, dim=1)], dim=1)
    for row, start in enumerate(starts):
        close(read[row, start:], model(TOKENS[row : row + 1, start:])[0])


@each_model
def test_a_cache_keeps_the_rows_that_it_is_told_to_keep(name):
    model, rows = made(name), torch.tensor([2, 0, 0])
    for starts in (None, torch.tensor([0, 5, 2])):
        cache = model.new_cache(3, 20, starts)
        with torch.no_grad():
            model(TOKENS[:, :9], cache=cache)
            cache.keep(rows)
            read = model(TOKENS[rows, 9:], cache=cache)
            for row, old in enumerate(rows.tolist()):
                start = 0 if starts is None else int(starts[old])
                close(read[row], model(TOKENS[old : old + 1, start:])[0, 9 - start :])


@each_model
def test_packed_documents_are_read_as_each_alone(name):
    model, lengths = made(name), [(20,), (7, 1, 12), (3, 17)]
    documents = torch.stack([torch.repeat_interleave(torch.arange(len(n)) + 5, torch.tensor(n)) for n in lengths])
    packed = model(TOKENS, documents=documents)
    for row, parts in enumerate(lengths):
        close(packed[row], torch.cat([model(part[None])[0] for part in TOKENS[row].split(parts)]))


@each_model
def test_every_parameter_is_treated(name):
    model = made(name, n_layer=3)
    treated = {key: model.treatment(key, parameter) for key, parameter in model.named_parameters()}
    assert {treatment.depth for treatment in treated.values()} >= {0, 1, 2, 3}
    assert max(treatment.depth for treatment in treated.values()) <= 4
    for key, parameter in model.named_parameters():
        matrices = treated[key].matrices
        assert not matrices or (parameter.dim() == 2 and parameter.shape[0] % matrices == 0), key
        assert not matrices or 1 <= treated[key].depth <= 3, key
        assert treated[key].decays == (parameter.dim() == 2), key


@each_model
def test_a_longer_text_costs_at_least_as_much_a_token(name):
    model = made(name)
    assert 0 < model.flops_per_token(1) <= model.flops_per_token(9)


@each_model
def test_recomputed_activations_give_the_same_bits(name):
    gradients = []
    for checkpointing in (False, True):
        model = made(name, dropout=0.3).train()
        model.checkpointing = checkpointing
        torch.manual_seed(5)
        documents = torch.arange(20).expand(3, 20) // 9
        model(TOKENS[:, :-1], TOKENS[:, 1:], documents=documents[:, :-1]).backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    assert torch.equal(*gradients)
    assert gradients[0].any()


@each_model
def test_bfloat16_computes_about_the_same(name):
    model = made(name).train()
    exact = model(TOKENS[:, :-1], TOKENS[:, 1:])
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(TOKENS[:, :-1], TOKENS[:, 1:])
    rounded.backward()
    torch.testing.assert_close(rounded, exact, rtol=0.03, atol=0)
    half = made(name).to(torch.bfloat16)
    with torch.no_grad():
        cache = half.new_cache(3, 20, torch.tensor([0, 4, 1]))
        logits = [half.following(piece, cache) for piece in (TOKENS[:, :6], TOKENS[:, 6:7])]
    assert all(found.dtype == torch.bfloat16 and found.isfinite().all() for found in logits)


@each_model
def test_a_compiled_model_computes_the_same(name, monkeypatch):
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda made, **how: real(made, backend="aot_eager", **how))
    plain, compiled = made(name).train(), made(name).train()
    compiling.apply(True, compiled)
    for model in (plain, compiled):
        model(TOKENS[:, :-1], TOKENS[:, 1:]).backward()
    for one, other in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-3)
    monkeypatch.undo()
    torch.compiler.reset()


@each_model
@each_optimizer
def test_a_run_learns_and_resumes_exactly(tmp_path, name, optimizer):
    words = (
        f"model={name}",
        f"optimizer={optimizer}",
        "model.n_layer=2",
        "model.dropout=0.1",
        "train.snapshot_every=4",
    )
    words += ("schedule.grad_accum.begin=2", "optimizer.layer_decay=0.9", "schedule.lr.warmup=0.1")
    words += ("optimizer.lr=0.01", "train.snapshot_every=4")
    whole = fit(tmp_path / "whole", *words)
    again = fit(tmp_path / "again", *words, snapshot=tmp_path / "whole" / "snapshots" / "step_00000004")
    assert torch.equal(weights(whole), weights(again))
    assert losses(tmp_path / "whole")[4:] == losses(tmp_path / "again")
    assert losses(tmp_path / "whole")[-1] < losses(tmp_path / "whole")[0]


@each_model
def test_forcing_finds_what_decoding_writes(tmp_path, name):
    words = ("train.steps=60", "train.batch_size=64", "optimizer.lr=0.02", "train.eval_every=null", "logger.samples=0")
    trainer = fit(tmp_path, f"model={name}", "dataset.digits=1", *words)
    forced, decoded = verdicts(trainer.judge, trainer.task)
    assert (forced == decoded).all()


def test_groups_are_what_the_model_says():
    for name in models.SETTINGS:
        model = made(name)
        groups = optim.parameter_groups(model, 0.5)
        names = {parameter: key for key, parameter in model.named_parameters()}
        treated = {
            names[parameter]: (group["decays"], matrices)
            for group in groups
            for parameter, matrices in zip(group["params"], group["matrices"], strict=True)
        }
        assert treated == {key: model.treatment(key, p)[1:] for key, p in model.named_parameters()}
