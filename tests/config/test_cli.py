"""Mistakes on a command line are told in sentences, all at once; presets and folders of the user's own."""

import re

import pytest
import yaml
from helpers.configs import look_ahead
from hydra._internal.utils import get_args_parser
from started.programs import ROOT, TORCHRUN, refused, run_program

from cleangpt.basics.errors import ConfigError, UserError
from cleangpt.config import command_line
from cleangpt.config.experiment import Config
from cleangpt.config.programs import BenchConfig, ScoreConfig

DIGITS = "`dataset.digits` must be a whole number of at least 1 up to 1000 or a list of a whole number, not 0"

GROUPS = ["dataset", "experiment", "logger", "model", "optimizer", "schedule", "sweep"]
TWO = (*TORCHRUN, "--nproc-per-node=2")


def preset(folder, name: str, content: dict) -> tuple[str, str]:
    """Write an experiment of the user's own; the words that choose it."""
    (folder / "mine" / "experiment").mkdir(parents=True, exist_ok=True)
    path = folder / "mine" / "experiment" / f"{name}.yaml"
    path.write_text("# @package _global_\n" + yaml.safe_dump(content, sort_keys=False))
    return f"--config-dir={folder / 'mine'}", f"experiment={name}"


# ---- mistakes


def test_every_mistake_is_named_once_without_torch_or_a_run_directory(light):
    wrong = {
        "model=lama": "`model=lama` does not exist: did you mean `model=llama`?",
        "schedule=sine": "`schedule=sine` does not exist: did you mean `schedule=cosine`?",
        "experiment=ader": "`experiment=ader` does not exist: did you mean `experiment=adder`?",
        "train.stepz=3": "`train.stepz` is not a key: did you mean `train.steps`?",
        "+dataset.digitz=2": "`dataset.digitz` is not a key: did you mean `dataset.digits`?",
        "++trian.batch_size=2": "`trian.batch_size` is not a key: did you mean `train.batch_size`?",
        "steps=4": "`steps` is not a key: did you mean `train.steps`?",
        "dataset.digits=0": DIGITS,
        "train.steps=-5": "`train.steps` must be a whole number of at least 1, not -5",
        "train.batch_size=1e2": "`train.batch_size` must be a whole number of at least 1, not 100.0",
        "optimizer.lr=fast": "`optimizer.lr` must be a number above 0, not fast",
        "optimizer.beta1=nan": "`optimizer.beta1` must be a number of at least 0 below 1, not nan",
        "seed=true": "`seed` must be a whole number",
        "dtype=float23": "`dtype` must be one of auto, float32, bfloat16, float16, not float23",
        "model.n_kv_head=3": "`model.n_kv_head` must divide model.n_head=4, and 3 does not",
        "~train.log_every": "`train.log_every` is missing",
        "train": "`train` is not an override: write key=value",
    }
    sentences = refused(light("train.py", *wrong, "model.n_head=4", real=True))
    for words in wrong.values():
        assert sum(sentence.startswith(words) for sentence in sentences) == 1, (words, sentences)
    assert len(sentences) == len(wrong), sentences


def test_one_mistake_is_one_line(light):
    done = light("train.py", "train.stepz=3")
    assert done.stderr == "`train.stepz` is not a key: did you mean `train.steps`?\n"
    done = light("eval/score.py", "runs=x")
    assert done.stderr == "`runs` is not a key: did you mean `run`?\n"


@pytest.mark.parametrize("word", ["a b", "=4", "3=4", "model.n_layer", "seed=[1", "seed={"])
def test_a_word_that_is_no_override_does_not_hide_the_other_mistakes(word):
    found = look_ahead(word, "train.stepz=3")
    assert len(found) == 2, found
    assert found[0].startswith(f"`{word}` is not an override")


@pytest.mark.parametrize("word", ["hydra.run.dirr=x", "seed=${nope}", "~nope"])
def test_what_hydra_cannot_compose_does_not_hide_a_wrong_option(word):
    found = look_ahead("model=lama", word)
    assert len(found) == 2, found
    assert any("`model=lama`" in sentence for sentence in found)
    assert any(re.search(r"dirr|nope", sentence) for sentence in found)


@pytest.mark.parametrize("word", ["model=null", "experiment=null", "model=3", "model=", "schedule={a:1}"])
def test_what_cannot_be_an_option_of_a_group_is_refused_in_a_sentence(word):
    (sentence,) = look_ahead(word)
    assert word.partition("=")[0] in sentence


@pytest.mark.parametrize("word", ["dataset.name=copy", "model.name=gpt"])
def test_the_name_of_a_choice_is_not_set_by_itself(word):
    group, _, value = word.partition(".name=")
    assert look_ahead(word) == [f"`{word}` can't be set by itself: write {group}={value}"]


def test_a_group_of_hydras_own_that_chooses_nothing_is_refused_in_a_sentence():
    (sentence,) = look_ahead("hydra/launcher=null")
    assert "chooses nothing" in sentence


def test_a_group_may_be_given_several_of_its_keys_at_once():
    assert look_ahead("model={n_layer:2,n_embd:32}") == []
    (sentence,) = look_ahead("model={n_layer:2,n_embd:32.5}")
    assert sentence.startswith("`model.n_embd` must be ")


@pytest.mark.parametrize(
    "word", ["seed=1,2", "model=gpt,llama", "train.steps=range(1,3)", "optimizer.lr=interval(0,1)"]
)
def test_several_values_without_a_sweep_are_told_about_multirun(word):
    found = look_ahead(word, "train.stepz=3")
    assert len(found) == 2, found
    assert f"`{word}`" in found[0]
    assert "-m" in found[0]


@pytest.mark.parametrize(
    ("word", "group"), [("modle=gpt", "model"), ("optimiser=adamw", "optimizer"), ("experimnt=adder", "experiment")]
)
def test_a_misspelled_group_is_told_the_right_one(word, group):
    (sentence,) = look_ahead(word)
    assert sentence == f"`{word.partition('=')[0]}` is not a key: did you mean `{group}`?"


def test_a_preset_of_the_user_is_found_and_judged_like_the_command_line(light):
    own = preset(light.folder, "mine", {"train": {"stepz": 3, "steps": 0}, "modle": {"n_layer": 2}})
    assert sorted(refused(light("train.py", *own, "dataset.digits=0"))) == [
        DIGITS,
        "`modle.n_layer` is not a key: did you mean `model.n_layer`?",
        "`train.steps` must be a whole number of at least 1, not 0",
        "`train.stepz` is not a key: did you mean `train.steps`?",
    ]


def test_a_right_preset_of_the_user_is_accepted_and_the_command_line_wins_over_it(light):
    own = preset(
        light.folder, "good", {"defaults": [{"override /model": "gpt"}], "train": {"steps": 7, "log_every": 3}}
    )
    assert look_ahead(*own) == []
    shown = yaml.safe_load(light("train.py", *own, "train.steps=9", "--cfg", "job").stdout)
    assert (shown["model"]["name"], shown["train"]["steps"], shown["train"]["log_every"]) == ("gpt", 9, 3)


def test_a_misspelled_option_in_a_preset_is_one_sentence(light):
    own = preset(light.folder, "lama", {"defaults": [{"override /model": "lama"}]})
    (sentence,) = refused(light("train.py", *own))
    assert "model/lama" in sentence or "model=lama" in sentence
    assert "llama" in sentence.replace("model/lama", "").replace("model=lama", ""), "it says what there is"


def test_a_preset_that_is_no_yaml_is_one_sentence_that_names_it(light):
    own = preset(light.folder, "broken", {})
    (light.folder / "mine" / "experiment" / "broken.yaml").write_text("train: [3\n")
    (sentence,) = refused(light("train.py", *own))
    assert "broken" in sentence


def test_a_folder_of_presets_that_is_not_there_is_named(light):
    (sentence,) = refused(light("train.py", "--config-dir=nowhere"))
    assert "nowhere" in sentence


def test_a_device_that_is_not_there_is_refused_among_the_other_mistakes(tmp_path):
    done = run_program("train.py", "device=cuda", "seed=-1", cwd=tmp_path, env={"CUDA_VISIBLE_DEVICES": ""})
    about_seed, about_device = refused(done)
    assert about_seed.startswith("`seed` must be ")
    assert about_device.startswith("`device` is cuda, but ")
    assert list(tmp_path.iterdir()) == []


def test_a_misspelled_key_in_a_sweep_is_refused_before_the_sweep_begins(light):
    (sentence,) = refused(light("train.py", "-m", "train.stepz=1,2"))
    assert sentence == "`train.stepz` is not a key: did you mean `train.steps`?"


@pytest.mark.parametrize("words", [["run=nowhere"], [], ["run=empty"]])
def test_a_run_that_cannot_be_scored_is_one_sentence(light, words):
    (light.folder / "empty").mkdir(exist_ok=True)
    (sentence,) = refused(light("eval/score.py", *words))
    assert sentence.startswith("run=" + (words[0].removeprefix("run=") if words else "latest"))


def test_a_group_of_one_program_is_not_in_the_way_of_a_key_of_another(light):
    for value in ("own", "lm-eval", "null"):
        (sentence,) = refused(
            light("eval/score.py", "run=nowhere", f"suite={value}", *(["tasks=[a]"] if value == "lm-eval" else []))
        )
        wanted = "`suite` must be " if value == "null" else "run=nowhere is no folder"
        assert sentence.startswith(wanted)
    assert look_ahead("suite=standing", schema=BenchConfig, config_name="bench") == []


@pytest.mark.parametrize("word", ["hydra.verbose=true", "hydra.verbose=[hydra]", "hydra.job.chdir=true"])
def test_what_hydra_itself_is_asked_for_it_does(word, tmp_path):
    words = ("model=llama_tiny", "dataset.digits=1", "train.steps=2", "train.batch_size=4", "logger=quiet")
    done = run_program("train.py", *words, word, f"hydra.run.dir={tmp_path / 'r'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r" / "summary.json").exists()


def test_runs_that_cannot_be_compared_are_one_sentence(light):
    (sentence,) = refused(light("eval/report.py", "runs=nowhere"))
    assert sentence.startswith("runs=nowhere is no folder")


def test_a_run_that_cannot_be_resumed_is_one_sentence_and_leaves_no_run_directory(tmp_path):
    (sentence,) = refused(run_program("train.py", "resume=nowhere", "device=cpu", cwd=tmp_path))
    assert sentence.startswith("`resume` is nowhere, and there is no such folder")
    assert [path for path in tmp_path.rglob("*") if path.is_dir() and path.name != "outputs"] == []


def test_under_torchrun_a_mistake_is_said_exactly_once(tmp_path):
    done = run_program("train.py", "train.stepz=3", cwd=tmp_path, launcher=TWO)
    assert done.returncode != 0
    assert (done.stdout + done.stderr).count("`train.stepz` is not a key: did you mean `train.steps`?") == 1
    assert "exitcode  : 2" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_under_torchrun_is_refused_with_the_command_that_does_it(tmp_path):
    done = run_program("train.py", "-m", "seed=1,2", cwd=tmp_path, launcher=TWO)
    assert done.returncode != 0
    assert "exitcode  : 2" in done.stderr
    sentence = rf"run `python {re.escape(str(ROOT / 'train.py'))} -m seed=1,2 processes=2` without torchrun"
    assert len(re.findall(sentence, done.stdout + done.stderr)) == 1
    assert list(tmp_path.iterdir()) == []


OPTIONS = {
    "--steps 5": "`--steps` is no option: write train.steps=5",
    "--optimizer.lr=1e-3": "`--optimizer.lr` is no option: write optimizer.lr=1e-3",
    "--lr 1e-3": "`--lr` is no option: write optimizer.lr=1e-3",
    "--model gpt": "`--model` is no option: write model=gpt",
    "--batch-size=8": "`--batch-size` is no option: write train.batch_size=8",
    "--profile": "`--profile` is no option: write profile=true",
    "--resume -m": "`--resume` is no option: write resume=…",
    "--epochs 3": "`--epochs` is no option: write key=value, as --help shows",
    "-x": "unrecognized arguments: -x: write key=value, as --help shows",
    "--info no": "argument --info/-i: invalid choice: 'no'",
    "--config x": "ambiguous option: --config could match --config-path, --config-name, --config-dir",
}


@pytest.mark.parametrize("words", OPTIONS)
def test_what_other_programs_write_as_options_is_told_as_a_key(words):
    with pytest.raises(UserError) as refused:
        command_line.options(get_args_parser(), words.split(), Config)
    assert str(refused.value).startswith(OPTIONS[words])
    assert "\n" not in str(refused.value)


def test_hydras_flag_run_is_not_in_the_way_of_the_key():
    with pytest.raises(ConfigError, match=r"^`--run` is no option: write run=latest$"):
        command_line.options(get_args_parser(), ["--run", "latest"], ScoreConfig)
    assert command_line.options(get_args_parser(), ["--run"], Config).run


def test_options_that_are_wrong_are_one_message_of_the_program(light):
    assert refused(light("train.py", "--steps", "5", "--seeds=3")) == [
        "`--steps` is no option: write train.steps=5",
        "`--seeds` is no option: write seed=3",
    ]


def test_options_may_stand_between_keys(light):
    shown = light("train.py", "model=gpt", "--cfg", "job", "train.steps=77", "-p", "train", "train.log_every=7")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert yaml.safe_load(shown.stdout)["log_every"] == 7


# ---- folders of the user's own


def test_hydra_looks_for_presets_in_the_folders_that_it_is_given(light, monkeypatch):
    preset(light.folder, "mine", {"train": {"steps": 7}})
    folder = light.folder / "mine"
    (folder / "whole.yaml").write_text(yaml.safe_dump({
        "defaults": ["train", "_self_"], "hydra": {"searchpath": [f"file://{folder}"]}, "seed": 5,
    }))  # fmt: skip
    monkeypatch.chdir(light.folder)
    flags = (
        [f"hydra.searchpath=[file://{folder}]"],
        ["hydra.searchpath=[file://mine]"],
        ["-cd", "mine"],
        ["--config-dir=mine", "--config-name=whole"],
        [
            f"--config-path={folder}",
            "--config-name=whole",
            f"hydra.searchpath=[file://{ROOT / 'conf'},file://{folder}]",
        ],
    )
    for words in flags:
        assert look_ahead(*words, "experiment=mine") == [], words
        assert look_ahead("-m", *words, "experiment=mine", "seed=0,1") == [], words
        (sentence,) = look_ahead(*words, "experiment=min")
        assert "did you mean `experiment=mine`?" in sentence
        (sentence,) = look_ahead(*words, "experiment=mine", "train.stepz=3")
        assert "did you mean `train.steps`?" in sentence


def test_hydra_composes_what_was_looked_ahead_at(light):
    preset(light.folder, "mine", {"train": {"steps": 7}})
    done = light("train.py", "hydra.searchpath=[file://mine]", "experiment=mine", "--cfg", "job", "-p", "train")
    assert yaml.safe_load(done.stdout)["steps"] == 7
    (light.folder / "mine" / "template").mkdir()
    (light.folder / "mine" / "template" / "loud.yaml").write_text("pattern: '{text}!'\n")
    for flag in ("hydra.searchpath=[file://mine]", "--config-dir=mine"):
        (sentence,) = refused(light("sample.py", flag, "template=loud", "run=nowhere"))
        assert sentence.startswith("run=nowhere is no folder")


@pytest.mark.parametrize("path", ["file:///nowhere", "pkg://nothing"])
def test_a_folder_to_look_in_that_is_not_there_is_named(path, recwarn):
    assert look_ahead(f"hydra.searchpath=[{path}]") == [f"`hydra.searchpath` names {path}, which is no folder"]
    assert not recwarn.list
