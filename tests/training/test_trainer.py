"""The optimizer step: what it computes, whatever it is cut into."""

import dataclasses

import pytest
import torch
import torch.distributed as dist
from helpers.trainings import UNEVEN, fit, losses, make_trainer, rows
from helpers.trainings import weights as flat_weights

from cleangpt.disk import weights
from cleangpt.disk.rundir import read_config
from cleangpt.machine import distributed, launcher
from cleangpt.optimizers import optim, schedule
from cleangpt.score import evaluate
from cleangpt.training.finite import NonFinite


def first_step(folder, *overrides):
    """Compute loss, gradient norm and gradient of step 1, before clipping matters."""
    trainer = make_trainer(folder, "train.grad_clip=null", *UNEVEN, *overrides)
    row, _ = trainer.step(1)
    gradients = torch.cat([p.grad.flatten() for p in trainer.model.parameters()])
    return row["train/loss"], row["grad_norm"], gradients


@pytest.mark.parametrize(
    "cut",
    [
        ("train.batch_size=8", "schedule.grad_accum.begin=4"),
        ("train.batch_size=32", "train.micro_batch_size=8"),
        ("train.batch_size=32", "train.micro_batch_size=5"),
        ("train.batch_size=16", "train.micro_batch_size=3", "schedule.grad_accum.begin=2"),
    ],
)
def test_a_batch_equals_its_micro_batches_with_uneven_masks(tmp_path, cut):
    loss, norm, gradients = first_step(tmp_path / "whole", "train.batch_size=32")
    loss_cut, norm_cut, gradients_cut = first_step(tmp_path / "cut", *cut)
    assert loss_cut == pytest.approx(loss, rel=1e-6)
    assert norm_cut == pytest.approx(norm, rel=1e-5)
    torch.testing.assert_close(gradients_cut, gradients, rtol=1e-4, atol=1e-7)


def test_the_gradient_is_that_of_the_mean_over_supervised_tokens(tmp_path):
    trainer = make_trainer(tmp_path, "train.grad_clip=null", "schedule.grad_accum.begin=3", *UNEVEN)
    micro_steps = [trainer.stream.micro_step(m)[0] for m in range(3)]
    inputs, targets, loss_weights = (
        torch.cat([getattr(rows, name) for rows in micro_steps]) for name in ("inputs", "targets", "loss_weights")
    )
    model = make_trainer(tmp_path / "other").model
    model.load_state_dict(trainer.model.state_dict())
    logits = model(inputs)
    chosen = loss_weights.bool()
    loss = torch.nn.functional.cross_entropy(logits[chosen], targets[chosen])
    wanted = torch.autograd.grad(loss, list(model.parameters()))
    row, _ = trainer.step(1)
    assert row["train/loss"] == pytest.approx(loss.item(), rel=1e-6)
    for parameter, gradient in zip(trainer.model.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-7)


class SilentFirst:
    """A task of which the first micro-step has nothing to supervise."""

    def __init__(self, task, silent):
        self.task, self.silent = task, silent

    def __getattr__(self, name):
        return getattr(self.task, name)

    def batch(self, split, *index):
        batch = self.task.batch(split, *index)
        loss_weights = batch.loss_weights.copy()
        if split == "train":
            loss_weights[: self.silent] = 0
        return dataclasses.replace(batch, loss_weights=loss_weights)


def test_a_micro_batch_with_nothing_to_supervise_adds_nothing(tmp_path):
    task = make_trainer(tmp_path / "a").task
    trainer = make_trainer(tmp_path, "schedule.grad_accum.begin=2", task=SilentFirst(task, silent=8))
    alone = make_trainer(tmp_path / "b", task=task)
    alone.state.micro_step = 1
    row, _ = trainer.step(1)
    row_alone, _ = alone.step(1)
    assert row["train/loss"] == pytest.approx(row_alone["train/loss"], rel=1e-6)
    torch.testing.assert_close(flat_weights(trainer), flat_weights(alone))


def test_a_step_with_nothing_to_supervise_is_zero_and_never_nan(tmp_path):
    task = make_trainer(tmp_path / "a").task
    trainer = make_trainer(tmp_path, "optimizer.weight_decay=0", task=SilentFirst(task, silent=10**9))
    before = flat_weights(trainer).clone()
    row, _ = trainer.step(1)
    assert row["train/loss"] == 0
    assert row["grad_norm"] == 0
    assert torch.equal(flat_weights(trainer), before)


def test_one_all_reduce_a_step_whatever_the_accumulation(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path, "schedule.grad_accum.begin=4", "train.micro_batch_size=3")
    calls = []
    real = dist.all_reduce
    monkeypatch.setattr(
        dist, "all_reduce", lambda tensor, *a, **k: (calls.append(tensor.numel()), real(tensor, *a, **k))
    )
    store = dist.TCPStore("127.0.0.1", 0, 1, is_master=True)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        for step in (1, 2, 3):
            trainer.step(step)
    finally:
        distributed.stop()
    assert calls == [trainer.gradients.buffer.numel()] * 3


def test_clipping_comes_after_the_reduction_and_the_logged_norm_before_it(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path, "train.grad_clip=0.01")
    free = make_trainer(tmp_path / "free", "train.grad_clip=null")
    # As if three more processes had the same gradients and sums.
    monkeypatch.setattr(distributed, "sum_in_place", lambda tensor: tensor.mul_(4))
    row, _ = trainer.step(1)
    row_free, _ = free.step(1)
    assert row["grad_norm"] == pytest.approx(row_free["grad_norm"])
    assert row["grad_norm"] > 0.1
    assert trainer.gradients.norm().item() == pytest.approx(0.01, rel=1e-3)
    torch.testing.assert_close(free.gradients.norm().item(), row["grad_norm"], rtol=1e-5, atol=0)


def test_a_step_uses_the_schedule_of_that_very_step(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path, "optimizer=adamw", "schedule.lr.warmup=0.5", "schedule.weight_decay.end=0")
    monkeypatch.setattr(schedule, "at", lambda *a: schedule.Values(lr=0.0123, weight_decay=0.25, grad_accum=2))
    used = []
    real = trainer.optimizer.step
    monkeypatch.setattr(
        trainer.optimizer,
        "step",
        lambda: (used.append([(g["lr"], g["weight_decay"]) for g in trainer.optimizer.param_groups]), real()),
    )
    row, _ = trainer.step(1)
    assert used == [[(0.0123, 0.25), (0.0123, 0.0)]]
    assert (row["lr"], row["weight_decay"], row["grad_accum"], row["batch"]) == (0.0123, 0.25, 2, 16)
    assert trainer.state.micro_step == 2


def test_only_matrices_decay_and_all_of_them(tmp_path):
    trainer = make_trainer(tmp_path, "optimizer=adamw", "model=gpt_tiny")
    decaying, others = trainer.optimizer.param_groups
    assert all(p.dim() >= 2 for p in decaying["params"])
    assert all(p.dim() < 2 for p in others["params"])
    assert len(decaying["params"]) + len(others["params"]) == len(list(trainer.model.parameters()))
    optim.set_schedule(trainer.optimizer, 1.0, 0.0)
    optim.set_schedule(trainer.optimizer, 1.0, 0.3)
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.3, 0.0)


@pytest.mark.parametrize("model", ["gpt_tiny", "llama_tiny"])
def test_activation_checkpointing_leaves_the_gradient_as_it_is(tmp_path, model):
    options = (f"model={model}", "model.dropout=0.2")
    plain = make_trainer(tmp_path / "a", *options)
    checkpointed = make_trainer(tmp_path / "b", *options, "train.activation_checkpointing=true")
    assert plain.step(1)[0] == checkpointed.step(1)[0]
    assert torch.equal(plain.gradients.flat, checkpointed.gradients.flat)


WILD = ("optimizer=adamw", "optimizer.lr=0.3", "schedule=constant")


def test_the_weights_saved_as_best_are_those_that_were_evaluated(tmp_path):
    trainer = fit(tmp_path, "train.steps=12", "train.eval_every=2", *WILD)
    evaluations = [(row["val/loss"], row["step"]) for row in rows(tmp_path) if "val/loss" in row]
    best_loss, best_step = min(evaluations)
    assert best_step != 12, "the example should get worse at the end"
    assert (trainer.state.best["val/loss"], trainer.state.best_step) == (best_loss, best_step)
    model = weights.load_model(trainer.run.best, read_config(trainer.run.best / "config.json"), torch.device("cpu"))
    judge = evaluate.Judge(model, torch.device("cpu"), launcher.world())
    assert evaluate.validate(judge, trainer.task)["val/loss"] == best_loss
    assert weights.about(trainer.run.best)["step"] == best_step


def test_the_last_evaluation_is_made_logged_and_saved_though_no_interval_falls_on_it(tmp_path):
    trainer = fit(tmp_path, "train.steps=7", "train.eval_every=5", "train.log_every=3")
    logged = rows(tmp_path)
    assert [row["step"] for row in logged if "val/loss" in row] == [5, 7]
    assert [row["step"] for row in logged if "train/loss" in row] == [1, 3, 6, 7]
    assert len({row["step"] for row in logged}) == len(logged)
    assert trainer.state.scored_step == 7
    assert (trainer.run.snapshots / "step_00000007").is_dir()


def test_intervals_of_logging_evaluation_and_snapshots_change_nothing(tmp_path):
    options = ("model.dropout=0.1", "schedule.grad_accum.begin=2")
    seldom = fit(tmp_path / "a", *options, "train.eval_every=null", "train.log_every=8")
    often = fit(tmp_path / "b", *options, "train.eval_every=1", "train.log_every=1", "train.snapshot_every=1")
    assert torch.equal(flat_weights(seldom), flat_weights(often))
    by_step = {row["step"]: row["train/loss"] for row in rows(tmp_path / "b")}
    assert [by_step[row["step"]] for row in rows(tmp_path / "a")] == losses(tmp_path / "a")


def test_early_stopping_stops_after_so_many_evaluations_without_a_better_loss(tmp_path):
    trainer = fit(tmp_path, "train.steps=60", "train.eval_every=1", "train.early_stopping=3", *WILD)
    assert trainer.status == "early_stopped"
    assert trainer.state.step == trainer.state.best_step + 3 < 60


SOLVED = ("train.steps=12", "train.eval_every=2", "optimizer.lr=1e-2")


def stop_when(metric, **rule) -> str:
    words = ",".join(f"{key}:{value}" for key, value in {"metric": metric, **rule}.items())
    return "train.stop_when={" + words + "}"


def test_a_run_that_shows_what_was_asked_often_enough_in_a_row_is_complete(tmp_path):
    whole_run = fit(tmp_path / "whole", *SOLVED)
    losses_then = [row["val/loss"] for row in rows(tmp_path / "whole") if "val/loss" in row]
    bound = losses_then[1]  # of step 4, and those after are lower
    assert losses_then == sorted(losses_then, reverse=True)
    stopped = fit(tmp_path / "stopped", *SOLVED, stop_when("val/loss", at_most=bound, times=2))
    assert (stopped.status, stopped.state.step) == ("completed", 6)
    assert losses(tmp_path / "stopped") == losses(tmp_path / "whole")[:6], "it learns the same way until then"
    assert (whole_run.status, whole_run.state.step) == ("completed", 12)


def test_what_was_shown_once_but_not_in_a_row_ends_nothing(tmp_path, monkeypatch):
    scores = iter([0.9, 0.2, 0.9, 0.9, 0.1, 0.1])
    monkeypatch.setattr(evaluate, "validate", lambda *_: {"val/loss": 1.0, "val/accuracy": next(scores)})
    trainer = fit(tmp_path, *SOLVED, stop_when("val/accuracy", at_least=0.9, times=2))
    assert (trainer.status, trainer.state.step) == ("completed", 8)


def test_a_run_that_goes_on_remembers_what_it_has_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "validate", lambda *_: {"val/loss": 1.0, "val/accuracy": 0.9})
    rule = stop_when("val/accuracy", at_least=0.9, times=3)
    fit(tmp_path, *SOLVED, "train.steps=4", "schedule.steps=12", rule)
    (snapshot,) = (tmp_path / "snapshots").iterdir()
    again = fit(tmp_path / "again", *SOLVED, rule, snapshot=snapshot)
    assert again.state.step == 6, "twice before, once now"
    other = fit(tmp_path / "other", *SOLVED, stop_when("val/accuracy", at_least=0.8, times=3), snapshot=snapshot)
    assert other.state.step == 10, "another question is counted anew"
    less = fit(tmp_path / "less", *SOLVED, stop_when("val/accuracy", at_least=0.9, times=2), snapshot=snapshot)
    assert less.state.step == 4, "the same question, to be shown less often, is answered already"


def test_dropout_does_not_change_initialisation_or_data(tmp_path):
    with_dropout, without = (make_trainer(tmp_path, f"model.dropout={p}") for p in (0.5, 0.0))
    assert torch.equal(flat_weights(with_dropout), flat_weights(without))
    assert torch.equal(with_dropout.stream.micro_step(3)[0].inputs, without.stream.micro_step(3)[0].inputs)


def test_seeds_change_weights_and_order(tmp_path):
    one, other = (make_trainer(tmp_path, f"seed={seed}") for seed in (1, 2))
    assert not torch.equal(flat_weights(one), flat_weights(other))
    assert not torch.equal(one.stream.micro_step(0)[0].inputs, other.stream.micro_step(0)[0].inputs)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_learns_like_float32(tmp_path, dtype):
    fit(tmp_path / "half", f"dtype={dtype}", "train.steps=20")
    fit(tmp_path / "full", "dtype=float32", "train.steps=20")
    assert losses(tmp_path / "half")[-1] == pytest.approx(losses(tmp_path / "full")[-1], rel=0.03)
    assert losses(tmp_path / "half") != losses(tmp_path / "full")


def test_float16_lowers_its_loss_scale_instead_of_taking_an_overflowing_step(tmp_path):
    trainer = make_trainer(tmp_path, "dtype=float16")
    trainer.state.loss_scale = 2.0**40
    before = flat_weights(trainer).clone()
    trainer.step(1)
    assert torch.equal(flat_weights(trainer), before)
    assert trainer.state.loss_scale == 2.0**39


def test_a_gradient_that_is_not_finite_stops_before_the_weights_are_touched(tmp_path):
    trainer = make_trainer(tmp_path)
    with torch.no_grad():
        trainer.model.norm.weight[0] = float("inf")
    before = flat_weights(trainer).clone()
    with pytest.raises(NonFinite, match="step 1: loss nan, gradient norm nan at lr"):
        trainer.step(1)
    assert torch.equal(flat_weights(trainer), before)


def test_tokens_count_what_is_not_padding(tmp_path):
    trainer = make_trainer(tmp_path, "schedule.grad_accum.begin=2", *UNEVEN)
    trainer.step(1)
    real = sum(
        int((rows.inputs != trainer.task.tokenizer.pad).sum()) for m in (0, 1) for rows in trainer.stream.micro_step(m)
    )
    assert trainer.state.tokens == real < 16 * trainer.task.sequence_length
