"""Runs of earlier versions open in every program, and those of later ones are refused in a sentence."""

import json
import shutil
from pathlib import Path

import pytest
from attacks import openings
from helpers.trainings import rows

from cleangpt.basics.errors import UserError
from cleangpt.disk import migrations, rundir

pytestmark = pytest.mark.usefixtures("blank_pictures")
KEPT = Path(__file__).resolve().parents[1] / "versions"


def test_there_is_a_run_of_each_version():
    versions = sorted(int(path.name) for path in KEPT.iterdir() if path.is_dir())
    assert versions == list(range(1, migrations.VERSION + 1)), "python tests/versions/make.py makes the newest"
    for path in KEPT.glob("*/**/config.json"):
        stored = json.loads(path.read_text()).get("version")
        version = path.relative_to(KEPT).parts[0]
        assert stored == (None if version == "1" else int(version))


@pytest.mark.parametrize("version", range(1, migrations.VERSION + 1))
def test_a_run_of_each_version_opens_in_every_program(tmp_path, monkeypatch, version):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    shutil.copytree(KEPT / str(version), run)
    before = rows(run)
    assert openings.sample(run) == 0
    assert openings.score(run) == 0
    assert openings.export(run, tmp_path / "exported") == 0
    assert openings.train_from(run, tmp_path / "other", "train.steps=1", "dataset.digits=1") == 0
    assert openings.train(run, "train.steps=8") == 0
    assert openings.report(tmp_path, tmp_path / "report") == 0
    assert rows(run)[: len(before) - 1] == before[:-1]
    assert rows(run)[-1]["step"] == 8
    for path in [run / "config.json", *run.glob("snapshots/step_00000008/config.json"), tmp_path / "other/config.json"]:
        assert json.loads(path.read_text())["version"] == migrations.VERSION, "written anew, it is of this version"


def test_runs_of_two_versions_differ_in_no_key_that_is_new():
    from cleangpt.report import collect

    one, other = (collect.read_run(KEPT / str(version)) for version in (1, migrations.VERSION))
    assert one.config == other.config
    assert "version" not in other.config


def test_keys_that_the_first_versions_lacked_mean_as_before(tmp_path):
    data = json.loads((KEPT / "1" / "config.json").read_text())
    new = {
        "profile": False,
        "init_from": None,
        "model": {"zero_init": False, "logit_softcap": None, "bigram_embedding": None},
        "optimizer": {"layer_decay": 1.0},
        "train": {"stop_when": None, "freeze": []},
        "schedule": {"steps": data["train"]["steps"]},
        "logger": {"norms": None},
    }
    new["model"] |= {"activation": "swiglu", "rope_scaling": None, "qk_norm": data["model"]["qk_norm"]}
    for key, value in new.items():
        for leaf in value if isinstance(value, dict) else ():
            if (key, leaf) != ("model", "qk_norm"):
                del data[key][leaf]
        if not isinstance(value, dict):
            data.pop(key, None)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(data))
    found = rundir.read_config(path).model_dump(mode="json")
    for key, value in new.items():
        assert found[key] == (found[key] | value if isinstance(value, dict) else value)


@pytest.mark.parametrize("version", [1, 2])
def test_an_option_that_models_no_longer_have_is_refused_where_it_was_on(tmp_path, version):
    data = json.loads((KEPT / str(version) / "config.json").read_text())
    path = tmp_path / "config.json"
    path.write_text(json.dumps(data))
    assert "value_embeddings" not in rundir.read_config(path).model_dump()["model"]
    for value in (True, None, "yes"):
        data["model"]["value_embeddings"] = value
        path.write_text(json.dumps(data))
        with pytest.raises(UserError, match=r"its `model\.value_embeddings` is on, which this CleanGPT no longer has"):
            rundir.read_config(path)


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (migrations.VERSION + 1, "this CleanGPT reads versions up to"),
        ("2", "its `version` is '2'"),
        (True, "its `version` is True"),
        (0, "its `version` is 0"),
        (None, "its `version` is None"),
    ],
)
def test_another_version_is_refused_in_a_sentence(tmp_path, version, words):
    data = json.loads((KEPT / str(migrations.VERSION) / "config.json").read_text()) | {"version": version}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match=words) as refused:
        rundir.read_config(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_keys_that_nobody_knows_are_refused_whatever_the_version(tmp_path):
    for kept in (KEPT / "1", KEPT / str(migrations.VERSION)):
        data = json.loads((kept / "config.json").read_text())
        data["train"]["warp"] = 9
        path = tmp_path / "config.json"
        path.write_text(json.dumps(data))
        with pytest.raises(UserError, match=r"`train.warp` is not a key"):
            rundir.read_config(path)


def test_the_version_is_no_key_of_the_command_line():
    from helpers.configs import look_ahead

    assert "`version` is not a key" in look_ahead("version=2")[0]
    assert "not a key" in look_ahead("+version=2")[0]
