"""Trainings on several nodes, each a network namespace of this machine: what comes out, also when one of them dies.

    make nodes

Two and four nodes train a toy with torchrun, as a user starts it. They are compared with one process (losses), or with
nodes that nobody disturbed (every bit), after nodes were killed, stopped, or cut off from the network. Only root can
make such nodes, on Linux with iproute2: without them nothing is shown, and the program says so. All cases take about
twelve minutes on two cores; `nodes.py dead` runs those of one method of `Trainings`.
"""

import math
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

from helpers.trainings import TOY  # noqa: E402

from attacks import namespaces  # noqa: E402
from attacks.interrupted import ADDER, ROOT, last_logged, outcome  # noqa: E402
from cleangpt.basics.words import counted  # noqa: E402
from cleangpt.disk.rundir import read_metrics  # noqa: E402
from cleangpt.disk.weights import WEIGHTS  # noqa: E402

INSIDE = "inside"  # says that this process may make nodes
STEPS = 40
NO_MASKS = "model.dropout=0"  # which are others for another number of processes
STATIC, C10D = "static", "c10d"
FULL = "train.shard=full"
SURVIVES = ("env", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1")  # without it a launcher that is new isn't told where to meet
EQUAL = 1e-5  # losses of as many processes as one likes, relative
LIMIT = 120.0  # seconds for a training; a whole one takes about twenty
SLOWED = """
import runpy, sys, time
sys.path.insert(0, {root!r})
from cleangpt.training.loop import Trainer
real = Trainer.step
def step(self, number):
    time.sleep(0.1)
    return real(self, number)
Trainer.step = step
sys.argv[0] = {root!r} + "/train.py"
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Trainings:
    """Trainings of one toy on the nodes of a cluster, judged one by one."""

    def __init__(self, folder: Path):
        self.cluster = namespaces.Cluster(folder, 4)
        self.right = self.wrong = self.number = 0
        self.slowed = folder / "slowed.py"
        self.slowed.write_text(SLOWED.format(root=str(ROOT)))
        self.one = self.cluster.shared / "one"
        command = [sys.executable, str(ROOT / "train.py"), *TOY, *ADDER, NO_MASKS, f"hydra.run.dir={self.one}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, timeout=LIMIT)
        self.two = self.new()
        with self.start(self.two, 2) as job:
            assert job.wait(LIMIT) == [0, 0], job.said()

    def new(self, place: Path | None = None) -> Path:
        self.number += 1
        return (place or self.cluster.shared) / f"run{self.number}"

    def start(
        self,
        folder: Path,
        size: int,
        *more: str,
        how: str = STATIC,
        each: int = 1,
        restarts: int = 0,
        slow: bool = False,
    ) -> namespaces.Job:
        """Start or continue a training on the first nodes, by one of the ways in which torchrun has them meet."""
        port, first = self.cluster.new_port(), self.cluster.nodes[0]
        script = self.slowed if slow else ROOT / "train.py"
        commands: list[list[str]] = []
        python = [*SURVIVES, sys.executable] if how == C10D else [sys.executable]
        for node in self.cluster.nodes[:size]:
            meet = [f"--node-rank={node.number}", f"--master-addr={first.name}", f"--master-port={port}"]
            if how == C10D:
                meet = ["--rdzv-backend=c10d", f"--rdzv-endpoint={first.name}:{port}", f"--rdzv-id={folder.name}"]
            launch = [f"--nnodes={size}", f"--nproc-per-node={each}", *meet, f"--max-restarts={restarts}"]
            words = [*TOY, *ADDER, "device=cpu", *more, "resume=auto", f"hydra.run.dir={folder}"]
            commands.append([*python, "-m", "torch.distributed.run", *launch, str(script), *words])
        return namespaces.Job(self.cluster.nodes[:size], commands)

    def judge(self, name: str, right: bool, what: str, job: namespaces.Job) -> None:
        """Print and count what a case came to, with what its nodes said where that is wrong."""
        self.right += right
        self.wrong += not right
        print(f"{'right' if right else 'WRONG'}  {name}: {what}, {job.seconds():.0f} s", flush=True)
        if not right:
            print(job.said(), flush=True)

    def off(self, folder: Path) -> float:
        """Measure how far any loss is from that of one process, relative to it; infinite where one is missing."""
        ours, theirs = ({row["step"]: row for row in read_metrics(run / "metrics.jsonl")} for run in (folder, self.one))
        pairs = [
            (ours.get(step, {}).get(key, math.inf), row[key])
            for step, row in theirs.items()
            for key in ("train/loss", "val/loss")
            if key in row
        ]
        return max(abs(value - right) / abs(right) for value, right in pairs)

    def reaches(self, folder: Path, step: int) -> bool:
        """Wait until a training has logged a step and has not ended."""
        there = namespaces.happens(lambda: folder.exists() and last_logged(folder) >= step, LIMIT)
        return there and last_logged(folder) < STEPS

    # ---- what is shown

    def equal(self, size: int, each: int, how: str, *more: str) -> None:
        """Losses are those of one process."""
        folder = self.new()
        with self.start(folder, size, NO_MASKS, *more, how=how, each=each) as job:
            statuses = job.wait(LIMIT)
            off = self.off(folder) if statuses == [0] * size else math.inf
            about = ", ".join((f"{size} nodes of {counted(each, 'process')}", how, *more))
            self.judge(about, off < EQUAL, f"exit {statuses}, losses off by {off:.0e}", job)

    def one_disk(self, size: int, how: str) -> None:
        """Only the first node has the disk of the run directory: nothing is written on the others."""
        folder = self.new(self.cluster.first)
        with self.start(folder, size, NO_MASKS, how=how) as job:
            statuses = job.wait(LIMIT)
            off = self.off(folder) if statuses == [0] * size else math.inf
            files = [node.run(f"find {self.cluster.first} -type f") for node in job.nodes[1:]]
            right = off < EQUAL and not any(files) and (folder / "final" / WEIGHTS).exists()
            name = f"{size} nodes, {how}, only the first has the disk"
            self.judge(
                name, right, f"exit {statuses}, losses off by {off:.0e}, files of others: {sum(map(bool, files))}", job
            )

    def refused(self, how: str) -> None:
        """A divided model needs a run directory that all nodes see: one without is refused, and nothing is left."""
        folder = self.new(self.cluster.first)
        with self.start(folder, 2, FULL, how=how) as job:
            statuses = job.wait(LIMIT)
            said = "is not seen on node1" in " ".join(job.said(40).split())
            right = said and None not in statuses and 0 not in statuses and not folder.exists()
            self.judge(f"2 nodes, {how}, {FULL}, only the first has the disk", right, f"exit {statuses}", job)

    def dead(self, how: str, victim: int, cut: bool = False, *more: str) -> None:
        """A node dies, and is started again: the same bits as if nothing had happened.

        Where it is `cut` off first, its end is that of a power cut: the other node is not told.
        """
        folder, other, undisturbed = self.new(), 1 - victim, self.two
        if more:
            undisturbed = self.new()
            with self.start(undisturbed, 2, *more) as job:
                assert job.wait(LIMIT) == [0, 0], job.said()
        with self.start(folder, 2, *more, how=how, restarts=3, slow=True) as job:
            hit = self.reaches(folder, 12)
            if cut:
                job.nodes[victim].network(up=False)
            job.kill(victim)
            died = job.seconds()
            if cut:
                time.sleep(5)
                job.nodes[victim].network(up=True)
            left = None
            if victim == 0:  # which the others meet at: they can't wait for it
                (left,) = job.wait(LIMIT, [other])
                hit &= left is not None
            job.again(victim)
            if left is not None:
                job.again(other)
            statuses = job.wait(LIMIT)
            right = hit and statuses == [0, 0] and outcome(folder) == outcome(undisturbed)
            name = f"{'first' if victim == 0 else 'second'} of 2 nodes {'loses power' if cut else 'is killed'}"
            name = ", ".join((name, how, *more))
            others = "the other went on" if left is None else f"the other ended with {left}, both started again"
            self.judge(name, right, f"{others}, exit {statuses}, {job.seconds() - died:.0f} s after it", job)

    def moved(self, before: int, after: int, *more: str) -> None:
        """SIGTERM for one node stops all of them, and another number of nodes goes on."""
        folder = self.new()
        with self.start(folder, before, NO_MASKS, *more, slow=True) as job:
            hit = self.reaches(folder, 12)
            job.signal(before - 1)
            stopped = job.wait(LIMIT)
            seconds, step = job.seconds(), last_logged(folder)
            hit &= None not in stopped and 0 not in stopped and step < STEPS
        with self.start(folder, after, NO_MASKS, *more) as job:
            statuses = job.wait(LIMIT)
            off = self.off(folder) if statuses == [0] * after else math.inf
            name = ", ".join((f"stopped on {before} nodes, resumed on {after}", *more))
            what = f"at step {step} with {stopped} after {seconds:.0f} s, then exit {statuses}, losses off by {off:.0e}"
            self.judge(name, hit and off < EQUAL, what, job)

    def apart(self, how: str, seconds: float) -> None:
        """A network that breaks for a while: the training waits, and goes on."""
        folder = self.new()
        with self.start(folder, 2, how=how, restarts=3, slow=True) as job:
            hit = self.reaches(folder, 12)
            job.nodes[1].network(up=False)
            time.sleep(seconds)
            step = last_logged(folder)
            job.nodes[1].network(up=True)
            statuses = job.wait(LIMIT)
            right = hit and step < STEPS and statuses == [0, 0] and outcome(folder) == outcome(self.two)
            self.judge(f"no network for {seconds:.0f} s, {how}", right, f"exit {statuses}", job)

    def parted(self, how: str) -> None:
        """A network that is gone for good: SIGTERM ends all nodes, and the same command goes on elsewhere."""
        folder = self.new()
        with self.start(folder, 2, how=how, restarts=3, slow=True) as job:
            hit = self.reaches(folder, 12)
            job.nodes[1].network(up=False)
            time.sleep(5)
            asked = job.seconds()
            for index in (0, 1):
                job.signal(index)
            stopped = job.wait(LIMIT)
            took = job.seconds() - asked
            job.nodes[1].network(up=True)
        with self.start(folder, 2, how=how) as job:
            statuses = job.wait(LIMIT)
            right = hit and None not in stopped and statuses == [0, 0] and outcome(folder) == outcome(self.two)
            what = f"SIGTERM ended both with {stopped} in {took:.0f} s, then exit {statuses}"
            self.judge(f"network gone for good, {how}", right, what, job)


def show(trainings: Trainings, word: str) -> None:
    """Run all cases, or those of one name."""
    groups = "train.shard_group=2"
    cases: list[tuple] = [
        (Trainings.equal, 2, 1, STATIC),
        (Trainings.equal, 2, 2, STATIC),
        (Trainings.equal, 4, 1, C10D),
        (Trainings.equal, 2, 1, C10D, FULL),
        (Trainings.equal, 4, 1, STATIC, FULL),
        (Trainings.equal, 4, 1, C10D, FULL, groups),
        (Trainings.one_disk, 2, STATIC),
        (Trainings.one_disk, 4, C10D),
        (Trainings.dead, STATIC, 1),
        (Trainings.dead, STATIC, 1, True),
        (Trainings.dead, STATIC, 0),
        (Trainings.dead, C10D, 1),
        (Trainings.dead, C10D, 0),
        (Trainings.dead, STATIC, 1, False, FULL),
        (Trainings.refused, STATIC),
        (Trainings.moved, 2, 4),
        (Trainings.moved, 4, 2, FULL),
        (Trainings.moved, 2, 1),
        (Trainings.apart, STATIC, 8),
        (Trainings.apart, C10D, 8),
        (Trainings.parted, STATIC),
    ]
    for case, *words in cases:
        if word in case.__name__:
            case(trainings, *words)


def main() -> int:
    """Make the nodes, in a process that takes them with it, and show what trainings on them come to."""
    if (reason := namespaces.missing()) is not None:
        print(f"No nodes were made, and nothing was shown: {reason}.")
        return 0
    return namespaces.inside(sys.executable, __file__, INSIDE, *sys.argv[1:2] or [""])


def inside(word: str, folder: str) -> int:
    trainings = Trainings(Path(folder))
    show(trainings, word)
    print(f"{trainings.right} of {trainings.right + trainings.wrong} cases came out right.")
    return 1 if trainings.wrong else 0


if __name__ == "__main__":
    sys.exit(inside(*sys.argv[2:]) if sys.argv[1:2] == [INSIDE] else main())
