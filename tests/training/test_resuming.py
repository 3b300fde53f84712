"""A training continues a run: what it may say anew, and that nobody else is in the directory."""

import os
import shlex
import shutil
import time

import pytest
import torch
from helpers.corpora import prepared, prose
from helpers.trainings import composed
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from cleangpt.basics import files, verbs
from cleangpt.basics.errors import UserError
from cleangpt.config import cli, experiment
from cleangpt.config.asked import Asked
from cleangpt.disk import claim
from cleangpt.disk.rundir import RunDir, read_metrics
from cleangpt.machine.launcher import World
from cleangpt.training import launch, resuming, telling, whole

PROGRAM = ["python", str(verbs.ROOT / "train.py")]
SHORT = ("train.steps=2", "train.eval_every=null")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # this process says how many threads there are
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)


def decide(folder, *words):
    """Decide as train.py does with these words on its command line."""
    return resuming.decide(Asked(experiment.parse(composed(*words)), words), RunDir(folder), restarted=False)


def train(folder, *words):
    run, asked, resume = decide(folder, *words)
    assert whole.train(asked, run, resume, time.monotonic()) == 0
    return asked.config, resume


# ---- what came from prepared data


@pytest.mark.parametrize("preset", ["shakespeare", "text"])
def test_what_the_prepared_data_decided_stays_when_a_run_goes_on(here, preset):
    prepared(here, prose(2000), separator="\n", val_fraction=0.2)  # into characters, where the preset has gpt2
    words = [f"dataset={preset}", "dataset.dir=data", "model.block_size=16", *SHORT]
    train(here / "run", *words)
    settings, resume = train(here / "run", *words, "resume=auto", "train.steps=3")
    assert resume is not None
    assert (settings.dataset.tokenizer, settings.dataset.val_fraction) == ("characters", 0.2)
    assert decide(here / "run", *words, "resume=auto", "dataset.tokenizer=characters")[2] is not None
    with pytest.raises(UserError, match=r"dataset\.tokenizer: characters there, bytes here"):
        decide(here / "run", *words, "resume=auto", "dataset.tokenizer=bytes")
    with pytest.raises(UserError, match=r"dataset\.windows: cover there, random here"):
        decide(here / "run", *words, "resume=auto", "dataset.windows=random")


# ---- a schedule that is stretched


def test_a_stretched_schedule_says_what_leaps_and_how_it_would_not(here, capsys):
    train(here / "run", "train.steps=10", "train.eval_every=null", "seed=3", "dataset.digits=1")
    ended = capsys.readouterr().out
    anew = f"{shlex.join(PROGRAM)} train.eval_every=null seed=3 dataset.digits=1 train.steps=20"
    assert "resume=run train.steps=20    # train longer: the learning rate goes from 0 to 4.59e-03" in ended
    assert f"    {anew}    # as long from the beginning, without that leap" in ended

    shutil.copytree(here / "run", here / "kept")
    train(here / "run", "resume=auto", "train.steps=20")
    said = capsys.readouterr().out
    assert "stretched from 10 to 20 steps: after step 10 the learning rate goes from 0 to 4.59e-03" in said
    assert f"without a leap, from the beginning: {anew}" in said
    rates = [row["lr"] for row in read_metrics(here / "run" / "metrics.jsonl")]
    assert (rates[9], f"{rates[10]:.2e}") == (0, "4.59e-03"), "what is said is what happens"

    kept = ["resume=auto", "train.steps=20", "schedule.steps=10"]
    assert train(here / "kept", *kept)[0].schedule.steps == 10, "named, though it is what the run had"
    assert "stretched" not in capsys.readouterr().out


@pytest.mark.parametrize("where", [["--config-dir=mine"], ["-cd", "mine"], ["hydra.searchpath=[file://mine]"]])
def test_the_command_from_the_beginning_finds_its_presets_and_its_processes(here, where):
    parts = [{"command": ["train.py", *where, "experiment=mine", "train.steps=5"], "overrides": ["experiment=mine"]}]
    command = telling._from_the_beginning(experiment.parse(composed()), parts, 10)
    assert shlex.split(command) == [*PROGRAM, *where, "experiment=mine", "train.steps=10"]
    three = experiment.parse(composed("processes=3"))
    assert telling.starter(three, World(0, 3, 0, 3)) == shlex.join(PROGRAM)
    assert telling.starter(experiment.parse(composed()), World(0, 3, 0, 3)) == (
        f"torchrun --nproc-per-node=3 {PROGRAM[1]}"
    )


def test_more_processes_than_a_machine_has_any_use_for_are_refused(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(launch.os, "cpu_count", lambda: 2)
    assert launch._processes(experiment.parse(composed("processes=16"))) == 16
    with pytest.raises(UserError, match="`processes` is 17, and this machine has 2 cores: start at most 16"):
        launch._processes(experiment.parse(composed("processes=17")))


def test_a_schedule_that_does_not_leap_is_not_spoken_of(here, capsys):
    train(here / "run", *SHORT, "schedule=constant")
    train(here / "run", "resume=auto", "train.steps=4")
    said = capsys.readouterr().out
    assert "stretched" not in said
    assert "leap" not in said


# ---- what follows from what is said anew


def test_what_was_derived_follows_what_it_was_derived_from_unless_it_is_said(here):
    common = ["optimizer=muon", "optimizer.lr=0.01", "schedule=constant", "train.eval_every=null", "train.steps=2"]
    train(here / "run", *common)

    def decided(*words):
        return decide(here / "run", "resume=auto", *words)[1].config

    faster = decided("optimizer.lr=0.02")
    assert (faster.schedule.lr.begin, faster.schedule.lr.end, faster.optimizer.matrix_lr) == (None, None, None)
    assert faster.schedule.weight_decay.begin is not None, "where nothing changed, nothing is derived anew"
    assert (faster.model.block_size, faster.schedule.steps) == (9, 2)
    said = decided("optimizer.lr=0.02", "optimizer.matrix_lr=0.02", "schedule.lr.begin=0.01")
    assert (said.schedule.lr.begin, said.schedule.lr.end, said.optimizer.matrix_lr) == (0.01, 0.01, 0.02)
    assert decided("train.steps=4").schedule.steps is None
    assert decided("train.steps=4", "schedule.steps=2").schedule.steps == 2
    more = decided("schedule.grad_accum.begin=3")
    assert (more.schedule.grad_accum.begin, more.schedule.grad_accum.end) == (3, None)


# ---- alone in a directory


def test_a_directory_that_can_not_be_made_is_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match=r"run can't be written \(Not a directory\): make room, or choose another"),
        claim.alone_in(RunDir(tmp_path / "file" / "run"), waits=False),
    ):
        pass


def test_a_place_that_can_not_be_looked_at_is_a_sentence(here, launched, monkeypatch, capsys):
    def locked(self):
        raise PermissionError(13, "Permission denied", str(self.snapshots))

    monkeypatch.setattr(RunDir, "snapshot_folders", locked)
    assert launched(here / "run", *SHORT) == 2
    assert "run/snapshots can't be used (Permission denied): choose another place" in capsys.readouterr().err


def test_two_trainings_do_not_share_a_directory(tmp_path):
    run = RunDir(tmp_path / "run")
    refused = pytest.raises(UserError, match="run is being trained by another process")
    with claim.alone_in(run, waits=False), refused:
        claim.lock(run.path, 0, print)
    os.close(claim.lock(run.path, 0, print))


def test_what_is_resumed_waits_for_a_process_that_is_leaving_and_says_so(tmp_path, monkeypatch, capsys):
    held = files.lock(tmp_path)
    monkeypatch.setattr(claim.time, "sleep", lambda _: os.close(held))  # it leaves while we wait
    with claim.alone_in(RunDir(tmp_path), waits=True):
        pass
    assert capsys.readouterr().out.startswith("Waiting up to 60 s for a process that still trains in ")


def test_who_does_not_leave_in_time_keeps_the_directory(tmp_path, monkeypatch):
    held = files.lock(tmp_path)
    now = iter(range(1000))
    monkeypatch.setattr(claim.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(claim.time, "sleep", lambda _: None)
    with pytest.raises(UserError, match="wait until it has ended"):
        claim.lock(tmp_path, 60, print)
    assert next(now) >= 60
    os.close(held)


def test_a_directory_that_is_taken_back_while_another_waits_for_it_is_made_anew(tmp_path, monkeypatch):
    folder, real = tmp_path / "run", files.lock
    folder.mkdir()

    def late(path):  # what was opened is gone when the lock is granted
        handle = real(path)
        monkeypatch.setattr(files, "lock", real)
        path.rmdir()
        return handle

    monkeypatch.setattr(files, "lock", late)
    with claim.alone_in(RunDir(folder), waits=False), pytest.raises(UserError):
        claim.lock(folder, 0, print)


@pytest.fixture
def launched(monkeypatch, here):
    """Run train.py with these words on its command line, behind what Hydra does; its exit status."""

    def launched(folder, *words):
        about = {"runtime": {"output_dir": str(folder)}, "mode": RunMode.RUN}
        monkeypatch.setattr(HydraConfig, "get", lambda: OmegaConf.create(about))
        asked = Asked(experiment.parse(composed(*words)), words)
        with pytest.raises(SystemExit) as left:
            cli.run(lambda: launch.train(asked, time.monotonic()))
        return left.value.code

    return launched


@pytest.mark.parametrize("words", [[], ["resume=auto", "train.steps=3"]], ids=["begun", "resumed"])
def test_a_run_that_another_one_finished_before_the_lock_was_had_is_not_replaced(
    here, launched, monkeypatch, capsys, words
):
    folder, real = here / "run", files.lock

    def held_back(path):  # between the look and the lock, another training comes and goes
        monkeypatch.setattr(files, "lock", real)
        train(folder, *SHORT, "seed=1")
        return real(path)

    monkeypatch.setattr(files, "lock", held_back)
    status = launched(folder, *SHORT, *words)
    if words:
        assert (status, files.read_json(folder / "config.json")["seed"]) == (0, 1)
        assert [row["step"] for row in read_metrics(folder / "metrics.jsonl")] == [1, 2, 3]
    else:
        assert (status, "holds a run already" in capsys.readouterr().err) == (2, True)
        assert files.read_json(folder / "summary.json")["status"] == "completed"
        train(here / "other", *SHORT, "seed=1")
        ends = [(path / "final" / "model.safetensors").read_bytes() for path in (folder, here / "other")]
        assert ends[0] == ends[1]


def test_a_refused_run_takes_back_its_folder_and_not_the_one_where_it_was_started(here, launched, capsys):
    for folder in (here / "outputs" / "run", here / "run"):
        folder.mkdir(parents=True)
        assert launched(folder, *SHORT, "resume=nothing") == 2
        assert "there is no such folder" in capsys.readouterr().err
        assert list(here.iterdir()) == []
