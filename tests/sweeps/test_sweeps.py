"""Sweeps: names, shares of the machine, what is refused, what goes on, what is left when something is killed."""

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import ROOT, look_ahead, run_program, toy
from hydra.core.override_parser.overrides_parser import OverridesParser
from rich.console import Console

from cleangpt.basics import extras, files
from cleangpt.basics.errors import ConfigError, UserError
from cleangpt.basics.schema import keys
from cleangpt.config import command_line
from cleangpt.runs.rundir import RunDir, read_metrics
from cleangpt.sweeps import jobs, loop, naming, settings
from cleangpt.sweeps.grid import Grid
from cleangpt.sweeps.jobs import Job, Outcome, Watched
from cleangpt.sweeps.processes import Share, command, shares
from cleangpt.sweeps.table import Board

LAUNCHER = {"name": "processes", "jobs": "auto", "gpus": None}
SUBMITIT = {
    "name": "submitit", "cluster": "slurm", "jobs": None, "nodes": 2, "tasks_per_node": 4, "gpus_per_node": 4,
    "cpus_per_task": 3, "mem_gb": 64.0, "timeout_min": 90, "signal_delay_s": 77, "max_requeues": 5,
    "partition": "fast", "account": "me", "qos": "high", "constraint": "h100", "setup": ["module load cuda"],
    "additional_parameters": {"mail-user": "a@b.c"},
}  # fmt: skip
SWEEPER = {
    "name": "optuna", "params": None, "trials": 4, "metric": "val/loss", "direction": "minimize", "sampler": "tpe",
    "seed": 0, "pruner": "median", "startup_trials": 1, "warmup_steps": 0,
}  # fmt: skip
TOY = (
    "model=llama_tiny", "model.n_embd=16", "model.n_layer=1", "dataset.digits=1", "train.batch_size=8",
    "train.test_at_end=false", "logger=quiet", "device=cpu", "dtype=float32",
)  # fmt: skip


def composing(folder: Path, **changes):
    """Composes jobs as Hydra would: words are keys of a toy configuration."""

    def compose(number, words, name):
        values = dict(word.lstrip("+").split("=", 1) for word in words)
        return toy(**{**changes, **values}), folder / name

    return compose


def complete(job: Job, status="completed", **summary) -> None:
    jobs.prepare(job)
    files.write_json(job.run.summary, {"status": status, "step": job.steps(), **summary})


# ---- names


def test_a_job_is_named_by_its_number_and_what_differs():
    lines = [("train.steps=5", f"model={model}", f"optimizer.lr={lr}") for model in "ab" for lr in (1e-3, 3e-4)]
    keys = naming.differing(lines)
    names = [naming.name(number, naming.label(line, keys)) for number, line in enumerate(lines)]
    assert names[3] == "0003_model=b,optimizer.lr=0.0003"
    assert len(set(names)) == 4
    assert naming.name(7, naming.label(lines[0], naming.differing(lines[:1]))) == "0007", "nothing differs"


@pytest.mark.parametrize(
    "told", ["model={n_layer:2,n_embd:32}", "init_from=../../x y", "a='b/c'", "a=ö\n", "a=" + "x" * 400, "a=[1,2]"]
)
def test_a_name_is_one_that_every_file_system_and_shell_takes(tmp_path, told):
    name = naming.name(12, told)
    assert re.fullmatch(r"0012(_[A-Za-z0-9._=,+-]+)?", name), name
    assert len(name) <= naming.LONGEST
    (tmp_path / name).mkdir()


def test_long_names_that_begin_alike_are_told_apart():
    first, second = (naming.name(1, "a=" + "x" * 300 + end) for end in "ab")
    assert first != second


def test_a_path_of_a_job_can_be_typed_as_it_is_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("s/0003_model=llama,seed=1").mkdir(parents=True)
    word = command_line._with_quoted_path("run=s/0003_model=llama,seed=1")
    assert word == "run='s/0003_model=llama,seed=1'"
    assert look_ahead(word.replace("run=", "init_from=")) == []
    for other in ("seed=0,1", "model=gpt", "--config-dir=s/0003_model=llama,seed=1", "run=s"):
        assert command_line._with_quoted_path(other) == other


# ---- shares of the machine


@pytest.mark.parametrize(
    ("changes", "jobs", "processes", "gpus", "expected"),
    [
        ({}, 12, 1, [], [(1, None)] * 8),
        ({}, 3, 1, [], [(2, None)] * 3),
        ({}, 12, 2, [], [(1, None)] * 4),
        ({"jobs": 2}, 12, 1, [], [(4, None)] * 2),
        ({"jobs": 2}, 12, 2, [], [(2, None)] * 2),
        ({}, 12, 1, ["0", "1"], [(4, "0"), (4, "1")]),
        ({}, 12, 2, ["0", "1", "2", "3"], [(2, "0,1"), (2, "2,3")]),
        ({"jobs": 2}, 12, 1, ["0", "1", "2", "3"], [(2, "0,1"), (2, "2,3")]),
        ({"jobs": 3}, 12, 1, ["5", "7"], [(2, "5"), (2, "7"), (2, "5")]),
        ({"gpus": ["0,1", 3]}, 12, 1, [], [(2, "0,1"), (2, "3")]),
        ({"jobs": 20}, 20, 1, [], [(1, None)] * 20),
    ],
)
def test_cores_and_gpus_are_divided_among_the_jobs_that_run_at_once(changes, jobs, processes, gpus, expected):
    found = shares(settings.launcher({**LAUNCHER, **changes}), jobs, processes, gpus, cores=8)
    assert found == [Share(*share) for share in expected]


# ---- what is refused before anything starts


@pytest.mark.parametrize(
    ("words", "sentences"),
    [
        (["optimizer.lr=1e-3,1e-4,0"], ["`optimizer.lr` must be a number above 0, not 0"]),
        (["model=gpt,lama,gtp"], ["`model=lama` does not exist", "`model=gtp` does not exist"]),
        (["seed=0,1,2", "train.stepz=3"], ["`train.stepz` is not a key: did you mean `train.steps`?"]),
        (["model=llama,gpt", "model.n_kv_head=1"], ["`model.n_kv_head` is not a key"]),
        (["optimizer.lr=interval(1e-4,1e-2)"], ["`optimizer.lr=interval(1e-4,1e-2)` has no end of values"]),
        (
            ["hydra/sweeper=optuna", "optimizer.lr=interval(-1.0,1e-2)", "train.steps=range(0,5)"],
            ["`optimizer.lr` must be a number above 0", "`train.steps` must be a whole number"],
        ),
        (["sweep=lr", "optimizer.lr=-1"], ["`optimizer.lr` must be a number above 0, not -1"]),
        (["sweep=sed"], ["`sweep=sed` does not exist: did you mean `sweep=seeds`?"]),
        (["seed=0,1", "hydra.launcher.jbos=1"], ["`hydra.launcher.jbos` is not a key: did you mean `hydra"]),
        (["seed=0,1", "hydra.sweeper.trials=0"], ["`hydra.sweeper.trials` must be a whole number of at least 1"]),
        (["seed=0,1", "hydra.launcher.jobs=2", "hydra.launcher.gpus=[0]"], ["`hydra.launcher.gpus` must have"]),
        (["seed=0,1", "hydra.launcher.gpus=[0,1.5]"], ["`hydra.launcher.gpus` must be a list"]),
        (["hydra/launcher=submitit_local", "hydra.launcher.setup=3"], ["`hydra.launcher.setup` must be a list"]),
        (["seed=0,1", "hydra/launcher=basic"], ["`hydra/launcher` must be one of processes, submitit_slurm"]),
        (["seed=0,1", "hydra/sweeper=basic"], ["`hydra/sweeper` must be one of grid, optuna"]),
        (["seed=0,1", "hydra.run.dir=a,b"], ["`hydra.run.dir=a,b` can't be swept"]),
        (["seed=0,1", "resume=outputs/x"], ["`resume` can't be part of a sweep"]),
    ],
)  # fmt: skip
def test_every_mistake_in_any_job_is_named_once(words, sentences):
    found = look_ahead("-m", *words)
    assert len(found) == len(sentences), found
    for sentence, words in zip(found, sentences, strict=True):
        assert sentence.startswith(words), found


def test_a_sweep_preset_without_m_is_not_taken_for_one_run():
    assert look_ahead("sweep=lr") == ["`sweep=lr` is a sweep: add -m to run all of it"]
    assert look_ahead("sweep=lr", "hydra.mode=RUN") == [], "a job of the sweep has its words"


def test_what_a_machine_lacks_for_a_launcher_is_said(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    (sentence,) = look_ahead("-m", "seed=0,1", "hydra/launcher=submitit_slurm")
    assert "there is no `srun` here" in sentence
    monkeypatch.setattr(settings, "find_spec", lambda name: None)
    assert look_ahead("-m", "hydra/launcher=submitit_local") == [
        f"`hydra/launcher=submitit_local` needs submitit: install it by `{extras.command('slurm')}`"
    ]
    (sentence,) = look_ahead("-m", "sweep=search")
    assert sentence == f"`hydra/sweeper=optuna` needs optuna: install it by `{extras.command('search')}`"


def test_other_programs_say_that_they_have_no_sweeps(tmp_path):
    done = run_program("eval/score.py", "-m", "split=val,test", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "score.py has no sweeps (-m): start it once for each value\n"


def test_every_key_of_launchers_and_sweepers_is_explained_and_read():
    source = "".join(path.read_text() for path in (ROOT / "cleangpt" / "sweeps").glob("*.py"))
    for section in (settings.Processes, settings.Submitit, settings.Sweeper):
        for key, field in keys(section).items():
            assert field.description, key
            assert field.is_required(), key
            assert key == "name" or re.search(rf"\b(settings|chosen)\.{key}\b", source), f"{key} is not read"


# ---- the jobs of a grid


def test_a_preset_gives_the_values_and_the_command_line_narrows_them(tmp_path):
    params = {"model.n_layer": "1,2", "seed": "range(0,3)"}
    assert Grid(params, [], composing(tmp_path)).total == 6
    plan = Grid(params, ["seed=1", "train.steps=7"], composing(tmp_path))
    found = [plan.next() for _ in range(plan.total)]
    assert [job.folder.name for job in found] == ["0000_model.n_layer=1", "0001_model.n_layer=2"]
    assert [job.overrides for job in found][1] == ("model.n_layer=2", "seed=1", "train.steps=7")
    assert plan.next() is None


def test_a_continued_sweep_skips_what_is_done_and_gives_again_what_is_not(tmp_path):
    first = Grid(None, ["seed=0,1,2,3"], composing(tmp_path))
    for status in ("completed", "stopped", "failed", "early_stopped"):
        complete(first.next(), status)
    again = Grid(None, ["seed=0,1,2,3"], composing(tmp_path, device="auto", **{"logger.samples": 7}))
    assert [job.number for job, _ in again.before] == [0, 3]
    assert [again.next().number, again.next().number, again.next()] == [1, 2, None]


@pytest.mark.parametrize(
    ("words", "changes", "why"),
    [
        (["seed=0,1"], {"train.steps": 9}, "0000_seed=0 has another configuration (train.steps: 4 there, 9 here)"),
        (["seed=0,2"], {}, "job 1 is 0001_seed=1 there and 0001_seed=2 here"),
        (["seed=1,0"], {}, "job 0 is 0000_seed=0 there and 0000_seed=1 here"),
    ],
)
def test_a_sweep_is_never_mixed_with_another(tmp_path, words, changes, why):
    first = Grid(None, ["seed=0,1"], composing(tmp_path))
    for _ in range(2):
        complete(first.next())
    with pytest.raises(UserError, match=re.escape(why)):
        Grid(None, words, composing(tmp_path, **changes))


def test_a_folder_with_a_run_that_is_no_job_is_left_alone(tmp_path):
    RunDir(tmp_path / "0000_seed=0").snapshots.mkdir(parents=True)
    with pytest.raises(UserError, match="holds a run that is no job of a sweep"):
        Grid(None, ["seed=0,1"], composing(tmp_path))


def test_a_job_is_trained_by_the_same_program_in_its_own_folder_and_goes_on_there(tmp_path, monkeypatch):
    flags = ["--config-dir=mine", "-cn", "other", "hydra.searchpath=[file://more]"]
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", *flags, "seed=0,1", "resume=null"])
    job = Grid(None, ["seed=0,1", "resume=null"], composing(tmp_path)).next()
    there = f"hydra.run.dir='{tmp_path}/0000_seed=0'"
    assert command(job) == [sys.executable, "train.py", *flags, "seed=0", "resume=auto", "hydra.mode=RUN", there]


# ---- what is read of a job


def test_metrics_are_followed_also_when_a_resumed_run_has_replaced_them(tmp_path):
    path = tmp_path / "metrics.jsonl"
    watched = Watched(path)
    assert watched.new_rows() == []
    path.write_text('{"step": 1, "val/loss": 3.0}\n{"step": 2')
    assert [row["step"] for row in watched.new_rows()] == [1]
    with path.open("a") as file:
        file.write("}\n")
    assert [row["step"] for row in watched.new_rows()] == [2]
    files.replace(path, lambda file: file.write(b'{"step": 1, "val/loss": 2.0}\n'))
    assert [row["step"] for row in watched.new_rows()] == [1]
    assert watched.last == {"step": 1, "val/loss": 2.0}


@pytest.mark.parametrize(
    ("status", "summary", "log", "expected"),
    [
        (0, {"status": "completed"}, "", ("completed", "")),
        (0, {}, "what\n", ("failed", "what")),
        (1, {"status": "failed", "error": "disk gone"}, "Traceback\nOSError: disk gone\n", ("failed", "disk gone")),
        (2, {"status": "failed", "error": "of before"}, "`x` is wrong\n", ("failed", "`x` is wrong")),
        (1, {}, "OSError: 3\nE1121 04:00 torch says\n=====\n", ("failed", "OSError: 3")),
        (-9, {}, "", ("failed", "killed by SIGKILL: out of memory?")),
        (3, {}, "", ("failed", "ended with status 3 and said nothing")),
        (143, {"status": "stopped"}, "", ("stopped", "")),
        (-15, {}, "", ("stopped", "")),
    ],
)
def test_how_a_job_ended_is_read_off_its_status_its_summary_and_its_last_words(
    tmp_path, status, summary, log, expected
):
    job = Grid(None, ["seed=0"], composing(tmp_path)).next()
    jobs.prepare(job)
    job.log.write_text("of an earlier start\n")
    began = job.log.stat().st_size
    with job.log.open("a") as file:
        file.write(log)
    if summary:
        files.write_json(job.run.summary, summary)
    found = jobs.outcome(job, status, began)
    assert (found.status, found.message) == expected


# ---- the loop


class Fake:
    """Runs jobs that take some looks and end with a status; notes what is done to them."""

    def __init__(self, slots, statuses, looks=2):
        self.slots, self.statuses, self.looks, self.notes = slots, statuses, looks, []
        self.running = self.most = 0

    def start(self, job):
        self.running += 1
        self.most = max(self.most, self.running)
        return FakeRun(self, job)

    def ended(self, run):
        self.running -= 1


class FakeRun:
    def __init__(self, fake, job):
        self.fake, self.job, self.left = fake, job, fake.looks
        self.status = fake.statuses.get(job.number, 0)

    def poll(self):
        self.left -= 1
        if self.left > 0:
            return None
        if self.status == 0:
            complete(self.job, **{"val/loss": 1.5, "val/accuracy": 0.5})
        elif self.status == 1:
            files.write_json(self.job.run.summary, {"status": "failed", "error": f"words of {self.job.number}"})
        elif callable(self.status):
            return self.status(self)
        return self.status

    def stop(self):
        self.fake.notes.append(("stop", self.job.number))
        self.status, self.left = 143, 2

    def kill(self):
        self.fake.notes.append(("kill", self.job.number))
        self.status, self.left = -9, 0


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(loop, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "seed=0,1,2"])


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
    runs = shlex.split(compare.removeprefix("Compare them: python eval/report.py "))[0]
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
    assert f"Continue with: python train.py -m seed=0,1,2 hydra.sweep.dir={tmp_path}" in said
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


# ---- searches


def searching(folder, *words, **changes):
    from cleangpt.sweeps.search import Search

    folder.mkdir(exist_ok=True)
    words = words or (
        "optimizer.lr=tag(log,interval(1e-4,1e-2))",
        "model.n_layer=1,2",
        "train.batch_size=range(8,17,4)",
    )
    return Search(settings.sweeper({**SWEEPER, **changes}), words, composing(folder), folder)


def test_trials_lie_within_the_space_and_differ(tmp_path):
    plan = searching(tmp_path / "s", trials=12)
    found = []
    while (job := plan.next()) is not None:
        found.append(dict(word.split("=") for word in job.overrides))
        complete(job, **{"best/val/loss": 1.0 + len(found)})
        plan.ended(job, jobs.outcome(job, 0, 0))
    rates = [float(one["optimizer.lr"]) for one in found]
    assert len(set(rates)) == len(found) == 12
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert sum(rate < 1e-3 for rate in rates) >= 2, "on a log scale half of them are below"
    assert {one["model.n_layer"] for one in found} == {"1", "2"}
    assert {one["train.batch_size"] for one in found} <= {"8", "12", "16"}
    assert plan.report()[0].startswith("Best val/loss: 2, trial 0: optimizer.lr=")


def test_an_interrupted_search_goes_on_with_its_trials_and_what_it_learned(tmp_path):
    first = searching(tmp_path / "s")
    done, begun = first.next(), first.next()
    complete(done, **{"best/val/loss": 1.0})
    first.ended(done, jobs.outcome(done, 0, 0))
    first.watched(begun, [{"step": 1, "val/loss": 3.0}])
    again = searching(tmp_path / "s")
    assert [(job.number, outcome.status) for job, outcome in again.before] == [(0, "done before")]
    resumed = again.next()
    assert (resumed.number, resumed.overrides, resumed.folder) == (1, begun.overrides, begun.folder)
    again.watched(resumed, [{"step": 1, "val/loss": 3.0}, {"step": 2, "val/loss": 2.5}])
    others = [again.next(), again.next(), again.next()]
    assert [job and job.number for job in others] == [2, 3, None], "four trials in all"
    assert len({job.overrides for job in (done, resumed, *others[:2])}) == 4, "proposals do not begin anew"


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        (["optimizer.lr=tag(log,interval(1e-4,1e-1))"], {}),
        (["optimizer.lr=tag(log,interval(1e-4,1e-2))", "train.steps=3"], {}),
        (["optimizer.lr=tag(log,interval(1e-4,1e-2))"], {"metric": "val/accuracy"}),
    ],
)
def test_another_search_is_not_mixed_with_one_that_is_there(tmp_path, words, changes):
    searching(tmp_path / "s", "optimizer.lr=tag(log,interval(1e-4,1e-2))").next()
    with pytest.raises(UserError, match="is another one"):
        searching(tmp_path / "s", *words, **changes)


def test_a_trial_that_is_worse_than_the_median_is_stopped_and_known_as_pruned(tmp_path, quick, capsys):
    plan = searching(tmp_path / "s", trials=3, startup_trials=1)
    losses = {0: 1.0, 1: 5.0, 2: 0.5}

    class Learning(FakeRun):
        def poll(self):
            if self.left == self.fake.looks:
                row = {"step": 1, "val/loss": losses[self.job.number]}
                self.job.run.metrics.write_text(json.dumps(row) + "\n")
            status = super().poll()
            if status == 0:
                complete(self.job, **{"best/val/loss": losses[self.job.number]})
            return status

    class LearningFake(Fake):
        def start(self, job):
            self.running += 1
            return Learning(self, job)

    fake = LearningFake(1, {}, looks=4)
    assert loop.run(plan, fake, tmp_path / "s") == 0
    assert fake.notes == [("stop", 1)]
    assert [trial.state.name for trial in plan.study.trials] == ["COMPLETE", "PRUNED", "COMPLETE"]
    said = capsys.readouterr().out
    assert "pruned at step 1" in said
    assert "Best val/loss: 0.5, trial 2" in said


def test_what_is_searched_for_is_what_the_task_calls_better(tmp_path):
    chosen = [
        ("val/accuracy", "auto", "MAXIMIZE"),
        ("val/loss", "auto", "MINIMIZE"),
        ("val/accuracy", "minimize", "MINIMIZE"),
    ]
    for n, (metric, direction, found) in enumerate(chosen):
        assert searching(tmp_path / str(n), metric=metric, direction=direction).study.direction.name == found


def test_a_metric_that_no_evaluation_has_fails_with_those_that_it_has(tmp_path):
    plan = searching(tmp_path / "s", metric="val/los")
    job = plan.next()
    complete(job, **{"best/val/loss": 1.0})
    outcome = jobs.outcome(job, 0, 0)
    plan.ended(job, outcome)
    assert outcome.status == "failed"
    assert "`hydra.sweeper.metric` val/los is no value of an evaluation: there are val/loss" in outcome.message


def test_a_search_without_a_space_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="a search needs values to choose from"):
        searching(tmp_path / "s", "seed=1")


# ---- clusters


def test_what_is_asked_of_slurm(tmp_path, monkeypatch):
    from cleangpt.sweeps import submitted

    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    made = submitted.executor(settings.launcher(SUBMITIT), tmp_path / "jobs")
    text = made._executor._make_submission_file_text("train", "uid")
    for line in (
        "nodes=2", "ntasks-per-node=4", "gpus-per-node=4", "cpus-per-task=3", "mem=64GB", "time=90",
        "signal=USR2@77", "partition=fast", "account=me", "qos=high", "constraint=h100", "mail-user=a@b.c",
    ):  # fmt: skip
        assert f"#SBATCH --{line}\n" in text, (line, text)
    assert "module load cuda\n" in text
    assert made._executor.max_num_timeout == 5


# ---- whole sweeps


def sweep(tmp_path, *words, timeout=240):
    return run_program("train.py", "-m", *TOY, *words, "hydra.sweep.dir=s", cwd=tmp_path, timeout=timeout)


def test_jobs_run_two_at_once_and_one_that_fails_does_not_keep_the_others_from_finishing(tmp_path):
    done = sweep(tmp_path, "train.steps=2", "model.vocab_size=null,4", "seed=0,1", "hydra.launcher.jobs=2")
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
            os.kill(int(task.name), signal.SIGUSR2)
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
