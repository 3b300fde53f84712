"""Small trainings that are interrupted, and what must not depend on it: what the fault injection is made of."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from helpers.trainings import composed

from cleangpt.basics import files
from cleangpt.config import experiment
from cleangpt.config.asked import Asked
from cleangpt.disk import claim, weights
from cleangpt.disk.rundir import RunDir, read_metrics
from cleangpt.snapshots import snapshot
from cleangpt.terminal import streams
from cleangpt.training import resuming, whole
from cleangpt.watch.health import OF_THE_MACHINE

ROOT = Path(__file__).resolve().parents[2]
SNAPSHOT_EVERY = 5
COMMON = (
    "train.steps=40",
    "train.eval_every=7",
    f"train.snapshot_every={SNAPSHOT_EVERY}",
    "train.keep_snapshots=2",
    "model.dropout=0.2",
    "schedule.grad_accum.style=linear",
    "schedule.grad_accum.end=3",
)
ADDER = (*COMMON, "dataset.padded=false")
TEXT = (*COMMON, "dataset=text", "model.block_size=16")
Hook = Callable[[], None]


@dataclass
class Tally:
    injected: int = 0
    hit: int = 0  # faults that came before the run was over
    right: int = 0
    lost: list[int] = field(default_factory=list)
    limit: int = 2 * SNAPSHOT_EVERY  # since the last whole snapshot: the newest may have been in the writing


def start(folder: Path, options: tuple[str, ...], hook: Hook | None, console: int | None) -> int:
    """Fork a process that does what train.py does with resume=auto in this folder; its number.

    `console` is a descriptor in the place of standard output.
    """
    words = [*options, "resume=auto"]
    settings = composed(*words)
    child = os.fork()
    if child:
        return child
    status = 99
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY) if console is None else console, 1)
        os.dup2(os.open(folder.with_suffix(".stderr"), os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        os.chdir(folder.parent)
        streams.settle(goes_on=True)
        if hook:
            hook()
        with claim.alone_in(RunDir(folder), waits=True):
            asked = Asked(experiment.parse(settings), tuple(words))
            run, asked, resume = resuming.decide(asked, RunDir(folder), restarted=False)
            status = whole.train(asked, run, resume, time.monotonic())
    except BaseException as error:
        status = 2 if isinstance(error, OSError) and error.filename is not None else 1  # as cli.start has it
        with contextlib.suppress(OSError):  # where that is full too
            os.write(2, f"{error!r}\n".encode())
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


def fill(path: Path, leave: int = 0) -> None:
    """Take all room of a disk but so many bytes."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    if leave:
        os.truncate(path, max(0, path.stat().st_size - leave))
