"""What can be seen of a run while it goes on: its lines, its bar, its plots, its profile."""

import io
import json
import re
import time

import pytest
import torch
from helpers.trainings import fit, make_trainer, rows
from helpers.trainings import weights as flat_weights

from cleangpt.disk.rundir import RunDir
from cleangpt.machine import peaks
from cleangpt.watch import drawing, health, profiling, tracking

# ---- lines of metrics.jsonl


def test_the_clipped_share_counts_every_step_since_the_last_line(tmp_path):
    options = ("train.steps=12", "train.grad_clip=1.3")
    fit(tmp_path / "each", *options)
    clipped = {row["step"]: row["grad_norm"] > 1.3 for row in rows(tmp_path / "each")}
    assert 0 < sum(clipped.values()) < 12, "the example should clip some steps and leave some"
    assert [row["clipped_share"] for row in rows(tmp_path / "each")] == [float(step) for step in clipped.values()]
    fit(tmp_path / "some", *options, "train.log_every=5", "train.eval_every=null")
    shares = {row["step"]: row["clipped_share"] for row in rows(tmp_path / "some")}
    for (last, this), share in zip([(0, 1), (1, 5), (5, 10), (10, 12)], shares.values(), strict=True):
        assert share == sum(clipped[step] for step in range(last + 1, this + 1)) / (this - last)


def test_without_clipping_there_is_no_share_of_it(tmp_path):
    fit(tmp_path, "train.grad_clip=null")
    assert not any("clipped_share" in row for row in rows(tmp_path))


def test_memory_is_the_most_that_was_taken(tmp_path):
    fit(tmp_path)
    memory = [row["memory_gb"] for row in rows(tmp_path)]
    assert memory == sorted(memory)
    assert 0.05 < memory[0] < 100, "a process that has torch loaded, in GB"


class Clock:
    """Goes on when it is told to."""

    def __init__(self, monkeypatch, *modules):
        self.now = 0.0
        for module in modules:
            monkeypatch.setattr(module.time, "perf_counter", lambda: self.now)


def test_waiting_for_data_is_told_from_the_work_on_it(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path, "schedule.grad_accum.begin=2", "train.log_every=4", "train.eval_every=null")
    clock = Clock(monkeypatch, health)
    micro_step, forward = trainer.stream.micro_step, trainer.model.forward

    def slow(real, seconds):
        def called(*arguments, **more):
            clock.now += seconds
            return real(*arguments, **more)

        return called

    trainer.stream.micro_step = slow(micro_step, 1.0)
    trainer.model.forward = slow(forward, 3.0)
    trainer.fit()
    trainer.tracker.close()
    found = {row["step"]: row for row in rows(tmp_path)}
    assert [row["data_wait"] for row in found.values()] == [pytest.approx(0.25)] * 3
    assert found[8]["tokens_per_second"] == pytest.approx((found[8]["tokens"] - found[4]["tokens"]) / 32)


def test_mfu_is_shown_where_the_peak_is_known_and_only_there(tmp_path, monkeypatch):
    fit(tmp_path / "unknown")
    assert not any("mfu" in row for row in rows(tmp_path / "unknown"))
    monkeypatch.setattr(peaks, "peak", lambda compute: 1e12)
    trainer = fit(tmp_path / "known")
    for row in rows(tmp_path / "known"):
        assert row["mfu"] == row["tokens_per_second"] * trainer.health.flops_per_token / 1e12
        assert f"MFU {row['mfu']:.1%}" in tracking.status(row)


def test_several_devices_have_the_peak_of_all(monkeypatch, tmp_path):
    trainer = make_trainer(tmp_path)
    monkeypatch.setattr(peaks, "peak", lambda compute: 1e12)
    four = type(trainer.world)(0, 4, 0, 4)
    watch = health.StepHealth(trainer.model, 9, trainer.compute, four, None)
    assert watch.mfu(1e6) == 1e6 * trainer.model.flops_per_token(9) / 4e12


def test_norms_are_those_of_weights_and_updates_layer_by_layer(tmp_path):
    trainer = make_trainer(tmp_path, "logger.norms=3", "train.log_every=100", "train.steps=7", "train.eval_every=null")
    seen = {}
    real = trainer.step

    def step(number):
        before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
        result = real(number)
        seen[number] = (before, {name: value.detach().clone() for name, value in trainer.model.named_parameters()})
        return result

    trainer.step = step
    trainer.fit()
    trainer.tracker.close()
    measured = {row["step"]: row for row in rows(tmp_path) if any("norm/" in key for key in row)}
    assert list(measured) == [3, 6]
    layers = {"token_embedding", "blocks.0", "blocks.1", "norm", "head"}
    for number, row in measured.items():
        before, after = seen[number]
        assert {key.partition("/")[2] for key in row if "norm/" in key} == layers
        for layer in layers:
            names = [name for name in after if name.startswith(layer + ".")]
            weights = torch.cat([after[name].flatten() for name in names]).norm().item()
            update = torch.cat([(after[name] - before[name]).flatten() for name in names]).norm().item()
            assert row[f"weight_norm/{layer}"] == pytest.approx(weights, rel=1e-5)
            assert row[f"update_norm/{layer}"] == pytest.approx(update, rel=1e-5)


def test_watching_changes_nothing(tmp_path):
    plain = fit(tmp_path / "plain", "logger.norms=null")
    watched = fit(tmp_path / "watched", "logger.norms=1", "profile=true")
    assert torch.equal(flat_weights(plain), flat_weights(watched))


def test_a_step_reads_values_off_the_device_once(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path, "train.eval_every=null", "schedule.grad_accum.begin=2")
    trainer.tracker.start(0)
    trainer.first_micro_step, trainer.first_step_began = 0, 0.0  # as `fit` does
    calls = []
    for name in ("tolist", "item", "cpu", "numpy", "__float__", "__bool__", "__int__"):
        real = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor, name, lambda self, *a, name=name, real=real, **k: (calls.append(name), real(self, *a, **k))[1]
        )
    for number in (1, 2, 3):
        row, _ = trainer.step(number)
        trainer.finish_step(row, evaluates=False)
    trainer.tracker.close()
    assert calls == ["tolist"] * 3


# ---- the bar and the log


def test_the_bar_says_every_step_and_the_log_only_now_and_then(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path, "logger.progress=true", "train.log_every=4", "train.eval_every=null")
    shown = []
    bar = trainer.tracker.bar
    monkeypatch.setattr(bar.console, "file", io.StringIO())
    monkeypatch.setattr(bar, "update", lambda task, completed, description="": shown.append((completed, description)))
    made = {}
    real = trainer.step
    trainer.step = lambda number: made.setdefault(number, real(number))
    trainer.fit()
    trainer.tracker.close()
    assert [step for step, _ in shown[1:]] == list(range(1, 9))
    for step, words in shown[1:]:
        row = made[step][0]
        assert f"loss {row['train/loss']:.4f}  lr {row['lr']:.2e}  batch 8  " in words
        assert re.search(r"  [\d,]+ tokens/s", words)
    logged = re.findall(r"^step (\d+)/8  loss ", (tmp_path / "train.log").read_text(), re.MULTILINE)
    assert logged in (["1", "8"], sorted(set(logged), key=int))
    assert logged[-1] == "8"
    assert "━" not in (tmp_path / "train.log").read_text()


def test_a_line_says_how_much_time_is_left(tmp_path):
    trainer = make_trainer(tmp_path, "logger.progress=false")
    told = []
    trainer.tracker.console.print = lambda what, **_: told.append(what)
    row = {"train/loss": 0.5, "lr": 1e-3, "batch": 8, "tokens_per_second": 12345.6}
    trainer.tracker.progress(3, row, 3725.0)
    trainer.tracker.progress(4, row, 3720.0)
    assert told == ["step 3/8  loss 0.5000  lr 1.00e-03  batch 8  12,346 tokens/s  1:02:05 left"]
    trainer.tracker.close()


# ---- plots while training


def test_plots_are_drawn_while_training_goes_on(tmp_path):
    fit(tmp_path)
    said = []
    drawer = drawing.Drawer(RunDir(tmp_path), said.append)
    drawer.renew()
    drawer.process.wait(120)
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert names == {"loss.png", "accuracy.png", "schedule.png"}
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").mkdir()
    drawer.renew()
    drawer.process.wait(120)
    drawer.renew()
    assert len(said) == 1
    assert re.fullmatch(r"the plots could not be drawn \(IsADirectoryError: .*\)", said[0])
    drawer.renew()
    assert len(said) == 1


def test_each_evaluation_renews_the_plots_and_none_waits_for_them(tmp_path, monkeypatch):
    begun = []

    class Draws:
        """Takes longer than the training, but for the first."""

        returncode = 0

        def __init__(self, command, **_):
            begun.append(trainer.state.step)

        def poll(self):
            return 0 if len(begun) == 1 else None

        def communicate(self):
            return "", ""

        def terminate(self):
            begun.append("terminated")

    monkeypatch.setattr(drawing.subprocess, "Popen", Draws)
    trainer = make_trainer(tmp_path, "logger.plots=true", "train.steps=8", "train.eval_every=2")
    assert trainer.fit() == "completed"
    assert begun == [2, 4], "the second is still being drawn"
    assert not (tmp_path / "plots").exists()
    trainer.tracker.finish_plots()
    assert begun == [2, 4, "terminated"]
    assert (tmp_path / "plots" / "loss.png").exists()
    trainer.tracker.close()


def test_a_drawing_that_is_left_off_leaves_nothing_half_made(tmp_path):
    fit(tmp_path)
    drawer = drawing.Drawer(RunDir(tmp_path), print)
    drawer.renew()
    process = drawer.process
    deadline = time.monotonic() + 60
    while process.poll() is None and not (tmp_path / "plots").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    drawer.close()
    assert process.returncode is not None
    assert not list((tmp_path / "plots").glob(".*"))


# ---- the profile


def test_a_profile_is_a_trace_of_steps_and_tables_and_training_goes_on(tmp_path):
    trainer = fit(tmp_path, "profile=true", "train.steps=12", "schedule.grad_accum.begin=2")
    assert trainer.status == "completed"
    trace = json.loads((tmp_path / "profile" / "trace.json").read_text())
    events = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    for event in events:  # what a viewer needs of a complete event
        assert isinstance(event["name"], str)
        assert all(key in event for key in ("pid", "tid"))
        assert event["ts"] >= 0
        assert event["dur"] >= 0
    ours = [event for event in events if event.get("cat") == "user_annotation"]
    counts = {name: sum(event["name"] == name for event in ours) for name in ("step", "forward", "backward", "update")}
    assert counts == {"step": 3, "forward": 6, "backward": 6, "update": 3}
    steps = sorted((event for event in ours if event["name"] == "step"), key=lambda event: event["ts"])
    for step in steps:
        begins, ends = step["ts"], step["ts"] + step["dur"]
        inside = [event for event in events if begins <= event["ts"] and event["ts"] + event["dur"] <= ends]
        assert any(event["name"].startswith("aten::") for event in inside)
    tables = (tmp_path / "profile" / "table.txt").read_text()
    assert "steps 6 to 8" in tables
    shares = dict(re.findall(r"│ (\w[\w ]*?) +│ +[\d.]+ │ +([\d.]+)% │\n", tables))
    assert sum(map(float, shares.values())) == pytest.approx(100, abs=0.5)
    assert {"data", "forward", "backward", "reduce", "update", "the rest"} == set(shares)
    assert "aten::" in tables
    log = (tmp_path / "train.log").read_text()
    assert "profile/trace.json" in log
    assert "forward" in log


def test_a_profile_that_fails_costs_no_training(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("no counters here")

    monkeypatch.setattr(torch.profiler, "profile", fails)
    trainer = make_trainer(tmp_path, "profile=true", "train.steps=9")
    said = []
    monkeypatch.setattr(trainer.tracker, "say", said.append)
    trainer.profiler.say = said.append
    assert trainer.fit() == "completed"
    assert [line for line in said if "profile" in str(line)] == [
        "the profile could not be made (no counters here): training goes on"
    ]
    trainer.tracker.close()


def test_a_run_that_is_stopped_while_it_is_recorded_has_no_profile_and_ends_well(tmp_path):
    trainer = make_trainer(tmp_path, "profile=true", "train.steps=20", "train.eval_every=null")
    real = trainer.step

    def step(number):
        if number == 7:
            assert trainer.profiler.recorder is not None
            trainer.stop.number = 15
        return real(number)

    trainer.step = step
    assert trainer.fit() == "stopped"
    assert trainer.profiler.recorder is None
    assert not (tmp_path / "profile").exists()
    trainer.tracker.close()


@pytest.mark.parametrize(
    ("first", "last", "breaks", "steps"),
    [
        (1, 3000, (200, 500), range(6, 9)),
        (1, 3000, (None, None), range(6, 9)),
        (1, 3000, (7, None), range(8, 11)),  # an evaluation after 7 would fall between 6 and 8
        (1, 3000, (8, None), range(6, 9)),  # one after 8 does not
        (1, 3000, (2, None), range(7, 9)),
        (1, 3000, (1, 500), range(6, 7)),
        (501, 3000, (200, 500), range(506, 509)),  # a resumed run
        (1, 6, (None, None), range(4, 7)),  # too short to get warm
        (1, 2, (None, None), range(1, 3)),
        (1, 1, (None, None), range(1, 2)),
    ],
)
def test_what_is_recorded_is_warm_and_steps_only(first, last, breaks, steps):
    assert profiling.window(first, last, breaks) == steps
