"""What a command line asks for is found out once, and nobody else takes its words apart."""

import re

import pytest
from helpers.configs import look_ahead, toy
from started.programs import ROOT

from cleangpt.basics.schema import Derived, Section, derived, filled, left_open
from cleangpt.config import command_line, experiment
from cleangpt.config.asked import Asked

LIBRARY = [*ROOT.glob("*.py"), *(ROOT / "cleangpt").rglob("*.py"), *(ROOT / "eval").glob("*.py")]
LIBRARY += [*(ROOT / "data").glob("*.py"), *(ROOT / "hydra_plugins").glob("*.py")]


def test_the_keys_and_groups_that_were_given_are_known_by_name():
    words = ("model=gpt", "++train.steps=3", "model.n_layer=2", "~logger", "train.steps=4", "dataset.dir='a=b'")
    asked = Asked(None, words)
    assert list(asked.given) == ["model", "train.steps", "model.n_layer", "logger", "dataset.dir"]
    assert asked.given["train.steps"] == "train.steps=4"
    assert asked.below("model") == {"n_layer": "model.n_layer=2"}
    assert command_line.split(words[-1]) == ("dataset.dir", "'a=b'")


def test_overrides_are_taken_apart_in_one_file():
    def holding(pattern: str) -> list[str]:
        return sorted(path.name for path in LIBRARY if re.search(pattern, path.read_text()))

    assert len(LIBRARY) > 100
    assert holding("OverridesParser") == ["command_line.py"]
    assert holding(r'(word|line|argument)\S*\.partition\("="\)') == ["command_line.py"]
    assert holding(r"HydraConfig\.get\(\)\.overrides") == ["cli.py"]


def test_a_configuration_is_checked_once_on_its_way_to_a_program(monkeypatch):
    from cleangpt.config import cli, look_ahead

    checked = []
    real = look_ahead.parse
    monkeypatch.setattr(look_ahead, "parse", lambda *given: checked.append("ahead") or real(*given))
    monkeypatch.setattr(cli.schema, "parse", lambda *_: checked.append("again"))
    monkeypatch.setattr(cli.sys, "argv", ["score.py", "run=here"])
    monkeypatch.setattr(cli, "run", lambda action: action())
    asked = []
    cli.start(asked.append, cli_section(), "score")
    assert checked == ["ahead"]
    assert (asked[0].config.run, asked[0].words, asked[0].own) == ("here", ("run=here",), ())


def cli_section() -> type[Section]:
    from cleangpt.config.programs import ScoreConfig

    return ScoreConfig


# ---- what is derived


def test_every_key_whose_null_stands_for_another_value_says_from_which():
    marks = derived(experiment.Config)
    known = set(derived_sources())
    assert {source for key, mark in marks.items() for source in mark.of(key)} <= known
    assert {"model.block_size", "model.head_dim", "optimizer.matrix_lr", "schedule.grad_accum.end"} <= set(marks)


def derived_sources() -> list[str]:
    from cleangpt.basics.schema import keys

    return [*keys(experiment.Config), "task.sequence_length", "task.tokenizer.vocab_size", "task.position_rows"]


def test_what_follows_from_what_follows_is_filled_in_too():
    config = experiment.parse(toy("model=llama", "optimizer=muon", **{"schedule.lr.end": None}))
    assert {"schedule.lr.begin", "schedule.lr.end", "model.ffn_dim"} <= set(left_open(config))
    done = filled(config, {"task.sequence_length": 7, "task.tokenizer.vocab_size": 9, "task.position_rows": 0})
    assert left_open(done) == []
    assert (done.model.block_size, done.model.vocab_size) == (7, 9)
    assert done.schedule.lr.end == done.schedule.lr.begin == config.optimizer.lr
    assert done.optimizer.matrix_lr == 2 * config.optimizer.lr
    assert filled(done, {}) == done


def test_a_value_follows_from_the_keys_beside_it_or_from_the_top():
    mark = Derived(("n_head", "train.steps"), lambda heads, steps: heads * steps)
    assert mark.of("model.x") == ["model.n_head", "train.steps"]
    assert mark.follows("model.x", {"model.n_head": 2, "train.steps": 3}) == 6
    assert mark.follows("model.x", {"model.n_head": None, "train.steps": 3}) is None


# ---- a folder of one's own


def test_a_conf_of_the_directory_is_a_folder_that_was_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    assert look_ahead("experiment=mine") != [], "a folder without a configuration is none"
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text("# @package _global_\ntrain: {stepz: 7}\n")
    (sentence,) = look_ahead("experiment=mine")
    assert sentence.startswith("`train.stepz` is not a key")
    assert look_ahead() == []
    monkeypatch.chdir(ROOT)
    assert command_line._own_folder() is None, "ours is no folder of a user's own"


@pytest.mark.parametrize("flag", ["--experimental-rerun=x.pickle", "--experimental-rerun"])
def test_no_pickle_is_loaded_for_a_configuration(flag):
    assert look_ahead(flag, "seed=1")[0].startswith("`--experimental-rerun` is no option")
