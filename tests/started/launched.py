"""What tests of whole trainings start: a toy, plain or under torchrun, and a wrapper that does something to a rank."""

import os
import sys
from pathlib import Path

from cleangpt.disk.rundir import read_metrics

ROOT = Path(__file__).resolve().parents[2]
TRAIN = str(ROOT / "train.py")
TOY = [
    "model=llama_tiny",
    "model.n_embd=16",
    "dataset.digits=2",
    "dataset.val_size=20",
    "train.steps=6",
    "train.batch_size=12",
    "train.eval_every=3",
    "train.log_every=1",
    "train.test_at_end=false",
    "logger=quiet",
    "dtype=float32",
]
UNEVEN = ["dataset.padded=false", "schedule.grad_accum.style=linear", "schedule.grad_accum.end=3"]

# A program in the place of train.py that does something to one rank first.
WRAPPER = f"""
import os, runpy, sys
rank, restart = int(os.environ.get("RANK", 0)), int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
sys.path.insert(0, {str(ROOT)!r})
%s
sys.argv[0] = {TRAIN!r}
runpy.run_path({TRAIN!r}, run_name="__main__")
"""
FAIL = """
from cleangpt.training.loop import Trainer
real = Trainer.step
def step(self, number):
    if number == {step} and rank == {rank} and restart == 0:
        {action}
    return real(self, number)
Trainer.step = step
"""


def torchrun(processes, *more, script=TRAIN):
    return [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", *more, script]


def wrapper(tmp_path, body):
    path = tmp_path / "wrapper.py"
    path.write_text(WRAPPER % body)
    return str(path)


def losses(folder):
    return [row["train/loss"] for row in read_metrics(folder / "metrics.jsonl")]


def processes_in(folder):
    """Processes that still work in this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(process / "cwd")).is_relative_to(folder):
                found.append(process.name)
        except OSError:
            pass
    return found
