"""The jobs of a sweep: names, shares of the machine, what is refused, what goes on, and how they ended."""

import os
import re
import sys
from pathlib import Path

import pytest
from helpers.configs import look_ahead
from helpers.sweeping import LAUNCHER, SUBMITIT, complete, composing
from started.programs import ROOT, run_program

from cleangpt.basics import extras, files
from cleangpt.basics.errors import UserError
from cleangpt.basics.schema import keys
from cleangpt.config import command_line
from cleangpt.disk.rundir import RunDir
from cleangpt.sweeps import grid, jobs, settings
from cleangpt.sweeps.grid import Grid
from cleangpt.sweeps.jobs import Watched
from cleangpt.sweeps.processes import Share, command, shares

# ---- names


def test_a_job_is_named_by_its_number_and_what_differs():
    lines = [("train.steps=5", f"model={model}", f"optimizer.lr={lr}") for model in "ab" for lr in (1e-3, 3e-4)]
    keys = grid.differing(lines)
    names = [grid.name(number, grid.label(line, keys)) for number, line in enumerate(lines)]
    assert names[3] == "0003_model=b,optimizer.lr=0.0003"
    assert len(set(names)) == 4
    assert grid.name(7, grid.label(lines[0], grid.differing(lines[:1]))) == "0007", "nothing differs"


@pytest.mark.parametrize(
    "told", ["model={n_layer:2,n_embd:32}", "init_from=../../x y", "a='b/c'", "a=ö\n", "a=" + "x" * 400, "a=[1,2]"]
)
def test_a_name_is_one_that_every_file_system_and_shell_takes(tmp_path, told):
    name = grid.name(12, told)
    assert re.fullmatch(r"0012(_[A-Za-z0-9._=,+-]+)?", name), name
    assert len(name) <= grid.LONGEST
    (tmp_path / name).mkdir()


def test_long_names_that_begin_alike_are_told_apart():
    first, second = (grid.name(1, "a=" + "x" * 300 + end) for end in "ab")
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
    assert done.stderr == f"`python {ROOT / 'eval/score.py'}` has no sweeps (-m): start it once for each value\n"


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
    assert command(job) == [
        sys.executable,
        "-m",
        "cleangpt",
        "train",
        *flags,
        "seed=0",
        "resume=auto",
        "hydra.mode=RUN",
        there,
    ]


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


def test_a_training_is_deaf_to_the_signal_that_is_for_submitit(tmp_path, monkeypatch):
    import submitit

    from cleangpt.sweeps import submitted

    alone = type("Alone", (), {"USR_SIG": "USR2", "num_tasks": 1, "cluster": "slurm"})
    monkeypatch.setattr(submitit, "JobEnvironment", alone)
    hit = "import os, signal; os.kill(os.getpid(), signal.SIGUSR2); print('lives')"  # as Slurm hits all of a job
    training = submitted.Training([sys.executable, "-c", hit], str(tmp_path), str(tmp_path / "log"), str(tmp_path), 1)
    assert training() == 0
    assert (tmp_path / "log").read_text() == "lives\n"
