"""Numbers in sentences."""

import re

import pytest
import torch
from helpers.trainings import make_trainer
from started.programs import ROOT

from cleangpt.basics.words import counted, seconds
from cleangpt.training import telling


@pytest.mark.parametrize(
    ("number", "unit", "words"),
    [(1, "layer", "1 layer"), (0, "step", "0 steps"), (2000, "step", "2,000 steps"), (3, "process", "3 processes")],
)
def test_a_unit_is_in_the_plural_where_there_are_several(number, unit, words):
    assert counted(number, unit) == words


@pytest.mark.parametrize(("duration", "words"), [(12.34, "12.3 s"), (0.1, "0.1 s"), (0.0271, "27 ms"), (0.0, "1 ms")])
def test_nothing_takes_no_time(duration, words):
    assert seconds(duration) == words


def test_a_run_with_one_of_each_is_told_in_the_singular(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    one = ("model.n_layer=1", "train.steps=1", "train.batch_size=1", "train.early_stopping=1")
    trainer, said = make_trainer(tmp_path, *one), []
    monkeypatch.setattr(trainer.tracker, "say", said.append)
    telling.introduce(trainer, {"total": 10, "trained": 10}, None, [])
    for words in ("1 layer,", "CPU, 1 thread,", "1 step of 1 sample,", "1 process;", "1 evaluation without"):
        assert words in "\n".join(said)
    assert re.search(r"(?<![\d,.])1 \w+[^s\W]s\b", "\n".join(said)) is None


def test_what_may_be_one_is_never_followed_by_a_plural_that_is_written_out():
    written = re.compile(r"\{[^{}]+\} (layers|heads|threads|cores|jobs|texts|digits)\b")
    texts = {path: path.read_text() for folder in ("cleangpt", "eval") for path in (ROOT / folder).rglob("*.py")}
    assert [f"{path}: {found[0]}" for path, text in texts.items() for found in written.finditer(text)] == []
