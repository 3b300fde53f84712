"""Fifty steps of divided models under torchrun, beside one process and after kills: what docs/large.md promises."""

import signal
import subprocess
import sys
import time

import pytest
from started.launched import TOY, TRAIN, torchrun
from started.programs import run

from cleangpt.basics import files
from cleangpt.disk import weights
from cleangpt.disk.rundir import read_metrics

pytestmark = pytest.mark.slow

GROWS = ("schedule.grad_accum.style=linear", "schedule.grad_accum.end=4", "train.steps=50", "model.dropout=0")
GROWS += ("train.eval_every=25", "train.log_every=1", "train.snapshot_every=10", "optimizer.lr=1e-3", "logger=quiet")
KINDS = {
    "gpt_adamw": ("model=gpt_tiny", "optimizer=adamw", "train.freeze=[position_embedding]"),
    "gpt_muon": ("model=gpt_tiny", "optimizer=muon", "train.activation_checkpointing=true"),
    "llama_adamw": ("model=llama_tiny", "optimizer=adamw", "train.micro_batch_size=3"),
    "llama_muon": ("model=llama_tiny", "optimizer=muon", "model.tied=true"),
}
PLACES = {"1": (1, "null"), "2": (2, "null"), "3": (3, "null"), "1x2": (2, 2), "2x1": (2, 1)}
CLOSE = {"adamw": 1e-6, "muon": 1e-5}  # Newton and Schulz make more of what rounding makes little of


def values(folder, key="train/loss"):
    return [row[key] for row in read_metrics(folder / "metrics.jsonl") if key in row]


def toy(words):
    """Leave out of a toy what is said otherwise."""
    said = {word.partition("=")[0] for word in (*GROWS, *words)}
    return [word for word in TOY if word.partition("=")[0] not in said]


def trained(folder, processes, *words):
    command = torchrun(processes, "--standalone") if processes > 1 else [sys.executable, TRAIN]
    done = run([*command, *toy(words), *GROWS, *words, f"hydra.run.dir={folder}"], folder.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    return {kind: trained(folder / kind, 1, *words, "dtype=float32") for kind, words in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES)
def test_losses_are_those_of_one_process(alone, tmp_path, kind, place):
    processes, group = PLACES[place]
    words = (*KINDS[kind], "dtype=float32", "train.shard=full", f"train.shard_group={group}")
    folder = trained(tmp_path / "run", processes, *words)
    close = CLOSE[kind.partition("_")[2]]
    assert values(folder) == pytest.approx(values(alone[kind]), rel=close)
    assert values(folder, "val/loss") == pytest.approx(values(alone[kind], "val/loss"), rel=close)


@pytest.mark.parametrize("kind", ["gpt_adamw", "llama_muon"])
def test_in_bfloat16_they_are_those_of_whole_models_on_as_many_processes(tmp_path, kind):
    whole = trained(tmp_path / "whole", 2, *KINDS[kind], "dtype=bfloat16")
    divided = trained(tmp_path / "divided", 2, *KINDS[kind], "dtype=bfloat16", "train.shard=full")
    assert values(divided)[0] == values(whole)[0]
    assert values(divided) == pytest.approx(values(whole), rel=2e-3)


@pytest.mark.parametrize("kind", ["gpt_adamw", "llama_muon"])
def test_killed_and_resumed_with_as_many_processes_it_has_the_same_bits_and_with_others_the_same_losses(tmp_path, kind):
    words = (*KINDS[kind], "dtype=float32", "train.shard=full")
    undisturbed = trained(tmp_path / "undisturbed", 2, *words)
    for processes in (2, 3, 1):
        folder = tmp_path / f"killed_{processes}"
        command = [*torchrun(2, "--standalone"), *toy(words), *GROWS, *words, f"hydra.run.dir={folder}"]
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as started:
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline and not list(folder.glob("snapshots/step_00000020")):
                time.sleep(0.02)
            started.send_signal(signal.SIGKILL)
        time.sleep(2)  # its processes notice and leave
        assert len(values(folder)) < 50
        trained(folder, processes, *words, "resume=auto")
        if processes == 2:
            bits = [files.sha256(run / "final" / weights.WEIGHTS) for run in (folder, undisturbed)]
            assert bits[0] == bits[1]
            assert values(folder) == values(undisturbed)
        else:
            assert values(folder) == pytest.approx(values(undisturbed), rel=CLOSE[kind.partition("_")[2]])
