"""Faults of several ranks under torchrun, for the fault injection."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from helpers.trainings import TOY

from attacks.interrupted import ADDER, ROOT, Tally, last_logged, outcome


class UnderTorchrun:
    """Faults of three ranks that torchrun started, on a machine whose cores others want too."""

    TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=3", "--standalone")
    RESTARTS = ("--max-restarts=2", "--monitor-interval=0.2")

    def __init__(self, folder: Path, seed: int, model: str = "", *more: str):
        self.folder, self.random, self.number, self.model = folder, random.Random(seed), 0, model
        folder.mkdir(exist_ok=True)
        self.tallies: dict[str, Tally] = {}
        self.options = [*TOY, *ADDER, "device=cpu", *more]
        assert self.start(folder / "three").wait() == 0
        self.whole = outcome(folder / "three")

    def start(self, folder: Path, *more: str, script: Path = ROOT / "train.py", launcher=()) -> subprocess.Popen:
        command = [*self.TORCHRUN, *launcher, str(script), *self.options, *more, f"hydra.run.dir={folder}"]
        quiet = subprocess.DEVNULL
        return subprocess.Popen(command, cwd=self.folder, stdout=quiet, stderr=quiet, start_new_session=True)

    def new(self) -> Path:
        self.number += 1
        return self.folder / f"of{self.number}"

    def judge(self, kind: str, folder: Path, status: int, lost: int, hit: bool) -> None:
        tally = self.tallies.setdefault(kind + self.model, Tally())
        tally.injected += 1
        tally.hit += hit
        tally.right += status == 0 and outcome(folder) == self.whole
        tally.lost.append(lost)

    def ranks(self, count: int) -> None:
        """SIGKILL for one of three ranks: torchrun starts all of them again."""
        for _ in range(count):
            folder, step, rank = self.new(), self.random.randint(6, 38), self.random.randrange(3)
            script = folder.with_suffix(".py")
            script.write_text(KILLED.format(root=str(ROOT), step=step, rank=rank))
            status = self.start(folder, script=script, launcher=self.RESTARTS).wait()
            log = (folder / "train.log").read_text()
            resumed = [
                int(line.split("step_")[1].split()[0]) for line in log.splitlines() if "continuing step_" in line
            ]
            lost = step - 1 - resumed[0] if resumed else step - 1
            self.judge("one of three ranks killed under torchrun", folder, status, lost, bool(resumed))

    def launchers(self, count: int) -> None:
        """SIGKILL for torchrun itself at two random steps: its ranks leave, and the same command goes on."""
        kind = "torchrun killed at two steps, started again"
        for _ in range(count):
            folder, hit = self.new(), True
            for step in sorted(self.random.sample(range(2, 38), 2)):
                launcher = self.start(folder, "resume=auto")
                while launcher.poll() is None and last_logged(folder) < step:
                    time.sleep(0.02)
                hit &= launcher.poll() is None
                os.killpg(launcher.pid, signal.SIGKILL)
                launcher.wait()
                time.sleep(0.5)
            status = self.start(folder, "resume=auto").wait()
            self.judge(kind, folder, status, 0, hit)
            self.tallies[kind + self.model].limit = 0  # the ranks save a snapshot before they leave


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """Another process for each core."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


KILLED = """
import os, runpy, sys
sys.path.insert(0, {root!r})
from cleangpt.training.loop import Trainer
real = Trainer.step
def step(self, number):
    if number == {step} and os.environ["RANK"] == "{rank}" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        self.writer.wait()  # what is being written is the subject of other faults
        os.kill(os.getpid(), 9)
    return real(self, number)
Trainer.step = step
sys.argv[0] = {root!r} + "/train.py"
runpy.run_path(sys.argv[0], run_name="__main__")
"""
