"""A run that was interrupted and resumed has the bits of one that was left alone."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.trainings import fit, make_trainer, rows
from helpers.trainings import weights as flat_weights

from cleangpt.basics import files
from cleangpt.machine.signals import Stopped
from cleangpt.score import evaluate, of_task
from cleangpt.snapshots import saving, snapshot
from cleangpt.watch.health import OF_THE_MACHINE

DROPOUT_AND_GROWTH = ("model.dropout=0.2", "schedule.grad_accum.style=linear", "schedule.grad_accum.end=4")
SETTINGS = {
    "dropout and growing accumulation": DROPOUT_AND_GROWTH,
    "float16 with a loss scale that falls": (*DROPOUT_AND_GROWTH, "dtype=float16", "optimizer.lr=0.1"),
    "early stopping and best-tracking": (
        "train.early_stopping=4",
        "optimizer.lr=0.3",
        "schedule=constant",
        "train.eval_every=1",
        "train.steps=30",
    ),
    "gpt in small pieces": ("model=gpt_tiny", "model.n_embd=16", "train.micro_batch_size=3", "model.dropout=0.1"),
    "samples that change": (
        "dataset=arithmetic",
        "dataset.operation=multiply",
        "dataset.digits=2",
        "dataset.format=icot",
        "dataset.remove_after=40",
        "dataset.remove_every=20",
        "dataset.mixture=[{digits: 1, until: 80}, {digits: 2}]",
    ),
    "few lines, clipping and norms": ("train.log_every=12", "train.grad_clip=1.3", "logger.norms=7"),
}


def values(folder: Path) -> list[dict]:
    """Read the logged rows without what tells of the machine."""
    return [{k: v for k, v in row.items() if k not in OF_THE_MACHINE} for row in rows(folder)]


def best_bytes(folder: Path) -> bytes:
    return (folder / "best" / "model.safetensors").read_bytes()


def interrupt(trainer, step: int, where: str) -> None:
    """Have the signal arrive at this step: before it, between its micro-steps, after it, or in its evaluation."""
    real_step, real_validate = trainer.step, trainer.evaluate
    micro_step = trainer.stream.micro_step

    def step_(number):
        if number == step and where == "before":
            trainer.stop.number = 15
        if number == step and where == "between micro-steps":
            calls = []

            def counted(m):
                if calls:
                    trainer.stop.number = 15
                calls.append(m)
                return micro_step(m)

            trainer.stream.micro_step = counted
        result = real_step(number)
        if number == step and where == "after":
            trainer.stop.number = 15
        return result

    def evaluate_():
        if trainer.state.step >= step and where == "evaluation":
            trainer.stop.number = 15
        return real_validate()

    trainer.step, trainer.evaluate = step_, evaluate_


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("where", ["before", "between micro-steps", "after", "evaluation"])
def test_interrupted_twice_and_resumed_equals_left_alone(tmp_path, settings, where):
    options = ("train.steps=12", "train.eval_every=3", *settings)
    whole = fit(tmp_path / "whole", *options)
    folder, found = None, None
    for at in (5, 8, None):
        trainer = make_trainer(tmp_path / "cut", *options, snapshot=folder)
        if at is not None:
            interrupt(trainer, at, where)
        status = trainer.fit()
        trainer.writer.close()
        trainer.tracker.close()
        folder, complaints = snapshot.newest_good(trainer.run)
        assert complaints == []
        found = trainer
        assert status == "stopped" or at is None or found.stops_early()
    assert torch.equal(flat_weights(found), flat_weights(whole))
    assert values(tmp_path / "cut") == values(tmp_path / "whole")
    assert best_bytes(tmp_path / "cut") == best_bytes(tmp_path / "whole")
    for name in ("step", "micro_step", "tokens", "best", "best_step", "worse", "scores", "loss_scale", "good_steps"):
        assert getattr(found.state, name) == getattr(whole.state, name), name


def test_a_step_dropped_by_a_signal_leaves_no_trace(tmp_path):
    trainer = make_trainer(tmp_path, "schedule.grad_accum.begin=3")
    trainer.step(1)
    before, state = flat_weights(trainer).clone(), json.dumps(trainer.state.__dict__)
    interrupt(trainer, 2, "between micro-steps")
    row, stopping = trainer.step(2)
    assert (row, stopping) == (None, True)
    assert torch.equal(flat_weights(trainer), before)
    trainer.state.train_seconds = json.loads(state)["train_seconds"]
    assert json.dumps(trainer.state.__dict__) == state


def test_a_run_that_was_stopped_before_its_first_step_goes_on(tmp_path):
    whole = fit(tmp_path / "whole")
    stopped = make_trainer(tmp_path / "run")
    stopped.stop.number = 15
    assert stopped.fit() == "stopped"
    stopped.tracker.close()
    (folder,) = stopped.run.snapshot_folders()
    assert folder.name == "step_00000000"
    resumed = fit(tmp_path / "run", snapshot=folder)
    assert torch.equal(flat_weights(resumed), flat_weights(whole))
    assert values(tmp_path / "run") == values(tmp_path / "whole")


def test_best_is_put_back_when_a_run_got_further_than_its_snapshot(tmp_path):
    options = ("train.steps=6", "train.eval_every=1", "train.snapshot_every=3", "train.keep_snapshots=null")
    trainer = fit(tmp_path, *options)
    assert trainer.state.best_step > 3
    again = make_trainer(tmp_path, *options, snapshot=tmp_path / "snapshots" / "step_00000003")
    from cleangpt.disk import weights

    assert weights.about(again.run.best)["step"] == again.state.best_step
    assert again.state.best_step <= 3


def test_metrics_have_each_step_once_after_a_run_was_killed_behind_its_snapshot(tmp_path):
    options = ("train.steps=8", "train.snapshot_every=3")
    fit(tmp_path / "whole", *options)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for folder in ("step_00000006", "step_00000008"):
        shutil.rmtree(tmp_path / "cut" / "snapshots" / folder, ignore_errors=True)
    fit(tmp_path / "three", *options, "train.keep_snapshots=null")
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "train/lo')  # killed while it wrote
    fit(tmp_path / "cut", *options, snapshot=tmp_path / "three" / "snapshots" / "step_00000003")
    assert values(tmp_path / "cut") == values(tmp_path / "whole")


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "state.json", "config.json", "manifest.json"]
)
@pytest.mark.parametrize("damage", ["truncated", "a bit flipped", "missing", "empty"])
def test_a_damaged_snapshot_is_named_kept_aside_and_not_used(tmp_path, name, damage):
    trainer = snapshots(tmp_path)
    path = tmp_path / "snapshots" / "step_00000004" / name
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "a bit flipped":
        path.write_bytes(content[:-3] + bytes([content[-3] ^ 4]) + content[-2:])
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
    folder, complaints = snapshot.newest_good(trainer.run)
    assert folder.name == "step_00000002"
    assert len(complaints) == 1
    assert "step_00000004 is damaged" in complaints[0]
    assert (tmp_path / "snapshots" / "damaged_step_00000004").is_dir()


def snapshots(folder):
    return fit(folder, "train.steps=4", "train.snapshot_every=2", "train.eval_every=null")


def test_the_newest_are_kept_and_best_and_final_apart(tmp_path):
    trainer = fit(tmp_path, "train.steps=6", "train.snapshot_every=1", "train.keep_snapshots=3")
    assert [folder.name[-1] for folder in trainer.run.snapshot_folders()] == ["4", "5", "6"]
    everything = fit(tmp_path / "all", "train.steps=6", "train.snapshot_every=1", "train.keep_snapshots=null")
    assert len(everything.run.snapshot_folders()) == 6
    assert (trainer.run.best / "model.safetensors").exists()


def test_a_snapshot_is_never_written_over(tmp_path):
    trainer = snapshots(tmp_path)
    folder = tmp_path / "snapshots" / "step_00000004"
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    trainer.tracker.start(4)
    trainer.snapshot()
    trainer.writer.wait()
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize("when", ["model", "optimizer", "state", "rename"])
def test_a_full_disk_costs_a_snapshot_and_nothing_else(tmp_path, monkeypatch, when):
    trainer = make_trainer(tmp_path, "train.steps=6", "train.snapshot_every=2", "train.keep_snapshots=1")
    full = OSError(28, "No space left on device")
    said = []
    monkeypatch.setattr(trainer.tracker, "say", said.append)

    def fails_at_4(function, here):
        def wrapped(*args):
            if here(*map(str, args)):
                raise full
            return function(*args)

        return wrapped

    step_4 = "step_00000004"
    targets = {
        "model": (files, "replace", lambda path, *_: step_4 in path and path.endswith("model.safetensors")),
        "optimizer": (files, "replace", lambda path, *_: step_4 in path and path.endswith("optimizer.safetensors")),
        "state": (files, "replace", lambda path, *_: step_4 in path and path.endswith("state.json")),
        "rename": (snapshot.os, "rename", lambda source, target: target.endswith(step_4)),
    }
    module, name, here = targets[when]
    monkeypatch.setattr(module, name, fails_at_4(getattr(module, name), here))
    real, kept = trainer.step, []

    def step(number):
        if number == 6:  # after the failure, before the next success
            trainer.writer.wait()
            kept.extend(folder.name for folder in trainer.run.snapshot_folders())
        return real(number)

    trainer.step = step
    assert trainer.fit() == "completed"
    complaint = "the snapshot of step 4 could not be written (No space left on device)"
    assert any(str(line).startswith(complaint) for line in said)
    assert kept == ["step_00000002"], "the last good one is not lost"
    assert [folder.name for folder in trainer.run.snapshot_folders()] == ["step_00000006"]
    assert not list(trainer.run.snapshots.glob(".*"))


def test_metrics_wait_for_room_on_a_full_disk(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.tracker.start(0)
    trainer.tracker.row({"step": 1})
    real = trainer.tracker.metrics_file

    class Full:
        def write(self, data):
            return real.write(data[:4])  # a part fits

        def __getattr__(self, name):
            return getattr(real, name)

    trainer.tracker.metrics_file = Full()
    trainer.tracker.row({"step": 2})
    trainer.tracker.metrics_file = real
    trainer.tracker.row({"step": 3})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n{"step": 3}\n'


def test_writing_a_snapshot_does_not_hold_training_up(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path, "train.steps=6", "train.snapshot_every=3", "train.eval_every=null")
    import threading

    may_write, steps_done, held_back = threading.Event(), [], []
    real_save = saving.save
    monkeypatch.setattr(saving, "save", lambda *a: (held_back.append(may_write.wait(20)), real_save(*a)))
    real = trainer.step

    def step(number):
        steps_done.append(number)
        if number == 5:
            may_write.set()
        return real(number)

    trainer.step = step
    trainer.fit()
    assert held_back == [True, True]  # set in step 5: steps 4 and 5 were made while the first snapshot was held back
    assert steps_done == [1, 2, 3, 4, 5, 6]


def test_snapshots_fall_due_by_the_clock_too(tmp_path):
    trainer = fit(tmp_path, "train.steps=3", "train.snapshot_minutes=1e-9", "train.keep_snapshots=null")
    assert len(trainer.run.snapshot_folders()) == 3


def test_steps_that_are_not_finite_are_skipped_and_counted_up_to_a_limit(tmp_path):
    from cleangpt.training.finite import NonFinite

    trainer = make_trainer(tmp_path, "train.nonfinite=skip", "train.nonfinite_limit=2", "train.steps=5")
    good = trainer.model.norm.weight.detach().clone()
    real = trainer.stream.micro_step

    def poisoned(m):
        with torch.no_grad():
            trainer.model.norm.weight.copy_(good)
            if m in (1, 2):
                trainer.model.norm.weight[0] = float("nan")
        return real(m)

    trainer.stream.micro_step = poisoned
    for step in (1, 2, 3, 4):
        row, _ = trainer.step(step)
    assert (trainer.state.skipped, trainer.state.skipped_in_a_row, row["skipped"]) == (2, 0, 2)
    trainer.state.skipped_in_a_row = 2
    trainer.state.micro_step = 1
    with pytest.raises(NonFinite, match="step 5"):
        trainer.step(5)


def test_a_run_that_ends_in_a_skipped_step_still_has_its_snapshot(tmp_path):
    trainer = make_trainer(tmp_path, "train.nonfinite=skip", "train.nonfinite_limit=20", "train.eval_every=null")
    with torch.no_grad():
        trainer.model.norm.weight[0] = float("nan")
    trainer.fit()
    assert snapshot.newest_good(trainer.run)[0].name == "step_00000008"
    assert trainer.state.skipped == 8
    assert [row["train/loss"] for row in rows(tmp_path)] == [None] * 8


def test_a_score_that_is_interrupted_is_not_given(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.stop.number = 15
    with pytest.raises(Stopped):
        evaluate.validate(trainer.judge, trainer.task)
    with pytest.raises(Stopped):
        of_task.score(trainer.task, trainer.judge, "test", None, "auto")
