"""Whole trainings, as a user runs them: what they reach. Run by `make test-slow`."""

import json
import subprocess
import sys

import pytest
from helpers import ROOT, run_program

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


def test_an_ordered_split_of_multiplication_shows_how_much_leaks(tmp_path):
    score, _ = trained(tmp_path, "experiment=leak")
    leaked, clean = score["leak"]["leaked"], score["leak"]["clean"]
    assert leaked["problems"] + clean["problems"] == score["problems"] == 30
    assert leaked["interval"][0] > clean["interval"][1], "more of the leaked problems are right, beyond chance"


def test_every_fault_leaves_the_right_bits():
    done = subprocess.run([sys.executable, str(ROOT / "tests" / "faults.py")], timeout=3600)
    assert done.returncode == 0
