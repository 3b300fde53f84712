"""The loop of a sweep and its table: what runs, what is told, what a signal does."""

import io
import json
import os
import re
import shlex
import signal

import pytest
from helpers.sweeping import Fake, FakeRun, complete, composing
from hydra.core.override_parser.overrides_parser import OverridesParser
from rich.console import Console

from cleangpt.basics import files, verbs
from cleangpt.basics.errors import UserError
from cleangpt.sweeps import loop
from cleangpt.sweeps.grid import Grid
from cleangpt.sweeps.jobs import Outcome
from cleangpt.sweeps.table import Board


def test_a_sweep_ends_with_its_best_job_and_the_command_that_compares_them(tmp_path, quick, capsys):
    def ends(**values):
        def status(run):
            complete(run.job, **values)
            return 0

        return status

    values = [(0.5, 1.0), (0.9, 3.0), (0.9, 2.0), (0.1, 0.5)]
    fake = Fake(1, {n: ends(**{"val/accuracy": right, "val/loss": loss}) for n, (right, loss) in enumerate(values)})
    folder = tmp_path / "my sweep"
    folder.mkdir()
    assert loop.run(Grid(None, ["seed=0,1,2,3"], composing(folder)), fake, folder) == 0
    *_, best, compare = capsys.readouterr().out.splitlines()
    assert best == "Best: 0002, seed=2: val/loss 2.00000, val/accuracy 90.00%"
    runs = shlex.split(compare.removeprefix(f"Compare them: {verbs.shown('report')} "))[0]
    assert parse_value(runs) == str(folder)
    without = Fake(1, {n: ends(**{"val/loss": loss}) for n, (_, loss) in enumerate(values)})
    assert loop.run(Grid(None, ["seed=0,1,2,3"], composing(tmp_path / "b")), without, tmp_path) == 0
    assert "Best: 0003, seed=3: val/loss 0.50000\n" in capsys.readouterr().out
    assert loop.run(Grid(None, ["seed=0"], composing(tmp_path / "c")), Fake(1, {}), tmp_path) == 0
    assert "Best" not in capsys.readouterr().out
    assert loop.run(Grid(None, ["seed=0,1"], composing(tmp_path / "d")), Fake(1, {0: 1, 1: 1}), tmp_path) == 1
    said = capsys.readouterr().out
    assert "Best" not in said
    assert "Compare" not in said


def parse_value(word: str) -> str:
    return OverridesParser.create().parse_override(word).value()


def test_all_jobs_run_and_a_failing_one_is_told_with_its_own_words(tmp_path, quick, capsys):
    first = {}

    def look(run):
        first.update(json.loads((tmp_path / "sweep.json").read_text()))
        complete(run.job, **{"val/loss": 1.5, "val/accuracy": 0.5})
        return 0

    fake = Fake(2, {0: look, 1: 1})
    plan = Grid(None, ["seed=0,1,2,3,4"], composing(tmp_path))
    assert loop.run(plan, fake, tmp_path) == loop.FAILED
    said = capsys.readouterr().out
    assert fake.most == 2
    assert "0000 seed=0 started\n" in said
    assert re.search(r"0000 seed=0 finished in 0:0\d: val/loss 1.50000, val/accuracy 50.00%\n", said)
    assert "0001 seed=1 failed: words of 1\n" in said
    assert "5 jobs: 4 finished, 1 failed." in said
    assert "\n    0001_seed=1 failed: words of 1\nWhat a job said" in said
    assert f"Continue with: {verbs.shown('train')} -m seed=0,1,2 hydra.sweep.dir={tmp_path}" in said
    about = json.loads((tmp_path / "sweep.json").read_text())
    told = about["jobs"]
    assert about["of"] == first["of"] == 5, "so that what was never begun can be missed"
    assert [one["status"] for one in told] == ["completed", "failed", "completed", "completed", "completed"]
    again = Fake(2, {})
    assert loop.run(Grid(None, ["seed=0,1,2,3,4"], composing(tmp_path)), again, tmp_path) == 0
    said = capsys.readouterr().out
    assert "0000 seed=0 done before: val/loss 1.50000" in said
    assert said.count("started") == 1, "only the one that had failed"


def test_jobs_that_were_not_computed_alike_are_told_at_the_end(tmp_path, quick, capsys):
    class OnMachines(Fake):
        def start(self, job):
            machine = {"device_type": "cpu", "dtype": "float32", "threads": 1 + job.number // 2}
            files.write_json(job.run.run, {"machine": machine, "resumed": []})
            return super().start(job)

    plan = Grid(None, ["seed=0,1,2"], composing(tmp_path))
    assert loop.run(plan, OnMachines(2, {}), tmp_path) == 0
    said = capsys.readouterr().out
    assert "These jobs were not computed alike: threads 1 (0000 and 0001), 2 (0002). For that alone" in said


def test_a_signal_stops_the_running_jobs_and_starts_no_others(tmp_path, quick, capsys):
    def interrupt(run):
        os.kill(os.getpid(), signal.SIGINT)
        return 0

    fake = Fake(2, {0: interrupt, 1: lambda run: None}, looks=3)
    assert loop.run(Grid(None, ["seed=0,1,2,3"], composing(tmp_path)), fake, tmp_path) == 128 + signal.SIGINT
    said = capsys.readouterr().out
    assert ("stop", 1) in fake.notes
    assert "SIGINT: waiting for " in said
    assert "4 jobs: 1 failed, 1 stopped, 2 not started." in said
    assert "Continue with: " in said
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "as it was"


def test_a_second_signal_kills(tmp_path, quick):
    def interrupt(run):
        os.kill(os.getpid(), signal.SIGTERM)

    fake = Fake(1, {0: interrupt}, looks=2)
    FakeRun_stop = FakeRun.stop

    def stuck(run):
        run.fake.notes.append(("stop", run.job.number))
        os.kill(os.getpid(), signal.SIGTERM)

    try:
        FakeRun.stop = stuck
        assert loop.run(Grid(None, ["seed=0,1"], composing(tmp_path)), fake, tmp_path) == 128 + signal.SIGTERM
    finally:
        FakeRun.stop = FakeRun_stop
    assert fake.notes == [("stop", 0), ("kill", 0)]


def test_two_sweeps_do_not_share_a_directory(tmp_path):
    with loop._alone_in(tmp_path), pytest.raises(UserError, match="another process runs the sweep in"):
        loop._alone_in(tmp_path).__enter__()
    with loop._alone_in(tmp_path):
        pass


def test_the_table_on_a_terminal_has_what_runs_when_not_all_fits(tmp_path):
    console = Console(file=io.StringIO(), width=100, height=12, force_terminal=True)
    board = Board(50, console)
    plan = Grid(None, ["seed=range(0,30)"], composing(tmp_path))
    for number in range(30):
        job = plan.next()
        board.started(job)
        if number < 28:
            board.ended(job, Outcome("completed", summary={"step": 4, "val/loss": 0.25}))
    picture = board.picture()
    board.close()
    assert picture.caption == "28 of 50 ended, 2 running, 20 waiting; 24 not shown"
    shown = Console(file=io.StringIO(), width=100)
    shown.print(picture)
    text = shown.file.getvalue()
    assert all(f"seed={seed} " in text for seed in (24, 25, 26, 27, 28, 29))
    assert "0.25000" in text
