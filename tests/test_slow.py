"""Whole trainings, as a user runs them: what they reach. Run by `make test-slow`."""

import json
import random
import subprocess
import sys

import pytest
from attacks.faults_of_torchrun import UnderTorchrun, busy
from helpers.corpora import prose
from started.programs import ROOT, run_program

from cleangpt.machine import processor
from cleangpt.report.collect import find
from docs import recipes

TEXT = ["dataset=shakespeare_char", "dataset.dir=words"]

pytestmark = pytest.mark.slow


# ---- what docs/recipes.md promises, on seeds that nobody has seen


def new_seeds(count: int = 5) -> str:
    """Named by the folders that a failing test leaves."""
    return ",".join(str(seed) for seed in random.SystemRandom().sample(range(1000, 10**6), count))


def dtypes() -> str:
    """bfloat16 is emulated where the processor lacks it, and takes hours then."""
    return "float32,bfloat16" if processor.computes_in("bfloat16") else "float32"


def keeps_its_promise(tmp_path, preset: str, *words: str) -> None:
    chosen = [] if preset.startswith("dataset=") else [f"experiment={preset}"]
    every = [*chosen, *words, f"seed={new_seeds()}", "hydra.sweep.dir=sweep", "logger=quiet"]
    done = run_program("train.py", "-m", *every, cwd=tmp_path, timeout=7200)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = find(str(tmp_path / "sweep"))
    assert len(runs) >= 5
    promised = recipes.promises()[preset]
    assert promised, preset
    below = [
        f"{run.name}: {quantity} {value}, promised is {side} {bound}"
        for run in runs
        for quantity, side, bound in promised
        if not recipes.kept(value := recipes.reached(run, quantity), side, bound)
    ]
    assert below == []


@pytest.mark.parametrize("preset", ["adder", "dataset=adder"])
def test_addition_is_learned_by_both_architectures_in_both_dtypes(tmp_path, preset):
    words = [preset] if preset.startswith("dataset=") else []
    keeps_its_promise(tmp_path, preset, *words, "model=llama,gpt", f"dtype={dtypes()}")
    for run in find(str(tmp_path / "sweep")):
        (path,) = (run / "score").glob("test_*.json")
        score = json.loads(path.read_text())
        assert (score["complete"], score["problems"], score["forced_equals_decoded"]) == (True, 150_000, 256)
        assert score["leak"]["mirrored_in_training"] == 0


@pytest.mark.parametrize("preset", ["multiplier", "growing_batch", "leak"])
def test_a_preset_of_arithmetic_reaches_what_is_promised(tmp_path, preset):
    keeps_its_promise(tmp_path, preset)


@pytest.fixture(scope="module")
def shakespeare(tmp_path_factory) -> str:
    """The text where it is prepared already, or where it can be fetched."""
    folder = ROOT / "data" / "shakespeare_char"
    if not folder.is_dir():
        folder = tmp_path_factory.mktemp("shakespeare") / "data"
        words = ["dataset=shakespeare_char", f"dataset.dir={folder}"]
        done = run_program("data/prepare.py", *words, cwd=folder.parent, timeout=300)
        if done.returncode:
            pytest.skip("Shakespeare's text is not prepared in data/shakespeare_char, and can't be fetched")
    return str(folder)


@pytest.mark.parametrize("preset", ["shakespeare_char_cpu", "shakespeare_char_fast"])
def test_a_preset_of_shakespeare_reaches_what_is_promised(tmp_path, shakespeare, preset):
    keeps_its_promise(tmp_path, preset, f"dataset.dir={shakespeare}")


# ---- one against the other


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


def test_damaged_and_hostile_files_are_refused_in_a_sentence():
    seed = random.SystemRandom().randrange(10**6)  # other files each time; a failing test shows it
    command = [sys.executable, str(ROOT / "tests" / "attacks" / "fuzz.py"), "0.3", f"seed={seed}"]
    done = subprocess.run(command, timeout=3600, capture_output=True, text=True)
    assert done.returncode == 0, f"seed={seed}\n{done.stdout}{done.stderr}"


def test_every_fault_leaves_the_right_bits():
    done = subprocess.run([sys.executable, str(ROOT / "tests" / "attacks" / "faults.py")], timeout=3600)
    assert done.returncode == 0


# ---- what takes several processes to interrupt


def test_ranks_whose_torchrun_was_killed_leave_and_the_same_command_has_the_same_bits(tmp_path):
    with busy():
        faults = UnderTorchrun(tmp_path, seed=random.SystemRandom().randrange(10**6))
        faults.launchers(2)
    (tally,) = faults.tallies.values()
    assert (tally.injected, tally.hit, tally.right) == (2, 2, 2)
