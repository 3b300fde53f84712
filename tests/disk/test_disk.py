"""A disk that is full at any write, and a run directory that is taken away: what a training says is what is there."""

import errno
import os
import re
import shutil
import time
from pathlib import Path

import pytest
from helpers.trainings import composed, fit, make_trainer, rows
from started.programs import TORCHRUN, run_program

from cleangpt.basics import files, verbs
from cleangpt.basics.errors import UserError
from cleangpt.config import cli, experiment
from cleangpt.config.asked import Asked
from cleangpt.disk import weights
from cleangpt.disk.rundir import RunDir
from cleangpt.snapshots import snapshot
from cleangpt.training import whole

OPTIONS = ("train.steps=6", "train.eval_every=2", "train.snapshot_every=3", "train.test_at_end=true")


class Disk:
    """A disk without room for files that `is_full` is true of, as far as the system's own calls go."""

    def __init__(self, monkeypatch, is_full, call="open"):
        self.is_full, self.folders, self.refused = is_full, {}, []
        self.calls = {name: getattr(os, name) for name in ("open", "fsync")}
        monkeypatch.setattr(os, "open", self.open)
        monkeypatch.setattr(os, "fsync", self.fsync)
        self.call = call

    def open(self, path, flags, mode=0o777, *, dir_fd=None):
        path = os.path.join(self.folders[dir_fd], path) if dir_fd in self.folders else os.fspath(path)
        if self.call == "open" and flags & os.O_CREAT:
            self._refuse(path)
        handle = self.calls["open"](path, flags, mode)
        self.folders[handle] = path
        return handle

    def fsync(self, handle):
        if self.call == "fsync" and os.path.isfile(self.folders.get(handle, "")):
            self._refuse(self.folders[handle])
        self.calls["fsync"](handle)

    def _refuse(self, path):
        name = re.sub(r"\.(.+)\.[0-9a-f]{16}\.tmp$", r"\1", path)
        if self.is_full(name):
            self.refused.append(name)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where outputs/latest is nobody's


def train(*overrides, folder="run", resume=False):
    run = RunDir(Path(folder))
    asked = Asked(experiment.parse(composed(*OPTIONS, *overrides)))
    return whole.train(asked, run, run.path if resume else None, time.monotonic()), run


def there(run):
    """List what is there indeed."""
    found = [f"the snapshot of step {int(folder.name[5:])}" for folder in run.snapshot_folders()[-1:]]
    for folder in (run.best, run.final):
        if (folder / weights.WEIGHTS).exists():
            found.append(f"{folder.name}/ (step {weights.about(folder)['step']})")
    return found


def named(text):
    """List what a text says is there: of the sentence on what could not be written only the second half."""
    lines = [line.partition("could not be written")[2] for line in text.splitlines() if "The run is not" in line]
    lines += [line for line in text.splitlines() if line.startswith("Everything is in")]
    return re.findall(r"the snapshot of step \d+|(?:best|final)/ \(step \w+\)", "\n".join(lines))


WEIGHTS = {
    "final": r"final/model\.safetensors",
    "final's configuration": r"final/config\.json",
    "final's tokenizer": r"final/tokenizer\.json",
    "best": r"best/model\.safetensors",
    "best and final": r"(best|final)/",
    "last snapshot": r"step_00000006",
    "all snapshots": r"snapshots/",
    "everything after the start": r"(best|final|snapshots|score|plots)/|summary\.json|card\.md",
    "summary": r"summary\.json",
}


@pytest.mark.parametrize("call", ["open", "fsync"])
@pytest.mark.parametrize("full", WEIGHTS.values(), ids=WEIGHTS)
def test_a_run_without_all_that_it_should_leave_ends_with_1_and_names_only_what_is_there(
    tmp_path, monkeypatch, capsys, full, call
):
    disk = Disk(monkeypatch, lambda path: re.search(full, path), call)
    status, run = train()
    assert disk.refused
    assert status == 1
    said = capsys.readouterr().out
    assert "No space left on device" in said
    assert set(named(said)) <= set(there(run)), said
    if run.summary.exists():
        summary = files.read_json(run.summary)
        assert summary["status"] == "failed"
        assert set(named(f"The run is not {summary['error']}")) == set(there(run))
    if run.card.exists():
        assert "Failed after step 6 of 6" in run.card.read_text() or full == WEIGHTS["summary"]
    assert "training goes on" not in said.split("step 6/6")[-1]
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    if run.snapshot_folders():  # with room again, it goes on from there
        assert "Resume" in said or full == WEIGHTS["summary"]
        assert train(resume=True)[0] == 0
        assert files.read_json(run.summary)["status"] == "completed"
        assert "final/ (step 6)" in there(run)
    else:
        assert "There is no snapshot to resume from." in said


SMALL = {
    "pictures": r"\.png",
    "score": r"score/",
    "card": r"card\.md",
    "all of these": r"\.png|score/|card\.md|metrics\.csv|outputs",
}


@pytest.mark.parametrize("full", SMALL.values(), ids=SMALL)
def test_a_run_whose_weights_are_safe_is_complete_without_pictures(monkeypatch, capsys, full):
    disk = Disk(monkeypatch, lambda path: re.search(full, path))
    status, run = train("logger.plots=true", "logger.csv=true")
    said = capsys.readouterr().out
    assert disk.refused
    assert status == 0
    assert files.read_json(run.summary)["status"] == "completed"
    assert "final/ (step 6)" in there(run)
    assert set(named(said)) <= set(there(run))
    (everything,) = re.findall(r"Everything is in .*", said)
    for name, path in (("card.md", run.card), ("plots/", run.plots)):
        assert (name in everything) == path.exists()
    for name, word in ((r"score/", "score/ could not be"), (r"card\.md", "card.md could not be"), (r"\.png", "plots")):
        if name in full.split("|"):
            assert f"{word}" in said
            assert "No space left on device" in said


def test_a_card_and_a_summary_of_an_earlier_part_do_not_stay_where_no_new_ones_can_be_written(monkeypatch, capsys):
    assert train()[0] == 0
    Disk(monkeypatch, lambda path: re.search(r"summary\.json|card\.md|run\.json", path))
    status, run = train("train.steps=8", resume=True)
    assert status == 1
    assert not run.summary.exists()
    assert not run.card.exists()
    assert "run.json could not be written (No space left on device)" in capsys.readouterr().out
    assert "final/ (step 8)" in there(run)


@pytest.mark.parametrize("name", ["config.json", "run.json", "train.log", "metrics.jsonl"])
def test_a_run_that_cannot_write_its_first_files_does_not_begin(monkeypatch, name):
    Disk(monkeypatch, lambda path: path.endswith(f"run/{name}"))
    with pytest.raises(
        UserError, match=r"run can't be written \(No space left on device\): make room, or choose"
    ) as refused:
        train()
    assert "\n" not in str(refused.value)
    assert os.listdir("run") == []


def test_a_signal_on_a_full_disk_is_told_from_where_the_run_goes_on(monkeypatch, capsys):
    Disk(monkeypatch, lambda path: "step_00000004" in path)
    real = whole.Trainer.step

    def step(trainer, number):
        if number == 5:
            trainer.stop.number = 15
        return real(trainer, number)

    monkeypatch.setattr(whole.Trainer, "step", step)
    assert train()[0] == 143
    said = capsys.readouterr().out
    assert "the snapshot of step 4 could not be written; there are the snapshot of step 3 and best/" in said
    assert f"Resume from step 3 with: {verbs.shown('train')} resume=run" in said


def test_a_best_that_found_no_room_is_written_before_the_next_snapshot_and_none_is_written_without_it(
    monkeypatch, capsys, tmp_path
):
    trainer = make_trainer(tmp_path / "run", *OPTIONS)
    Disk(monkeypatch, lambda path: "best/" in path and trainer.state.step < 5)
    trainer.fit()
    trainer.tracker.close()
    monkeypatch.undo()
    said = capsys.readouterr().out
    assert "the snapshot of step 3 could not be written (No space left on device): training goes on" in said
    (folder,) = trainer.run.snapshot_folders()
    assert (folder.name, weights.step(trainer.run.best)) == ("step_00000006", trainer.state.best_step)
    assert (folder / snapshot.BEST).read_bytes() == (trainer.run.best / weights.WEIGHTS).read_bytes()


def test_best_weights_that_a_snapshot_lacks_are_not_taken_for_what_is_there(capsys, tmp_path):
    trainer = make_trainer(tmp_path / "run", *OPTIONS)
    trainer.fit()
    trainer.tracker.close()
    folder = trainer.run.snapshot_folders()[-1]
    (folder / snapshot.BEST).unlink()
    shutil.rmtree(trainer.run.best)
    again = make_trainer(tmp_path / "run", *OPTIONS, snapshot=folder)
    assert again.state.best is None
    lost = f"best/ does not hold step {trainer.state.best_step}, which could not be written: the next evaluation counts"
    assert lost in capsys.readouterr().out


@pytest.mark.parametrize("call", ["open", "fsync"])
def test_other_programs_say_in_one_sentence_what_they_could_not_write(monkeypatch, capsys, call):
    Disk(monkeypatch, lambda path: path.endswith("report.md"), call)
    with pytest.raises(SystemExit) as left:
        cli.run(lambda: files.write_text(Path("report.md"), "words"))
    assert left.value.code == 1
    assert capsys.readouterr().err == "report.md could not be written (No space left on device): make room first\n"
    assert os.listdir() == []


# ---- the directory


def takes_away(monkeypatch, how, at):
    """Have the run directory go before this step."""
    real = whole.Trainer.step

    def step(trainer, number):
        if number == at:
            trainer.writer.wait()
            how(trainer.run.path)
        return real(trainer, number)

    monkeypatch.setattr(whole.Trainer, "step", step)


def replaced(path):
    path.rename(path.with_name("moved"))
    path.mkdir()


def emptied(path):
    for one in path.iterdir():
        shutil.rmtree(one) if one.is_dir() else one.unlink()


AWAY = {
    "emptied": emptied,
    "deleted": shutil.rmtree,
    "moved": lambda path: path.rename(path.with_name("moved")),
    "replaced": replaced,
}


@pytest.mark.parametrize("at", [2, 6])
@pytest.mark.parametrize("how", AWAY.values(), ids=AWAY)
def test_a_training_whose_directory_is_taken_away_stops_and_says_so(monkeypatch, capsys, how, at):
    takes_away(monkeypatch, how, at)
    status, run = train("logger=default")
    assert status == 1
    said = capsys.readouterr().out
    assert re.search(rf"run was deleted, moved or replaced: stopped after step {at}, nothing more is written", said)
    assert not run.path.exists() or os.listdir(run.path) == []
    moved = run.path.with_name("moved")
    assert not moved.exists() or "was deleted, moved or replaced" in (moved / "train.log").read_text()


def test_a_directory_that_goes_while_the_score_is_computed_is_not_made_anew(monkeypatch, capsys):
    from cleangpt.score import of_task

    real = of_task.score
    monkeypatch.setattr(of_task, "score", lambda *a, **k: (real(*a, **k), shutil.rmtree("run"))[0])
    status, run = train("logger=default")
    assert status == 1
    assert not run.path.exists()
    assert "run was deleted" in capsys.readouterr().out


def test_a_directory_that_is_reached_through_another_name_is_still_there(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    (tmp_path / "link").symlink_to("a")
    trainer = fit(tmp_path / "link", *OPTIONS)
    assert not trainer.tracker.is_gone()
    assert len(rows(folder)) == 6
    (tmp_path / "link").unlink()
    (tmp_path / "b").mkdir()
    (tmp_path / "link").symlink_to("b")
    assert trainer.tracker.is_gone()


@pytest.mark.slow
def test_all_processes_end_when_the_directory_is_deleted(tmp_path):
    (tmp_path / "away.py").write_text(AWAY_SCRIPT)
    words = ["device=cpu", "model=llama_tiny", "dataset.digits=1", "logger=quiet", "train.steps=100000"]
    words += ["train.test_at_end=false", "train.batch_size=8", "hydra.run.dir=run"]
    launcher = (*TORCHRUN, "--nproc-per-node=3")
    done = run_program(tmp_path / "away.py", *words, cwd=tmp_path, launcher=launcher, timeout=100)
    assert done.returncode == 1
    assert "run was deleted, moved or replaced: stopped after step" in done.stdout
    assert not re.search(r"rank \d: Traceback", done.stderr)  # torchrun has one of its own
    assert not (tmp_path / "run").exists()


AWAY_SCRIPT = f"""
import os, runpy, shutil, sys
sys.path.insert(0, {str(whole.__file__.rpartition("/cleangpt/")[0])!r})
from cleangpt.training.loop import Trainer
real = Trainer.step
def step(self, number):
    if number == 5 and os.environ["RANK"] == "0":
        shutil.rmtree(self.run.path)
    return real(self, number)
Trainer.step = step
sys.argv[0] = sys.path[0] + "/train.py"
runpy.run_path(sys.argv[0], run_name="__main__")
"""
