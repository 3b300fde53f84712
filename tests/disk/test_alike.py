"""Runs that were not computed alike are told, and what was decided for one stays with it."""

import json
import time

import pytest
import torch
from helpers.trainings import AMX, OLD, composed, cpuinfo

from cleangpt.config import experiment
from cleangpt.config.asked import Asked
from cleangpt.disk import alike
from cleangpt.disk.rundir import RunDir
from cleangpt.machine import device
from cleangpt.training import resuming, whole

CPU = {"device_type": "cpu", "device": "CPU, 2 threads", "threads": 2, "dtype": "float32", "processor": "Abacus"}
GPU = {"device_type": "cuda", "device": "NVIDIA X", "threads": 8, "dtype": "bfloat16", "processor": "Abacus"}


def train(folder, *words):
    """Begin or continue the run in this folder, as train.py does with these words on its command line."""
    settings = experiment.parse({**composed(*words), "dtype": _word(words, "dtype", "auto"), "device": "cpu"})
    run, asked, resume = resuming.decide(Asked(settings, words), RunDir(folder), restarted=False)
    assert whole.train(asked, run, resume, time.monotonic()) == 0
    return json.loads(run.config.read_text())["dtype"], json.loads(run.run.read_text())


def _word(words, key, default):
    return next((word.partition("=")[2] for word in words if word.startswith(f"{key}=")), default)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(device, "LARGE", 0)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # this process says how many threads there are
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)


def test_a_run_keeps_the_dtype_that_was_decided_when_it_began(here, monkeypatch, capsys):
    cpuinfo(monkeypatch, here, AMX, name="New")
    dtype, about = train(here / "run", "train.steps=2", "train.eval_every=null")
    assert dtype == about["machine"]["dtype"] == "bfloat16"
    assert about["machine"]["processor"] == "New"
    assert about["more_is_better"] == ["accuracy"]
    assert "dtype" not in about["changed"]
    for path in [*(here / "run").glob("*/config.json"), *(here / "run").glob("snapshots/*/config.json")]:
        assert json.loads(path.read_text())["dtype"] == "bfloat16", path
    assert "dtype stays" not in capsys.readouterr().out

    cpuinfo(monkeypatch, here, OLD, name="Old")
    for steps, words in ((3, []), (4, ["dtype=auto"])):
        dtype, about = train(here / "run", f"train.steps={steps}", "resume=auto", *words)
        assert dtype == about["resumed"][-1]["machine"]["dtype"] == "bfloat16"
        assert "dtype" not in about["resumed"][-1]["changed"]
        said = capsys.readouterr().out
        assert "dtype stays bfloat16, as the run has it, where one that begins here would take float32; this" in said
        assert "begun on New, continued on Old: the same samples" in said
        assert "| `dtype` |" not in (here / "run" / "card.md").read_text()

    dtype, about = train(here / "run", "train.steps=5", "resume=auto", "dtype=float32")
    assert dtype == "float32", "what is asked for on the command line is done"
    assert about["resumed"][-1]["changed"]["dtype"] == {"here": "float32", "default": "auto"}
    said = capsys.readouterr().out
    assert "begun in bfloat16 on New, continued in float32 on Old: the same samples in the same order" in said
    assert "dtype stays" not in said


def test_a_run_that_goes_on_with_other_threads_says_so_and_one_with_the_same_says_nothing(here, capsys):
    torch.set_num_threads(1)
    train(here / "run", "train.steps=2", "train.eval_every=null")
    train(here / "run", "train.steps=3", "resume=auto")
    assert "begun" not in capsys.readouterr().out
    torch.set_num_threads(2)
    train(here / "run", "train.steps=4", "resume=auto")
    assert capsys.readouterr().out.count("begun with 1 thread, continued with 2 threads: the same samples") == 1


def test_a_dtype_that_is_slow_here_is_told_at_the_start_also_where_it_was_asked_for(here, monkeypatch, capsys):
    cpuinfo(monkeypatch, here, OLD)
    train(here / "run", "train.steps=1", "dtype=bfloat16")
    said = capsys.readouterr().out
    assert "this processor has no instructions for bfloat16, and is slow: dtype=float32 is faster" in said


# ---- in words


def test_how_a_part_of_a_run_differs_from_its_beginning_is_one_sentence():
    end = ": the same samples in the same order, but sums may be rounded otherwise"
    assert alike.continued(CPU, dict(CPU)) is None
    assert alike.continued(CPU, GPU) == f"begun in float32 on the CPU, continued in bfloat16 on NVIDIA X{end}"
    assert alike.continued(CPU, {**CPU, "threads": 1}) == f"begun with 2 threads, continued with 1 thread{end}"
    assert alike.continued(GPU, {**GPU, "threads": 1, "processor": "B"}) is None, "the GPU computes"
    assert alike.continued({}, CPU) is None, "what is not known is no difference"


def test_runs_that_differ_are_told_by_name_and_many_by_their_number():
    told = {name: alike.throughout([CPU]) for name in "abcdef"}
    assert alike.sentence(told) is None
    told["f"] = alike.throughout([CPU, {**CPU, "threads": 1}, {**CPU, "threads": 1}])
    told["e"] = alike.throughout([{**CPU, "threads": 1}])
    assert alike.sentence(told) == (
        "These runs were not computed alike: threads 2 (a, b, c and d), 1 (e), 2 then 1 (f). "
        "For that alone their results may differ. Pin that with OMP_NUM_THREADS."
    )
    told["g"] = alike.throughout([CPU])
    assert "2 (a, b, c and 2 more)" in alike.sentence(told, "jobs")
    assert alike.sentence(told, "jobs").startswith("These jobs ")


def test_one_run_whose_parts_differ_is_told_too():
    told = {"a": alike.throughout([CPU, GPU])}
    assert alike.differing(told.values()) == ["dtype", "device"]
    assert alike.sentence(told).startswith(
        "The parts of this run were not computed alike: dtype float32 then bfloat16 (a); device cpu then NVIDIA X (a)."
    )
