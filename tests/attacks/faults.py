"""Fault injection: interrupt small trainings in every way we know, resume them, and compare every bit.

    make faults

Each fault is put into a run of its own, which is then resumed until it is complete. A run is right when its final
and best weights and all logged values are those of a run that was left alone. Work that is lost is counted in
steps: from the last logged step before the fault to the snapshot that the run went on from. Processes are forked
from one that has torch loaded, so that hundreds of runs take minutes; those under torchrun are started as a user
starts them, beside processes that keep the machine busy. A disk that is full is a small file system of its own, which
only root may mount: without that right its faults are left out, and the table says so.
"""

import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

import torch._dynamo  # noqa: E402 - an optimizer loads it: here once, and not in every forked process
from helpers.corpora import prepared, prose  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from attacks.faults_of_shards import OfShards  # noqa: E402
from attacks.faults_of_torchrun import UnderTorchrun, busy  # noqa: E402
from attacks.interrupted import (  # noqa: E402
    ADDER,
    TEXT,
    Hook,
    Tally,
    dies_when,
    fill,
    finish,
    goes_on_from,
    last_logged,
    outcome,
    start,
)
from cleangpt.basics import files  # noqa: E402
from cleangpt.disk import weights  # noqa: E402
from cleangpt.disk.rundir import RunDir  # noqa: E402
from cleangpt.score import evaluate  # noqa: E402
from cleangpt.snapshots import snapshot  # noqa: E402
from cleangpt.training.loop import Trainer  # noqa: E402

NAMES = ("model.safetensors", "optimizer.safetensors", "best.safetensors", "state.json")
NAMES += ("config.json", "tokenizer.json", "manifest.json")


class Faults:
    """Faults of one kind of training, in forked processes."""

    def __init__(self, folder: Path, options: tuple[str, ...], seed: int, about: str = ""):
        self.folder, self.options, self.about = folder, options, about
        self.random = random.Random(seed)
        self.tallies: dict[str, Tally] = {}
        self.number = 0
        for name in ("warm-up", "whole"):
            began = time.monotonic()
            assert finish(self.start(folder / name)) == 0, (folder / f"{name}.stderr").read_text()
            self.seconds = time.monotonic() - began
        self.whole = outcome(folder / "whole")
        self.stopped = folder / "stopped"  # a run that a signal stopped at step 23, to be damaged in copies

        def stops_at_23() -> None:
            real = Trainer.step

            def step(trainer, number):
                if number == 23:
                    os.kill(os.getpid(), signal.SIGTERM)
                return real(trainer, number)

            Trainer.step = step

        assert finish(self.start(self.stopped, stops_at_23)) == 143

    def start(self, folder: Path, hook: Hook | None = None, console: int | None = None) -> int:
        return start(folder, self.options, hook, console)

    def new(self) -> Path:
        self.number += 1
        return self.folder / f"run{self.number}"

    def some_time(self, most: float = 1.0) -> None:
        """Wait until a random moment of a whole run."""
        time.sleep(self.random.uniform(0.05, most) * self.seconds)

    def tally(self, kind: str) -> Tally:
        return self.tallies.setdefault(kind + self.about, Tally())

    def judge(self, kind: str, folder: Path, hit: bool, lost: int, honest: bool = True) -> None:
        """Resume until the run is complete, and compare it with the one that was left alone.

        `honest` says that what happened so far was as it should be.
        """
        tally = self.tally(kind)
        tally.injected += 1
        tally.hit += hit
        for _ in range(3):
            status = finish(self.start(folder))
            if status == 0:
                break
        tally.lost.append(max(0, lost))
        if honest and status == 0 and outcome(folder) == self.whole:
            tally.right += 1
            shutil.rmtree(folder)

    def lost(self, folder: Path) -> int:
        return last_logged(folder) - goes_on_from(folder) if folder.exists() else 0

    def signals(self, kind: str, number: int, count: int) -> None:
        """A signal at a random moment of the whole run."""
        for _ in range(count):
            folder = self.new()
            child = self.start(folder)
            self.some_time()
            os.kill(child, number)
            status = finish(child)
            self.judge(kind, folder, status != 0, self.lost(folder) if status else 0)

    def dying(self, kind: str, hooks: list[Hook]) -> None:
        for hook in hooks:
            folder = self.new()
            status = finish(self.start(folder, hook))
            self.judge(kind, folder, status == -signal.SIGKILL, self.lost(folder))

    def damage(self, kind: str, how: Callable[[bytes], bytes | None], names: list[str]) -> None:
        """Damage one file of the newest snapshot of a stopped run."""
        for name in names:
            folder = self.new()
            shutil.copytree(self.stopped, folder)
            before = last_logged(folder)
            path = RunDir(folder).snapshot_folders()[-1] / name
            content = how(path.read_bytes())
            if content is None:
                path.unlink()
            else:  # in place, as a failing disk would: no other name of this file may suffer
                path.write_bytes(content)
            self.judge(kind, folder, True, before - goes_on_from(folder))

    def deleted(self, count: int) -> None:
        for _ in range(count):
            folder = self.new()
            shutil.copytree(self.stopped, folder)
            before = last_logged(folder)
            shutil.rmtree(RunDir(folder).snapshot_folders()[-1])
            self.judge("newest snapshot deleted", folder, True, before - goes_on_from(folder))

    # ---- what lies around a training

    def consoles(self, count: int) -> None:
        """Nobody reads what is said, or there is no room for it: the training goes on to its end."""
        for _ in range(count):
            for kind in ("standard output closed", "standard output full"):
                folder = self.new()
                ours, theirs = os.pipe() if "closed" in kind else (None, os.open("/dev/full", os.O_WRONLY))
                child = self.start(folder, console=theirs)
                os.close(theirs)
                if ours is not None:
                    self.some_time(0.5)
                    os.close(ours)
                status = finish(child)
                self.judge(kind, folder, True, 0, honest=status == 0)
                self.tally(kind).limit = 0

    def gone(self, count: int) -> None:
        """The run directory moved away or deleted: the training stops with 1, and leaves nothing in its place."""
        for _ in range(count):
            for kind in ("run directory moved away, then back", "run directory deleted"):
                folder, away = self.new(), self.folder / "away"
                child = self.start(folder)
                self.some_time()
                if not folder.exists():  # it has hardly begun
                    time.sleep(0.2 * self.seconds)
                folder.rename(away)
                if "deleted" in kind:
                    shutil.rmtree(away, ignore_errors=True)
                status = finish(child)
                honest = status in (0, 1) and not folder.exists()
                shutil.rmtree(folder, ignore_errors=True)
                if away.exists() and "moved" in kind:
                    away.rename(folder)
                shutil.rmtree(away, ignore_errors=True)
                hit = status != 0
                self.judge(kind, folder, hit, self.lost(folder), honest)

    def full_disks(self, count: int) -> str | None:
        """A disk that fills up at a random moment, for a while or to the end, and one with little room from the start.

        Exit status 0 means that the final weights are there. The reason, where no disk can be mounted.
        """
        disk = self.folder / "disk"
        disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(disk)], capture_output=True, text=True
        )
        if mounted.returncode:
            return mounted.stderr.strip()
        try:
            for _ in range(count):
                self._full_disk("disk full for a while", disk, 16 << 20, stays=False)
                self._full_disk("disk full to the end", disk, 16 << 20, stays=True)
                room = self.random.randrange(4096, 500_000)
                self._full_disk("disk with room for 4 to 500 kB", disk, room, stays=True)
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=True)
        return None

    def _full_disk(self, kind: str, disk: Path, room: int, stays: bool) -> None:
        folder, filler = disk / "run", disk / "filler"
        small = room < 1 << 20
        if small:
            fill(filler, leave=room)
        child = self.start(folder)
        self.some_time(0.8)
        if not small:
            fill(filler)
        if not stays:
            self.some_time(0.5)
            filler.unlink()
        status = finish(child)
        final, best = (folder / place / weights.WEIGHTS for place in ("final", "best"))
        honest = status in (0, 1, 2) and (status != 0 or (final.exists() and best.exists()))
        filler.unlink(missing_ok=True)
        hit = small or status != 0 or not stays
        self.judge(kind, folder, hit, 0, honest)
        self.tally(kind).limit = 0  # what is lost is as long as the disk is full: not counted
        if folder.exists():  # not right: keep it to be looked at
            shutil.move(folder, self.new())


def main(scale: float = 1.0) -> int:
    def times(count: int) -> int:
        return max(1, round(count * scale))

    tallies: dict[str, Tally] = {}
    remarks = []
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name)
        for kind, options, about in (("adder", ADDER, ""), ("text", TEXT, ", text")):
            (folder / kind).mkdir()
            if kind == "text":
                prepared(folder / kind, prose(2000), separator="\n", val_fraction=0.2)  # other than the preset says
                options += (f"dataset.dir={folder / kind / 'data'}",)
                scale /= 5
            faults = Faults(folder / kind, options, seed=0, about=about)
            inject(faults, times, complete=scale >= 1)
            if reason := faults.full_disks(times(10)):
                remarks.append(f"No disk was filled: {reason}")
            tallies |= faults.tallies
        if scale * 5 >= 1:
            with busy():
                for ranks in (
                    UnderTorchrun(folder, 0),
                    UnderTorchrun(folder / "divided", 1, ", a divided model", "train.shard=full"),
                ):
                    ranks.ranks(5)
                    ranks.launchers(5)
                    tallies |= ranks.tallies
            shards = OfShards(folder / "shards", 2)
            for faults_of in (shards.killed, shards.full, shards.damaged):
                faults_of()
            tallies |= shards.tallies
        good = report(tallies)
    for remark in dict.fromkeys(remarks):
        print(remark)
    return 0 if good else 1


def inject(faults: Faults, times: Callable[[int], int], complete: bool) -> None:
    pick = faults.random.randint
    faults.signals("SIGKILL at a random moment", signal.SIGKILL, times(50))
    in_step = [dies_when(pick(1, 600), torch.nn.Linear, "forward", lambda *_: True) for _ in range(times(20))]
    faults.dying("SIGKILL in a step", in_step)
    in_eval = [dies_when(pick(1, 5), evaluate.F, "cross_entropy", evaluates) for _ in range(times(10))]
    faults.dying("SIGKILL in an evaluation", in_eval)
    in_file = [dies_when(pick(1, 20), files.os, "fsync", lambda *_: True) for _ in range(times(15))]
    faults.dying("SIGKILL while a file is written", in_file)
    between = [dies_when(pick(1, 40), files, "replace", lambda *_: True) for _ in range(times(15))]
    faults.dying("SIGKILL between two files", between)
    renames = [dies_when(pick(1, 8), snapshot.os, "rename", lambda *_: True) for _ in range(times(8))]
    faults.dying("SIGKILL before a snapshot appears or goes", renames)
    faults.signals("SIGTERM at a random moment", signal.SIGTERM, times(30))
    faults.tally("SIGTERM at a random moment").limit = 0
    names = list(NAMES) if complete else ["model.safetensors", "manifest.json"]
    faults.damage("file truncated", lambda content: content[: len(content) // 2], names)
    faults.damage("bit flipped", lambda content: flipped(content, pick(0, 8 * len(content) - 1)), names)
    faults.damage("file missing", lambda content: None, names)
    faults.deleted(times(5))
    faults.consoles(times(5))
    faults.gone(times(5))


def evaluates(*_arguments) -> bool:
    return not torch.is_grad_enabled()


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def report(tallies: dict[str, Tally]) -> bool:
    table = Table(title="Fault injection", title_justify="left")
    for name in ("fault", "injected", "hit before the end", "right bits", "steps lost, median", "most", "allowed"):
        table.add_column(name, justify="left" if name == "fault" else "right")
    good = True
    for kind, t in tallies.items():
        row = (t.injected, t.hit, t.right, f"{statistics.median(t.lost):g}", max(t.lost), t.limit)
        table.add_row(kind, *map(str, row))
        good &= t.right == t.injected and max(t.lost) <= t.limit
    Console(width=120).print(table)
    injected, right = (sum(getattr(t, name) for t in tallies.values()) for name in ("injected", "right"))
    print(f"{injected} faults, {right} runs with the right bits: {'good' if good else 'NOT GOOD'}")
    return good


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0))
