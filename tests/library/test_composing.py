"""Configurations from Python: words and values, all mistakes at once, and no trace of Hydra."""

import json
import subprocess
import sys
import threading

import hydra
import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from started.programs import ROOT

import cleangpt
from cleangpt.library import words


def test_the_import_loads_nothing_that_takes_time_and_offers_what_it_names():
    heavy = ["torch", "numpy", "pydantic", "omegaconf", "hydra", "matplotlib", "pandas", "rich", "IPython"]
    told = f"import sys, cleangpt; print([name for name in {heavy} if name in sys.modules], dir(cleangpt))"
    done = subprocess.run([sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] ")
    page = (ROOT / "docs" / "library.md").read_text()
    for name in cleangpt.__all__:
        assert f"'{name}'" in done.stdout
        assert getattr(cleangpt, name).__doc__, name
        assert f"cleangpt.{name}" in page, f"{name} is a promise, which docs/library.md makes"
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = cleangpt.trian


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, -2, 1.5, 1e-9, 1e300, "plain", "", " ", "null", "True", "1e-3", "a,b", "{a: b}", "[1,2]",
        "it's", 'say "so"', "back\\slash\\", "x=1", "${seed}", "\\${seed}", "ü→", "a b", "C:\\runs\\'x'", "line\nbreak",
        [1, 2.5, "x,y", None], [], {"a": 1, "b": {"c": [True, "it's"]}}, ["[", "]", "}"],
    ],
)  # fmt: skip
def test_a_value_is_read_as_it_was_given(value):
    parsed = OverridesParser.create().parse_override(f"key={words.value(value)}").value()
    composed = OmegaConf.to_container(OmegaConf.create({"key": parsed, "seed": 7}), resolve=True)["key"]
    assert composed == value
    assert type(composed) is type(value)


def test_numbers_of_numpy_and_paths_are_values_and_other_things_are_not(tmp_path):
    assert words.value(np.int64(3)) == "3"
    assert words.value(np.float32(0.5)) == "0.5"
    assert words.value((1, 2)) == "[1,2]"
    assert words.value(np.bool_(True)) == "true"
    assert words.value(np.array(2.5)) == "2.5"
    assert words.value(tmp_path) == f"'{tmp_path}'"
    for wrong in (object(), {"a": object()}, b"bytes"[:0].__class__):
        with pytest.raises(cleangpt.UserError):
            words.value(wrong)
    with pytest.raises(cleangpt.UserError, match="give words"):
        cleangpt.compose(3)
    with pytest.raises(cleangpt.UserError, match="no key"):
        cleangpt.compose({"a=b": 1})


def test_words_and_values_make_the_configuration_that_the_command_has():
    config = cleangpt.compose("dataset=adder", "optimizer=adamw", {"dataset.digits": 2, "optimizer.lr": 1e-3})
    shown = subprocess.run(
        [sys.executable, "train.py", "optimizer=adamw", "dataset.digits=2", "optimizer.lr=1e-3", "--cfg", "job"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert json.loads(config.model_dump_json()) == OmegaConf.to_container(OmegaConf.create(shown), resolve=True)
    later = cleangpt.compose({"dataset.digits": 2}, "dataset.digits=3", {"model": "gpt"})
    assert (later.dataset.digits, later.model.name) == (3, "gpt"), "a later one wins, and a value may name a group"


def test_every_mistake_is_in_one_exception_and_nothing_exits():
    with pytest.raises(cleangpt.ConfigError) as raised:
        cleangpt.compose("model=gtp", {"train.stepz": 3, "seed": -1})
    assert len(raised.value.mistakes) == 3
    assert "did you mean `train.steps`?" in str(raised.value)
    for words_of_the_command in ("--help", "--cfg=job", "--nonsense"):
        with pytest.raises(cleangpt.UserError):
            cleangpt.train(words_of_the_command)


def test_the_hydra_of_somebody_else_is_left_as_it_was(tmp_path):
    (tmp_path / "theirs.yaml").write_text("a: ${shown:1}\n")
    OmegaConf.register_new_resolver("shown", lambda value: value * 10, replace=True)  # a name that we use too
    argv, before = list(sys.argv), HydraConfig.instance().cfg
    try:
        with hydra.initialize_config_dir(str(tmp_path), version_base="1.1"):
            theirs = GlobalHydra.instance().hydra
            for _ in range(2):
                assert cleangpt.compose({"dataset.digits": 2}).dataset.digits == 2
                with pytest.raises(cleangpt.ConfigError):
                    cleangpt.compose("model=gtp")
                assert GlobalHydra.instance().hydra is theirs
                assert hydra.compose("theirs").a == 10
        assert not GlobalHydra.instance().is_initialized()
        assert HydraConfig.instance().cfg is before
    finally:
        OmegaConf.clear_resolver("shown")
    assert sys.argv == argv
    assert cleangpt.compose().dataset.name == "adder"


FIRST = """
import threading, cleangpt
def ask(number):
    try:
        cleangpt.train("model=gtp", {"seed": number})
    except cleangpt.ConfigError as error:
        print(len(error.mistakes), flush=True)
threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
for thread in threads:
    thread.start()
print(cleangpt.compose({"seed": 1}).seed, flush=True)
for thread in threads:
    thread.join()
"""


def test_several_threads_may_be_the_first_to_use_it():
    done = subprocess.run([sys.executable, "-c", FIRST], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.stdout.split(), done.stderr) == (["1"] * 4, "")


def test_what_only_a_command_can_do_is_refused():
    for word in ("--version", "-m", "--multirun", "hydra.mode=MULTIRUN", "--resolve", "-sc"):
        with pytest.raises(cleangpt.UserError, match="is for the command"):
            cleangpt.compose(word)
    with pytest.raises(cleangpt.UserError, match=r"without \$\{"):
        cleangpt.train(path="p/${seed}")
    with pytest.raises(cleangpt.UserError, match="resume"):
        cleangpt.train("resume=somewhere")


@pytest.mark.parametrize(
    ("asked", "words_of_it"),
    [
        ({"seed": 3}, ["3"]),
        ({"seed": (n for n in range(2))}, ["0", "1"]),
        ({"seed": np.arange(2)}, ["0", "1"]),
        ({"seed": np.int64(4)}, ["4"]),
        ({"dataset.reversed": np.array([True, False])}, ["true", "false"]),
        ({"train.eval_every": None}, ["null"]),
        ({"model": "gpt"}, ["gpt"]),
        ({"optimizer.lr": [1e-3, "2e-3"]}, ["0.001", "'2e-3'"]),
    ],
)
def test_the_values_of_a_sweep_are_lists_or_one(asked, words_of_it):
    (found,) = words.choices(asked).values()
    assert found == words_of_it


@pytest.mark.parametrize("asked", [{"train": {"steps": [1]}}, {"seed": b"01"}, {"seed": []}, ["seed=1"], "seed=1,2"])
def test_other_values_of_a_sweep_are_refused(asked):
    with pytest.raises(cleangpt.UserError):
        cleangpt.sweep(asked)


def test_it_composes_in_any_thread_and_in_several():
    found, threads = [], []
    for digits in (1, 2, 3, 1, 2, 3):
        compose = lambda digits=digits: found.append((digits, cleangpt.compose({"dataset.digits": digits})))  # noqa: E731
        threads.append(threading.Thread(target=compose))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert all(config.dataset.digits == digits for digits, config in found)


def test_a_conf_of_ones_own_counts_here_too(tmp_path, monkeypatch):
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf/experiment/mine.yaml").write_text("# @package _global_\nseed: 41\n")
    monkeypatch.chdir(tmp_path)
    assert cleangpt.compose("experiment=mine").seed == 41
