"""Whole trainings, as a user runs them: what they reach. Run by `make test-slow`."""

import json
import subprocess
import sys

import pytest
from corpora import prose
from helpers import ROOT, run_program

TEXT = ["dataset=shakespeare_char", "dataset.dir=words"]

pytestmark = pytest.mark.slow


def trained(tmp_path, *arguments):
    done = run_program("train.py", *arguments, "hydra.run.dir=run", cwd=tmp_path, timeout=1800)
    assert done.returncode == 0, done.stderr
    (score,) = (tmp_path / "run" / "score").glob("*.json")
    return json.loads(score.read_text()), json.loads((tmp_path / "run" / "run.json").read_text())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_small_llama_learns_three_digit_addition(tmp_path, seed):
    score, about = trained(tmp_path, "experiment=adder", f"seed={seed}")
    assert about["parameters"]["total"] < 1_000_000
    assert score["accuracy"] >= 0.999
    assert (score["complete"], score["problems"], score["forced_equals_decoded"]) == (True, 150_000, 256)
    assert score["leak"]["mirrored_in_training"] == 0


def test_a_small_gpt_learns_three_digit_addition(tmp_path):
    score, _ = trained(tmp_path, "experiment=adder", "model=gpt")
    assert score["accuracy"] >= 0.999


def test_the_fast_recipe_learns_addition_in_a_quarter_of_the_steps(tmp_path):
    score, _ = trained(tmp_path, "experiment=adder_fast")
    assert score["accuracy"] >= 0.999


def test_the_fast_recipe_of_text_is_below_the_plain_one_in_a_fifth_of_the_steps(tmp_path):
    """On random text of a few words, where there is no Shakespeare."""
    (tmp_path / "words.txt").write_text(prose(20_000), encoding="utf-8")
    prepared = run_program("data/prepare.py", *TEXT, "dataset.source=words.txt", cwd=tmp_path)
    assert prepared.returncode == 0, prepared.stderr
    losses = {}
    for name, steps in (("fast", 200), ("cpu", 400)):
        words = [f"experiment=shakespeare_char_{name}", f"train.steps={steps}", f"hydra.run.dir={name}"]
        done = run_program("train.py", *TEXT[1:], *words, cwd=tmp_path, timeout=1800)
        assert done.returncode == 0, done.stderr
        losses[name] = json.loads((tmp_path / name / "summary.json").read_text())["best/val/loss"]
    assert losses["fast"] < losses["cpu"]


def test_an_ordered_split_of_multiplication_shows_how_much_leaks(tmp_path):
    score, _ = trained(tmp_path, "experiment=leak")
    leaked, clean = score["leak"]["leaked"], score["leak"]["clean"]
    assert leaked["problems"] + clean["problems"] == score["problems"] == 30
    assert leaked["interval"][0] > clean["interval"][1], "more of the leaked problems are right, beyond chance"


def test_every_fault_leaves_the_right_bits():
    done = subprocess.run([sys.executable, str(ROOT / "tests" / "faults.py")], timeout=3600)
    assert done.returncode == 0
