"""Trainings and sweeps from Python: the bits of the command, exact resumes, interruptions, and what fails."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from started.from_python import SHORT, SMALL
from started.programs import ROOT, run_program

import cleangpt
from cleangpt.library import starting, words


def weights(run):
    return (run.path / "final" / "model.safetensors").read_bytes()


def test_a_training_has_the_bits_of_the_command_and_its_callback_every_row(trained, tmp_path):
    run, rows = trained
    assert run.status == "completed"
    done = run_program("train.py", *words.words([*SMALL, SHORT]), "hydra.run.dir=r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert weights(run) == (tmp_path / "r/final/model.safetensors").read_bytes()
    assert rows == run.rows
    assert [row["step"] for row in rows] == list(range(1, 7))
    assert json.loads((run.path / "run.json").read_text())["command"][:2] == ["cleangpt", "train"]


def test_a_run_goes_on_exactly_and_a_second_one_in_its_place_is_refused(trained, tmp_path):
    whole, _ = trained
    short = {**SHORT, "train.steps": 3, "schedule.steps": 6}
    run = cleangpt.train(*SMALL, short, path=tmp_path / "r", progress=False)
    rows: list[dict] = []
    longer = run.resume({"train.steps": 6}, callback=rows.append, progress=False)
    assert weights(longer) == weights(whole)
    assert [row["step"] for row in rows] == [4, 5, 6]
    with pytest.raises(cleangpt.UserError, match=r"another configuration \(train.steps: 6 there, 3 here\)"):
        cleangpt.train(*SMALL, short, path=tmp_path / "r", progress=False)


def test_a_cell_that_is_run_twice_gives_the_same_run_and_goes_on_with_one_that_was_stopped(tmp_path, trained):
    def callback(row):
        if row["step"] == 2:
            raise KeyboardInterrupt

    cell = (*SMALL, SHORT, {"train.snapshot_every": 1, "logger.progress": False})
    cleangpt.train(*cell, path=tmp_path / "r", callback=callback, progress=False)
    second = cleangpt.train(*cell, path=tmp_path / "r", progress=False)
    assert weights(second) == weights(trained[0])
    assert [row["step"] for row in second.rows] == list(range(1, 7))
    written = second._dir.summary.stat().st_mtime_ns
    assert cleangpt.train(*cell, path=tmp_path / "r", progress=False).status == "completed"
    assert second._dir.summary.stat().st_mtime_ns == written, "nothing was trained"
    horizon = (*SMALL, SHORT, {"schedule.steps": 6})
    cleangpt.train(*horizon, path=tmp_path / "h", progress=False)
    assert cleangpt.train(*horizon, path=tmp_path / "h", progress=False).status == "completed"
    with pytest.raises(cleangpt.UserError, match=r"schedule.steps: 6 there, None here"):
        cleangpt.train(*SMALL, SHORT, path=tmp_path / "h", progress=False)
    with pytest.raises(cleangpt.UserError, match=r"optimizer.lr: .* there, 0.5 here"):
        cleangpt.train(*cell, {"optimizer.lr": 0.5}, path=tmp_path / "r", progress=False)


def test_what_fails_is_an_exception_with_its_reason(tmp_path):
    wild = {"optimizer.lr": 1e30, "optimizer.matrix_lr": 1e30, "train.nonfinite": "stop"}
    with pytest.raises(cleangpt.TrainingFailed, match="finite") as failed:
        cleangpt.train(*SMALL, SHORT, wild, path=tmp_path / "r", progress=False)
    assert cleangpt.Run.load(failed.value.path).status == "failed"
    (tmp_path / "file").write_text("")
    with pytest.raises(cleangpt.UserError, match="file"):
        cleangpt.train(*SMALL, SHORT, path=tmp_path / "file" / "r", progress=False)


SCRIPT = f"""
import sys, cleangpt
sys.path.insert(0, {str(ROOT / "tests")!r})
from started.from_python import SHORT, SMALL
endless = {{**SHORT, "train.steps": 100000, "train.eval_every": None}}
run = cleangpt.train(*SMALL, endless, path="r", callback=lambda row: print(row["step"], flush=True))
print()  # the interruption may have come in the middle of a line
print(run.status, run.summary["step"] == run.rows[-1]["step"], flush=True)
"""


def test_an_interruption_saves_and_gives_a_run_that_was_stopped(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout.readline() == "1\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=120)[0].splitlines()[-1] == "stopped True"
    assert list((tmp_path / "r/snapshots").glob("step_*"))


def test_an_interruption_before_it_began_is_one(tmp_path, monkeypatch):
    def look(rows):
        raise KeyboardInterrupt

    monkeypatch.setattr(starting.Rows, "new", look)
    with contextlib.suppress(KeyboardInterrupt):
        run = cleangpt.train(*SMALL, SHORT, path=tmp_path / "r", progress=False)
        assert run.status == "stopped", "this process was held up, and it had begun"
    monkeypatch.setattr(starting.verbs, "command", lambda _: [sys.executable, "-c", "import time; time.sleep(60)"])
    with pytest.raises(KeyboardInterrupt):
        cleangpt.train(*SMALL, SHORT, path=tmp_path / "never", progress=False)
    assert not (tmp_path / "never" / "config.json").exists()


def test_a_snapshot_is_gone_on_from_and_a_run_that_was_interrupted_early_shows_itself(tmp_path):
    def callback(row):
        if row["step"] == 4:
            raise KeyboardInterrupt

    endless = {**SHORT, "train.steps": 100000, "train.eval_every": None, "train.snapshot_every": 2}
    run = cleangpt.train(*SMALL, endless, path=tmp_path / "r", callback=callback, progress=False)
    assert (run.status, "val/loss" in run.metrics) == ("stopped", False)
    assert "data:image/png" in run._repr_html_()
    older = sorted((run.path / "snapshots").iterdir())[0]
    step, rows = int(older.name.removeprefix("step_")), []
    longer = cleangpt.Run.load(older).resume({"train.steps": step + 2}, callback=rows.append, progress=False)
    assert [row["step"] for row in rows] == [step + 1, step + 2]
    assert longer.status == "completed"


def test_a_callback_that_fails_ends_the_training_and_is_heard(tmp_path):
    def callback(row):
        raise RuntimeError("of mine")

    endless = {**SHORT, "train.steps": 100000, "train.eval_every": None}
    with pytest.raises(RuntimeError, match="of mine"):
        cleangpt.train(*SMALL, endless, path=tmp_path / "r", callback=callback, progress=False)
    assert cleangpt.Run.load(tmp_path / "r").status == "stopped"


def test_it_trains_and_scores_in_any_thread(tmp_path):
    found = []

    def work():
        run = cleangpt.train(*SMALL, SHORT, path=tmp_path / "r")
        found.append((run.status, run.score(limit=5)["problems"]))

    thread = threading.Thread(target=work)
    before = signal.getsignal(signal.SIGINT)
    thread.start()
    thread.join()
    assert found == [("completed", 5)]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_sweep_gives_its_runs_and_goes_on_where_it_was(tmp_path):
    values = {"model.n_embd": [8, 16], "seed": range(2), "hydra.launcher.keep": [False]}
    runs = cleangpt.sweep(values, *SMALL, SHORT, path=tmp_path / "s", progress=False)
    assert [run.status for run in runs] == ["completed"] * 4
    table = runs.table
    assert sorted(zip(table["model.n_embd"], table["seed"], strict=True)) == [(8, 0), (8, 1), (16, 0), (16, 1)]
    assert set(table["status"]) == {"completed"}
    began = [(run.path / "run.json").stat().st_mtime_ns for run in runs]
    again = cleangpt.sweep(values, *SMALL, SHORT, path=tmp_path / "s", progress=False)
    assert [(run.path / "run.json").stat().st_mtime_ns for run in again] == began, "what is done is skipped"

    twice = cleangpt.compare([*runs, runs[0], tmp_path / "s"])
    assert twice.findings[0] == "4 runs: 4 completed. 2 settings."
    assert cleangpt.compare(runs[0]).findings[0] == "1 run: 1 completed. 1 setting."
    with pytest.raises(cleangpt.UserError, match="nothing to compare"):
        cleangpt.compare([])

    compared = cleangpt.compare(runs, metric="val/loss")
    groups = compared.groups
    assert list(groups["model.n_embd"]) == [8, 16]
    for size, mean in zip(groups["model.n_embd"], groups["final val/loss mean"], strict=True):
        own = [run.summary["val/loss"] for run in runs if run.config.model.n_embd == size]
        assert mean == pytest.approx(sum(own) / 2)
    assert compared.findings[0] == "4 runs: 4 completed. 2 settings."
    assert (tmp_path / "report/report.html") in compared.write(tmp_path / "report")
    assert compared.plot(x="tokens").save(tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    for shown in (compared, runs, runs[:2]):
        assert "<table" in shown._repr_html_()
    with pytest.raises(cleangpt.UserError, match="logged by none"):
        compared.plot("nonsense")
    with pytest.raises(cleangpt.UserError, match="along step, tokens and seconds"):
        compared.plot(x="days")


def test_runs_of_a_sweep_that_failed_are_told(tmp_path):
    wild = {"optimizer.lr": [1e30], "hydra.launcher.keep": False}
    with pytest.warns(UserWarning, match="1 of 1 run failed"):
        runs = cleangpt.sweep(wild, *SMALL, SHORT, {"train.nonfinite": "stop"}, path=tmp_path / "s", progress=False)
    assert [run.status for run in runs] == ["failed"]
    assert "<table" in runs._repr_html_()
