"""Files that somebody else made never run code."""

import contextlib
import json
import pickle
import shutil

import pytest
from helpers.trainings import fit
from started.programs import ROOT, run_program

from cleangpt.disk import weights
from cleangpt.disk.rundir import find, read_config
from cleangpt.snapshots import snapshot


class Bomb:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def load(folder):
    weights.load_model(folder, read_config(folder / "config.json"), "cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    fit(folder, "train.steps=4", "train.snapshot_every=2")
    shutil.copy(folder / "best" / "config.json", folder / "config.json")
    return folder


def test_a_planted_pickle_in_any_file_of_a_run_is_never_loaded(tmp_path, trained):
    triggered = tmp_path / "triggered"
    for path in sorted(path for path in trained.rglob("*") if path.is_file()):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(trained, copy)
        (copy / path.relative_to(trained)).write_bytes(pickle.dumps(Bomb(triggered)))
        for name in ("best", "snapshots/step_00000004"):
            folder = copy / name
            for attempt in (find, weights.load_tokenizer, weights.about, snapshot.damage, load):
                with contextlib.suppress(Exception):  # how it is refused is the subject of other tests
                    attempt(folder)
        with contextlib.suppress(Exception):
            fit(copy, "train.steps=5", snapshot=copy / "snapshots" / "step_00000004")
        assert not triggered.exists(), path


def test_a_pickle_in_the_place_of_weights_is_refused_by_score_and_train(tmp_path, trained):
    triggered = tmp_path / "triggered"
    shutil.copytree(trained, tmp_path / "run")
    for path in tmp_path.rglob("*.safetensors"):
        path.write_bytes(pickle.dumps(Bomb(triggered)))
    for script, arguments in (("eval/score.py", ["run=run"]), ("train.py", ["resume=run", "train.steps=5"])):
        done = run_program(script, *arguments, cwd=tmp_path)
        assert done.returncode != 0
        assert not triggered.exists()
    assert "has no good snapshot: snapshot step_00000004 is damaged (best.safetensors has" in done.stderr


def test_a_target_in_a_stored_configuration_is_refused_and_never_called(tmp_path, trained):
    triggered = tmp_path / "triggered"
    shutil.copytree(trained, tmp_path / "run")
    for path in tmp_path.rglob("config.json"):
        config = json.loads(path.read_text())
        config["optimizer"]["_target_"] = "builtins.open"
        config["optimizer"]["file"] = str(triggered)
        config["model"]["dropout"] = "${oc.env:HOME}"
        path.write_text(json.dumps(config))
    for script, arguments in (("eval/score.py", ["run=run"]), ("train.py", ["resume=run", "train.steps=5"])):
        done = run_program(script, *arguments, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert "optimizer._target_" in done.stderr
        assert "Traceback" not in done.stderr
        assert not triggered.exists()


def test_damaged_snapshots_are_found_before_anything_of_them_is_used(tmp_path, trained):
    shutil.copytree(trained, tmp_path / "run")
    path = tmp_path / "run" / "snapshots" / "step_00000004" / "state.json"
    path.write_text(path.read_text().replace('"step": 4', '"step": 3'))
    assert "state.json" in snapshot.damage(path.parent)


def test_no_code_loads_pickles_or_names_code_in_configuration():
    for path in [
        *ROOT.glob("*.py"),
        *ROOT.glob("cleangpt/**/*.py"),
        *ROOT.glob("eval/*.py"),
        *ROOT.glob("conf/**/*.yaml"),
    ]:
        text = path.read_text()
        for wrong in ("torch.load(", "pickle.load", "import pickle", "_target_", "yaml.load(", "np.load("):
            assert wrong not in text, (path, wrong)
