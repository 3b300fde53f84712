"""Whether a training continues a run: what it may say anew, and that nobody else is in the directory."""

import time

import pytest
import torch
from corpora import prepared, prose
from runs import composed

from cleangpt import config, resuming, training
from cleangpt.errors import UserError
from cleangpt.rundir import RunDir

SHORT = ("train.steps=2", "train.eval_every=null")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # this process says how many threads there are
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)


def decide(folder, *words):
    """What train.py decides with these words on its command line."""
    return resuming.decide(config.parse(composed(*words)), RunDir(folder), list(words), restarted=False)


def train(folder, *words):
    run, settings, resume = decide(folder, *words)
    assert training.train(settings, run, list(words), resume, time.monotonic()) == 0
    return settings, resume


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
