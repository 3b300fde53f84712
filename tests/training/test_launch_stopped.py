"""Whole trainings that are stopped, go on, and are made longer, as a user does it."""

import json
import signal
import subprocess
import sys
import time

import pytest
from started.launched import FAIL, TOY, TRAIN, UNEVEN, losses, processes_in, torchrun, wrapper
from started.programs import ROOT, run, start

from cleangpt.disk.rundir import read_metrics
from cleangpt.watch.health import OF_THE_MACHINE


def test_a_signal_saves_and_ends_with_its_number(tmp_path):
    command = [sys.executable, TRAIN, *TOY, "train.steps=100000", "train.eval_every=null", "hydra.run.dir=r"]
    process = start(command, tmp_path, real=True, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not read_metrics(tmp_path / "r" / "metrics.jsonl") and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + signal.SIGTERM
    assert f"Resume with: python {ROOT / 'train.py'} resume=r" in output
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert summary["status"] == "stopped"
    assert "Stopped by a signal at step" in (tmp_path / "r" / "card.md").read_text()
    assert (tmp_path / "r" / "snapshots" / f"step_{summary['step']:08d}" / "manifest.json").exists()


@pytest.mark.parametrize("size", [1, 3])
def test_stopped_by_a_signal_and_resumed_equals_left_alone_bit_by_bit(tmp_path, size):
    options = [*TOY, *UNEVEN, "model.dropout=0.2", "train.snapshot_every=null", "train.steps=8"]
    command = [*torchrun(size, "--standalone"), *options] if size > 1 else [sys.executable, TRAIN, *options]
    whole = run([*command, "hydra.run.dir=whole"], tmp_path)
    assert whole.returncode == 0, whole.stderr
    last = size - 1  # the signal reaches one process only, and all stop
    script = wrapper(tmp_path, FAIL.format(step=5, rank=last, action="os.kill(os.getpid(), 15)"))
    stopping = [script if word == TRAIN else word for word in command]
    cut = run([*stopping, "hydra.run.dir=cut"], tmp_path)
    assert cut.returncode == (1 if size > 1 else 143), cut.stderr
    assert json.loads((tmp_path / "cut" / "summary.json").read_text())["status"] == "stopped"
    assert "Resume with: " in cut.stdout
    assert "train.py resume=cut" in cut.stdout
    done = run([*command, "resume=auto", "hydra.run.dir=cut"], tmp_path)
    assert done.returncode == 0, done.stderr
    for place in ("final", "best"):
        name = f"{place}/model.safetensors"
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    timeless = [
        [{k: v for k, v in row.items() if k not in OF_THE_MACHINE} for row in rows]
        for rows in (read_metrics(tmp_path / run / "metrics.jsonl") for run in ("cut", "whole"))
    ]
    assert timeless[0] == timeless[1]


def test_a_run_goes_on_with_another_number_of_processes_and_says_so(tmp_path):
    options = [*TOY, *UNEVEN]
    assert run([sys.executable, TRAIN, *options, "hydra.run.dir=whole"], tmp_path).returncode == 0
    script = wrapper(tmp_path, FAIL.format(step=4, rank=0, action="os.kill(os.getpid(), 10)"))
    stopped = run([sys.executable, script, *options, "hydra.run.dir=cut"], tmp_path)
    assert stopped.returncode == 128 + signal.SIGUSR1
    done = run([sys.executable, TRAIN, "resume=cut", "processes=2"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "begun with 1 process, continued with 2" in done.stdout
    assert losses(tmp_path / "cut") == pytest.approx(losses(tmp_path / "whole"), rel=2e-5)


def test_a_finished_run_is_made_longer_and_what_it_is_can_not_be_changed(tmp_path):
    assert run([sys.executable, TRAIN, *TOY, "train.steps=2", "hydra.run.dir=r"], tmp_path).returncode == 0
    other = ["model.n_layer=5", "dataset.digits=3", "seed=4", "optimizer=adamw"]
    refused = run([sys.executable, TRAIN, "resume=r", *other], tmp_path)
    assert refused.returncode == 2
    assert "model.n_layer: 2 there, 5 here" in refused.stderr
    assert "dataset.digits: 2 there, 3 here" in refused.stderr
    assert "seed: 0 there, 4 here" in refused.stderr
    assert "optimizer.name: muon there, adamw here" in refused.stderr
    assert not (tmp_path / "outputs" / "adder-llama").exists()
    longer = run([sys.executable, TRAIN, "resume=r", "train.steps=5", "optimizer.lr=0.002"], tmp_path)
    assert longer.returncode == 0, longer.stderr
    assert [row["step"] for row in read_metrics(tmp_path / "r" / "metrics.jsonl")] == [1, 2, 3, 4, 5]
    config = json.loads((tmp_path / "r" / "config.json").read_text())
    assert (config["train"]["steps"], config["optimizer"]["lr"], config["schedule"]["lr"]["begin"]) == (5, 0.002, 0.002)
    assert config["model"]["n_embd"] == 16


def test_a_run_that_has_reached_its_goal_is_complete_and_can_be_made_longer(tmp_path):
    goal = ["train.steps=40", "train.eval_every=2", "train.test_at_end=true"]
    rule = "train.stop_when={metric:val/loss,at_most:%s,times:2}"
    done = run([sys.executable, TRAIN, *TOY, *goal, rule % 2.7, "hydra.run.dir=r"], tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert (summary["status"], summary["verdict"]) == ("completed", "learned")
    step = summary["step"]
    assert 4 <= step < 40
    for said in (
        "40 steps of 12 samples, evaluated every 2",
        "it ends as soon as val/loss is at most 2.7 in 2 evaluations in a row",
        f"Solved after {step} of 40 steps: val/loss is at most 2.7 in 2 evaluations in a row.",
        "resume=r train.stop_when=null",
    ):
        assert said in done.stdout, said
    config = json.loads((tmp_path / "r" / "config.json").read_text())
    assert config["schedule"]["steps"] == 40
    longer = run([sys.executable, TRAIN, "resume=r", "train.stop_when=null", "train.steps=20"], tmp_path)
    assert longer.returncode == 0, longer.stderr
    assert json.loads((tmp_path / "r" / "summary.json").read_text())["step"] == 20
    assert json.loads((tmp_path / "r" / "config.json").read_text())["schedule"]["steps"] == 20, "it follows train.steps"
    other = run(
        [sys.executable, TRAIN, "resume=r", "train.stop_when={metric:val/accuracy,at_least:0,times:1}"], tmp_path
    )
    assert other.returncode == 0, other.stderr
    assert "val/accuracy is at least 0.0" in other.stdout, "a goal is replaced whole"
    percent = run(
        [sys.executable, TRAIN, "resume=r", "train.stop_when={metric:val/accuracy,at_least:95,times:1}"], tmp_path
    )
    assert "write 0.95 for 95%" in percent.stderr
    missed = run([sys.executable, TRAIN, *TOY, *goal[1:], rule % 0.1, "hydra.run.dir=s"], tmp_path)
    assert "The goal was not reached in 6 steps" in missed.stdout
    unknown = run([sys.executable, TRAIN, *TOY, "train.stop_when={metric:val/bleu,at_least:1,times:1}"], tmp_path)
    assert unknown.returncode == 2
    assert unknown.stderr.startswith(
        "`train.stop_when.metric` is val/bleu, which dataset=adder does not have: it has val/"
    )


def test_init_from_begins_a_new_run_with_the_weights_of_another(tmp_path):
    assert run([sys.executable, TRAIN, *TOY, "train.steps=2", "hydra.run.dir=r"], tmp_path).returncode == 0
    more = ["train.steps=1", "optimizer.lr=1e-12", "optimizer.weight_decay=0", "init_from=r/final", "hydra.run.dir=s"]
    done = run([sys.executable, TRAIN, *TOY, *more], tmp_path)
    assert done.returncode == 0, done.stderr
    ends = [json.loads((tmp_path / name / "summary.json").read_text())["val/loss"] for name in "rs"]
    assert ends[0] == pytest.approx(ends[1], rel=1e-6)
    other = run([sys.executable, TRAIN, *TOY, "model.n_layer=1", "init_from=r", "hydra.run.dir=t"], tmp_path)
    assert other.returncode == 2
    assert "model.n_layer: 2 there, 1 here" in other.stderr


def test_a_signal_to_a_sweep_stops_its_job_with_a_snapshot_and_leaves_no_process(tmp_path):
    long = [word for word in TOY if not word.startswith("train.steps")]
    command = [sys.executable, TRAIN, "-m", *long, "train.steps=100000", "train.eval_every=null", "seed=0,1"]
    command += ["hydra.launcher.jobs=1", "hydra.launcher.keep=false"]
    sweep = start(command, tmp_path, real=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 90
    while not any(tmp_path.glob("outputs/sweeps/*/0000*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(1)
    sweep.send_signal(signal.SIGTERM)
    sweep.communicate(timeout=60)
    assert sweep.returncode == 128 + signal.SIGTERM
    (folder,) = tmp_path.glob("outputs/sweeps/*/0000*")
    assert json.loads((folder / "summary.json").read_text())["status"] == "stopped"
    assert list((folder / "snapshots").glob("step_*"))
    assert not any(tmp_path.glob("outputs/sweeps/*/0001*/config.json")), "the sweep stopped as well"
    assert processes_in(tmp_path) == []
