"""A training says that it lives, and stops where a file asks it to."""

import json
import os
import subprocess
import sys
import time

import pytest
from started.programs import ROOT, environment, run_program, start

from cleangpt.disk import alive
from cleangpt.disk.rundir import RunDir

ENDLESS = (
    "model=llama_tiny",
    "model.n_embd=16",
    "dataset.digits=1",
    "train.batch_size=8",
    "train.steps=100000",
    "train.eval_every=null",
    "logger=quiet",
    "hydra.run.dir=run",
)


def wait_for(what, seconds=120):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_file_stops_a_training_that_says_it_lives(tmp_path, processes):
    run = RunDir(tmp_path / "run")
    command = [sys.executable, ROOT / "train.py", *ENDLESS, f"processes={processes}"]
    process = start(command, tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: run.metrics.exists() and run.metrics.stat().st_size)
    assert alive.status(run, "stopped") == "running", "whatever an earlier part says"
    alive.ask_to_stop(run)
    assert process.wait(timeout=120) in (143, 1), "torchrun has a status of its own"
    assert alive.status(run, json.loads(run.summary.read_text())["status"]) == "stopped"
    assert run.snapshot_folders()
    assert not run.alive.exists()
    assert not run.stop.exists()


def test_a_request_of_before_stops_nothing_later(tmp_path):
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    run.stop.touch()
    done = run_program("train.py", *ENDLESS, "train.steps=5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(run.summary.read_text())["status"] == "completed"


def test_a_killed_process_is_seen_at_once_and_one_elsewhere_by_its_silence(tmp_path):
    run = RunDir(tmp_path)
    program = f"""
import sys, time; sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from cleangpt.disk import alive; from cleangpt.disk.rundir import RunDir
alive.Alive(RunDir(Path({str(tmp_path)!r})), lambda: None); print("lives", flush=True); time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment())
    assert process.stdout.readline() == b"lives\n"
    assert alive.lives(run)
    os.utime(run.alive, (1, 1))
    assert alive.lives(run), "the process is there, though it slept"
    process.kill()
    process.wait()
    os.utime(run.alive)
    assert not alive.lives(run), "the process is gone, though the file is fresh"
    said = json.loads(run.alive.read_text())
    run.alive.write_text(json.dumps({**said, "host": "another"}))
    assert alive.lives(run), "a fresh file of a machine that can't be looked into"
    os.utime(run.alive, (1, 1))
    assert not alive.lives(run)
    for hostile in ("", "[]", '{"pid": "x"}', json.dumps({**said, "pid": 10**30, "began": None})):
        run.alive.write_text(hostile)
        alive.lives(run)


def test_the_file_is_touched_while_it_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(alive, "EVERY", 0.0)
    monkeypatch.setattr(alive, "LOOK_EVERY", 0.01)
    run = RunDir(tmp_path)
    asked = []
    living = alive.Alive(run, lambda: asked.append(True))
    os.utime(run.alive, (1, 1))
    wait_for(lambda: run.alive.stat().st_mtime > 2)
    assert not asked
    alive.ask_to_stop(run)
    wait_for(lambda: asked)
    living.close()
    assert not list(tmp_path.iterdir())


def test_a_process_that_nobody_has_buried_is_dead():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert alive._began(process.pid) is not None
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert alive._began(process.pid) is None
    process.wait()
