"""Whole sweeps in real processes: what runs at once, and what is left when something is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.sweeping import TOY
from started.programs import ROOT, run_program

from cleangpt.disk.rundir import read_metrics
from cleangpt.machine import guard

FRESH = "hydra.launcher.keep=false"  # what is forked is for test_kept.py, and for what is slow here


def sweep(tmp_path, *words, timeout=240):
    return run_program("train.py", "-m", *TOY, *words, "hydra.sweep.dir=s", cwd=tmp_path, timeout=timeout)


def test_jobs_run_two_at_once_and_one_that_fails_does_not_keep_the_others_from_finishing(tmp_path):
    done = sweep(tmp_path, "train.steps=2", "model.vocab_size=null,4", "seed=0,1", "hydra.launcher.jobs=2", FRESH)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "4 jobs: 2 finished, 2 failed. In s\n" in done.stdout
    why = "`model.vocab_size` must be at least 15"
    assert f"    0003_model.vocab_size=4,seed=1 failed: {why}" in done.stdout
    lines = done.stdout.splitlines()
    started = [number for number, line in enumerate(lines) if line.endswith("started")]
    assert started[1] == started[0] + 1, "the second did not wait for the first"
    assert started[2] > started[1] + 1, "the third did"
    for seed in (0, 1):
        folder = tmp_path / "s" / f"000{seed}_model.vocab_size=null,seed={seed}"
        assert json.loads((folder / "config.json").read_text())["seed"] == seed
        assert json.loads((folder / "run.json").read_text())["world_size"] == 1


def still_running(folder: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            text = (path / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(folder) in text:
            found.append(text.replace("\0", " "))
    return found


def gone(folder: Path, seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while still_running(folder) and time.monotonic() < deadline:
        time.sleep(0.2)
    return not still_running(folder)


TWELVE = ("model=llama_tiny,gpt_tiny", "optimizer.lr=1e-3,3e-3", "seed=0,1,2", "train.steps=150")
TWELVE += ("train.eval_every=25", "train.snapshot_every=5", "train.log_every=1", "hydra.launcher.jobs=2")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_sweep_of_twelve_that_is_killed_in_the_middle_and_continued_is_whole(tmp_path, number):
    folder = tmp_path / "s"
    words = [sys.executable, str(ROOT / "train.py"), "-m", *TOY, *TWELVE, f"hydra.sweep.dir={folder}"]
    with (tmp_path / "log").open("w") as log:
        begun = subprocess.Popen(words, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 300
        while not any(folder.glob("0004*/snapshots/step_*")) and time.monotonic() < deadline:
            time.sleep(0.1)
        begun.send_signal(number)
        status = begun.wait(timeout=120)
    if number == signal.SIGTERM:
        assert status == 128 + number
        assert still_running(folder) == [], "the sweep waits for its jobs"
    else:  # orphans are still leaving when the sweep is continued
        assert status == -number
    before = {path.parent.name: path.read_bytes() for path in folder.glob("*/summary.json")}
    done = [name for name, text in before.items() if json.loads(text)["status"] == "completed"]
    assert len(done) >= 3
    again = run_program(
        "train.py", "-m", *TOY, *TWELVE, f"hydra.sweep.dir={folder}", cwd=tmp_path, timeout=600, real=True
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert "12 jobs: 12 finished." in again.stdout
    folders = sorted(path.parent for path in folder.glob("*/job.json"))
    assert len(folders) == 12
    for path in folders:
        assert [row["step"] for row in read_metrics(path / "metrics.jsonl")] == list(range(1, 151)), path
        if path.name in done:
            assert (path / "summary.json").read_bytes() == before[path.name], "what was done was left alone"
    assert any("resumed" in json.loads((path / "run.json").read_text()) for path in folders)
    assert gone(folder)


@pytest.mark.slow
def test_jobs_of_two_processes_each_stop_and_leave_none_behind_even_when_the_sweep_is_killed(tmp_path):
    folder = tmp_path / "s"
    long = ("train.steps=100000", "train.eval_every=null", "train.snapshot_every=50", "processes=2", "seed=0,1")
    words = [sys.executable, str(ROOT / "train.py"), "-m", *TOY, *long, f"hydra.sweep.dir={folder}"]
    words.append("hydra.launcher.jobs=2")
    for number in (signal.SIGKILL, signal.SIGINT):
        with (tmp_path / "log").open("w") as log:
            begun = subprocess.Popen(words, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True)
        newest = len(list(folder.glob("*/snapshots/step_*")))
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            grown = [read_metrics(path) for path in folder.glob("*/metrics.jsonl")]
            if len(grown) == 2 and all(grown) and newest < 4:
                break
            time.sleep(0.2)
        time.sleep(3)
        begun.send_signal(number)
        assert begun.wait(timeout=120) == (-9 if number == signal.SIGKILL else 130)
        assert gone(folder)
        for path in folder.glob("000*"):
            assert json.loads((path / "summary.json").read_text())["status"] == "stopped"
            assert json.loads((path / "run.json").read_text())["world_size"] == 2
    done = run_program(
        "train.py", "-m", *TOY, "train.steps=3", "processes=2", "seed=0,1", "hydra.sweep.dir=t", cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_preempted_job_of_a_cluster_is_queued_again_and_goes_on(tmp_path):
    words = (*TOY, "train.steps=600", "train.eval_every=null", "train.snapshot_every=null", "seed=0,1")
    how = ("hydra/launcher=submitit_local", "hydra.launcher.tasks_per_node=2", f"hydra.sweep.dir={tmp_path / 's'}")
    with (tmp_path / "log").open("w") as log:
        begun = subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), "-m", *words, *how], cwd=tmp_path, stdout=log, stderr=log
        )
    first = tmp_path / "s" / "0000_seed=0"
    deadline = time.monotonic() + 120
    while not read_metrics(first / "metrics.jsonl") and time.monotonic() < deadline:
        time.sleep(0.1)
    for task in Path("/proc").glob("[0-9]*"):  # as Slurm does before it takes nodes away
        text = (task / "cmdline").read_bytes().decode(errors="replace") if (task / "cmdline").exists() else ""
        if "submitit.core._submit" in text and str(tmp_path) in text:
            for process in [int(task.name), *guard._descendants(int(task.name))]:
                os.kill(process, signal.SIGUSR2)
    assert begun.wait(timeout=300) == 0, (tmp_path / "log").read_text()
    log = (first / "train.log").read_text()
    assert "Stopped by SIGTERM" in log
    assert "continuing step_" in log
    about = json.loads((first / "run.json").read_text())
    assert (about["world_size"], len(about["resumed"])) == (2, 1)
    assert "2 jobs: 2 finished." in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_a_search_runs_real_trials(tmp_path):
    words = ("sweep=search", "train.steps=12", "train.eval_every=3", "hydra.sweeper.startup_trials=1")
    done = sweep(tmp_path, *words, "hydra.sweeper.trials=3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Best val/loss: " in done.stdout
    more = sweep(tmp_path, *words, "hydra.sweeper.trials=4")
    assert more.returncode == 0, more.stdout + more.stderr
    assert more.stdout.count(" started") == 1
