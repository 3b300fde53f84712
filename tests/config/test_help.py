"""The help of every program, what Hydra shows, and completion."""

import json
import re
from string import Template

import pytest
import yaml
from hydra import compose, initialize_config_dir
from started.programs import ROOT, refused

from cleangpt.basics.schema import keys, leaves
from cleangpt.config import cli, composition
from cleangpt.config.experiment import Config
from cleangpt.config.programs import BenchConfig, ExportConfig, PrepareConfig, ReportConfig, SampleConfig, ScoreConfig
from cleangpt.sweeps import settings as sweep_settings

GROUPS = ["dataset", "experiment", "logger", "model", "optimizer", "schedule", "sweep"]

PROGRAMS = {
    "train": (Config, GROUPS),
    "bench": (BenchConfig, [*(group for group in GROUPS if group != "sweep"), "suite"]),
    "prepare": (PrepareConfig, ["dataset"]),
    "sample": (SampleConfig, ["template"]),
    "score": (ScoreConfig, []),
    "report": (ReportConfig, []),
    "export": (ExportConfig, []),
}


def helped(name: str, *words: str) -> str:
    """Ask for the help of a program, in 80 columns."""
    cli.register_resolvers(PROGRAMS[name][0], sweep_settings)
    before, composition.program = composition.program, name
    try:
        with initialize_config_dir(composition.CONF, job_name=name, version_base=None):
            template = compose(name, list(words), return_hydra_config=True).hydra.help.template
        return Template(template).substitute()
    finally:
        composition.program = before


def typed(value) -> str:
    """Write a value as YAML has it, on one line."""
    return value if isinstance(value, str) else json.dumps(value).replace(" ", "").replace('"', "")


def entries(text: str) -> dict[str, str]:
    """Map the keys of a help, as they stand there (`train.steps=600`), to what is said of them."""
    found = re.findall(r"^  (\S+=.*|\S+ \(.*\))\n((?:      .*(?:\n|$))+)", text, re.MULTILINE)
    return {key: " ".join(told.split()) for key, told in found}


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_has_each_key_with_its_value_and_meaning_in_80_columns(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    schema, groups = PROGRAMS[name]
    text = helped(name)
    assert [line for line in text.splitlines() if len(line) > 80] == []
    here = entries(text.partition("\nKeys of ")[0])
    with initialize_config_dir(composition.CONF, version_base=None):
        data = composition.plain(compose(name))
    told = {re.match(r"[\w.]+", entry)[0]: words for entry, words in here.items()}
    assert set(told) <= set(keys(schema, data))
    for key, field in keys(schema, data).items():
        assert (key in told) == (key not in schema.refuses), key
        assert key not in told or told[key].startswith(field.description)

    for key in [key for key in leaves(data) if key in told]:
        assert f"{key}={typed(leaves(data)[key])}" in here
    listed = re.findall(r"^  (\w+) +\w", text.partition("Keys")[0], re.MULTILINE)
    assert listed == groups


def test_help_shows_the_values_and_keys_of_a_choice():
    adder, text = (entries(helped("train", f"dataset={name}").partition("\nKeys of ")[0]) for name in ("adder", "text"))
    assert "dataset.digits=3" in adder
    assert "dataset.tokenizer=gpt2" in text
    assert not any(entry.startswith("dataset.digits") for entry in text)
    other = entries(helped("train").partition("\nKeys of ")[2].partition("\nKeys of a sweep")[0])
    assert {"dataset.tokenizer=gpt2", "model.bias=true", "dataset.split=auto"} <= set(other)
    assert "train.steps=7" in entries(helped("train", "train.steps=7"))
    scaled, plain = (entries(helped("train", f"model={name}")) for name in ("llama_long", "llama"))
    assert "model.rope_scaling.factor=8.0" in scaled
    assert "model.rope_scaling.factor (model.rope_scaling=null)" in plain


def test_help_lists_what_a_program_takes_and_nothing_that_it_refuses():
    text = " ".join(helped("train").split())
    for group in GROUPS:
        assert f"{group} {', '.join(sorted(path.stem for path in (ROOT / 'conf' / group).glob('*.yaml')))} " in text
    assert "adder" not in helped("prepare")
    assert "resume=" not in helped("bench")
    assert "init_from=" not in helped("bench")


def test_help_needs_no_torch_and_says_what_it_can_not_compose(light):
    done = light("train.py", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Train a model: ")
    (sentence,) = refused(light("train.py", "experiment=nope", "--help"))
    assert sentence.startswith("the configuration can't be composed: In 'train': Could not find 'experiment/nope'")


def test_the_keys_of_a_search_are_in_the_help_with_their_values():
    assert {"hydra.sweeper.trials=30", "hydra.launcher.jobs=auto"} <= set(entries(helped("train")))


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--cfg", "hydra"], "hydra:\n"),
        (["--info", "config"], "  train:\n    dataset: adder:\n"),
        (["--info", "defaults"], "schedule/cosine"),
        (["--hydra-help"], "--multirun,-m"),
    ],
)
def test_what_hydra_shows_is_shown(light, words, shown):
    done = light("train.py", *words)
    assert done.returncode == 0
    assert shown in done.stdout
    assert "Traceback" not in done.stderr


def test_a_shown_configuration_is_the_whole_one(light):
    done = light("train.py", "model=gpt", "train.steps=77", "--cfg", "job", "--resolve")
    assert (done.returncode, done.stderr) == (0, "")
    shown = yaml.safe_load(done.stdout)
    assert set(shown) == set(Config.model_fields)
    assert (shown["model"]["name"], shown["train"]["steps"]) == ("gpt", 77)


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("model=l", [f"model={path.stem}" for path in (ROOT / "conf" / "model").glob("l*.yaml")]),
        ("experiment=multi", ["experiment=multiplier"]),
        ("model=gpt model.bia", ["model.bias="]),
    ],
)
def test_the_tab_key_completes(light, line, completed):
    command = f"python train.py {line}"
    environment = {"COMP_LINE": command, "COMP_POINT": str(len(command))}
    done = light("train.py", "-sc", "query=bash", **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.split()) == sorted(completed)


def test_the_script_that_installs_completion_finds_the_program(light):
    done = light("train.py", "-sc", "install=bash")
    assert done.returncode == 0
    assert "hydra_bash_completion" in done.stdout
    assert "@hydra.main" in (ROOT / "train.py").read_text(), "bash looks for this text"
