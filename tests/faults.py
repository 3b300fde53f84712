"""Fault injection: interrupt small trainings in every way we know, resume them, and compare every bit.

    make faults

Each fault is put into a run of its own, which is then resumed until it is complete. A run is right when its final
and best weights and all logged values are those of a run that was left alone. Work that is lost is counted in
steps: from the last logged step before the fault to the snapshot that the run went on from. Processes are forked
from one that has torch loaded, so that hundreds of runs take minutes.
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
from dataclasses import dataclass, field
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import torch._dynamo  # noqa: E402 - an optimizer loads it: here once, and not in every forked process
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from runs import composed  # noqa: E402

from cleangpt import config, evaluate, files, snapshot, training, weights  # noqa: E402
from cleangpt.rundir import RunDir, read_metrics  # noqa: E402
from cleangpt.trainer import Trainer  # noqa: E402
from cleangpt.watching import OF_THE_MACHINE  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
SNAPSHOT_EVERY = 5
OPTIONS = (
    "train.steps=40",
    "train.eval_every=7",
    f"train.snapshot_every={SNAPSHOT_EVERY}",
    "train.keep_snapshots=2",
    "model.dropout=0.2",
    "dataset.padded=false",
    "schedule.grad_accum.style=linear",
    "schedule.grad_accum.end=3",
)
Hook = Callable[[], None]
NAMES = ("model.safetensors", "optimizer.safetensors", "best.safetensors", "state.json")
NAMES += ("config.json", "tokenizer.json", "manifest.json")


@dataclass
class Tally:
    injected: int = 0
    hit: int = 0  # faults that came before the run was over
    right: int = 0
    lost: list[int] = field(default_factory=list)
    limit: int = 2 * SNAPSHOT_EVERY  # since the last whole snapshot: the newest may have been in the writing


def start(folder: Path, hook: Hook | None = None) -> int:
    """Fork a process that trains in this folder, or goes on there; its number."""
    child = os.fork()
    if child:
        return child
    status = 99
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(os.open(folder.with_suffix(".stderr"), os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        os.chdir(folder.parent)
        if hook:
            hook()
        run = RunDir(folder)
        resume = run.path if run.snapshot_folders() else None
        status = training.train(config.parse(composed(*OPTIONS)), run, [], resume, time.monotonic())
    except BaseException as error:
        os.write(2, f"{error!r}\n".encode())
        status = 1
    finally:
        os._exit(status)


def finish(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def outcome(folder: Path) -> tuple:
    """Everything of a run that must not depend on what happened to it."""
    timeless = [
        {k: v for k, v in row.items() if k not in OF_THE_MACHINE} for row in read_metrics(folder / "metrics.jsonl")
    ]
    bits = [files.sha256(folder / place / weights.WEIGHTS) for place in ("final", "best")]
    return timeless, bits


def last_logged(folder: Path) -> int:
    return max((row["step"] for row in read_metrics(folder / "metrics.jsonl")), default=0)


def goes_on_from(folder: Path) -> int:
    newest, _ = snapshot.newest_good(RunDir(folder))
    return int(newest.name.removeprefix("step_")) if newest else 0


def dies_when(count: int, module, name: str, here: Callable[..., bool]) -> Hook:
    """A process that is killed at the count-th call of module.name that `here` is true of."""

    def hook() -> None:
        real, calls = getattr(module, name), [0]

        def wrapped(*arguments, **more):
            if here(*arguments):
                calls[0] += 1
                if calls[0] == count:
                    os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **more)

        setattr(module, name, wrapped)

    return hook


def full_disk(first: int, last: int) -> Hook:
    """No room for snapshots between two steps, at the call that puts a file in its place."""

    def hook() -> None:
        real = files.replace

        def replace(path: Path, write: Callable[[Path], None]) -> None:
            folder = path.parent.name.removeprefix(".").removesuffix(".tmp")
            step = int(folder.removeprefix("step_")) if folder.startswith("step_") else -1
            if first <= step <= last:
                raise OSError(28, "No space left on device")
            real(path, write)

        files.replace = replace

    return hook


class Faults:
    def __init__(self, folder: Path, seed: int):
        self.folder, self.random = folder, random.Random(seed)
        self.tallies: dict[str, Tally] = {}
        self.number = 0
        for name in ("warm-up", "whole"):
            began = time.monotonic()
            assert finish(start(folder / name)) == 0, (folder / f"{name}.stderr").read_text()
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

        assert finish(start(self.stopped, stops_at_23)) == 143

    def new(self) -> Path:
        self.number += 1
        return self.folder / f"run{self.number}"

    def judge(self, kind: str, folder: Path, hit: bool, lost: int) -> None:
        """Resume until the run is complete, and compare it with the one that was left alone."""
        tally = self.tallies.setdefault(kind, Tally())
        tally.injected += 1
        tally.hit += hit
        for _ in range(3):
            status = finish(start(folder))
            if status == 0:
                break
        tally.lost.append(max(0, lost))
        if status == 0 and outcome(folder) == self.whole:
            tally.right += 1
            shutil.rmtree(folder)

    def signals(self, kind: str, number: int, count: int) -> None:
        """A signal at a random moment of the whole run."""
        for _ in range(count):
            folder = self.new()
            child = start(folder)
            time.sleep(self.random.uniform(0.05, 1.0) * self.seconds)
            os.kill(child, number)
            status = finish(child)
            self.judge(kind, folder, status != 0, last_logged(folder) - goes_on_from(folder) if status else 0)

    def dying(self, kind: str, hooks: list[Hook]) -> None:
        for hook in hooks:
            folder = self.new()
            status = finish(start(folder, hook))
            lost = last_logged(folder) - goes_on_from(folder) if folder.exists() else 0
            self.judge(kind, folder, status == -signal.SIGKILL, lost)

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

    def full(self, count: int) -> None:
        """A disk that is full for a while, and then a kill: the run goes on from before the disk was full."""
        for _ in range(count):
            first = self.random.choice([10, 15, 20])
            folder = self.new()
            kind = "full disk for three snapshots, then a kill"
            kill = dies_when(first + 12, Trainer, "step", lambda *_: True)

            def hook(first: int = first, kill: Hook = kill) -> None:
                full_disk(first, first + 10)()
                kill()

            status = finish(start(folder, hook))
            lost = last_logged(folder) - goes_on_from(folder)
            self.judge(kind, folder, status == -signal.SIGKILL, lost)
            self.tallies[kind].limit = 4 * SNAPSHOT_EVERY  # three snapshots could not be written

    def ranks(self, count: int) -> None:
        """SIGKILL for one of three ranks under torchrun, which starts all of them again."""
        kind = "one of three ranks killed under torchrun"
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=3", "--standalone"]
        torchrun += ["--max-restarts=2", "--monitor-interval=0.2"]
        command = [*composed_options(), "device=cpu"]

        def trains(folder: Path, killed_at: int | None, rank: int = 0) -> int:
            script = str(ROOT / "train.py")
            if killed_at is not None:
                script = str(folder.with_suffix(".py"))
                Path(script).write_text(KILLED.format(root=str(ROOT), step=killed_at, rank=rank))
            done = subprocess.run(
                [*torchrun, script, *command, f"hydra.run.dir={folder}"], cwd=self.folder, capture_output=True
            )
            return done.returncode

        assert trains(self.folder / "three", None) == 0
        whole = outcome(self.folder / "three")
        tally = self.tallies.setdefault(kind, Tally())
        for _ in range(count):
            folder, step, rank = self.new(), self.random.randint(6, 38), self.random.randrange(3)
            status = trains(folder, step, rank)
            log = (folder / "train.log").read_text()
            tally.injected += 1
            tally.hit += "continuing step_" in log
            tally.right += status == 0 and outcome(folder) == whole
            resumed = [
                int(line.split("step_")[1].split()[0]) for line in log.splitlines() if "continuing step_" in line
            ]
            tally.lost.append(step - 1 - resumed[0] if resumed else step - 1)


KILLED = """
import os, runpy, sys
sys.path.insert(0, {root!r})
from cleangpt.trainer import Trainer
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


def composed_options() -> list[str]:
    from runs import TOY

    return [*TOY, *OPTIONS]


def main(scale: float = 1.0) -> int:
    def times(count: int) -> int:
        return max(1, round(count * scale))

    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        faults = Faults(Path(folder), seed=0)
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
        faults.tallies["SIGTERM at a random moment"].limit = 0
        names = list(NAMES) if scale >= 1 else ["model.safetensors", "manifest.json"]
        faults.damage("file truncated", lambda content: content[: len(content) // 2], names)
        faults.damage("bit flipped", lambda content: flipped(content, pick(0, 8 * len(content) - 1)), names)
        faults.damage("file missing", lambda content: None, names)
        faults.deleted(times(5))
        faults.full(times(6))
        if scale >= 1:
            faults.ranks(5)
        return report(faults.tallies)


def evaluates(*_arguments) -> bool:
    return not torch.is_grad_enabled()


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def report(tallies: dict[str, Tally]) -> int:
    table = Table(title="Fault injection", title_justify="left")
    for name in ("fault", "injected", "before the end", "right bits", "steps lost, median", "most", "allowed"):
        table.add_column(name, justify="left" if name == "fault" else "right")
    good = True
    for kind, t in tallies.items():
        row = (t.injected, t.hit, t.right, f"{statistics.median(t.lost):g}", max(t.lost), t.limit)
        table.add_row(kind, *map(str, row))
        good &= t.right == t.injected and max(t.lost) <= t.limit
    Console(width=120).print(table)
    injected, right = (sum(getattr(t, name) for t in tallies.values()) for name in ("injected", "right"))
    print(f"{injected} faults, {right} runs with the right bits: {'good' if good else 'NOT GOOD'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0))
