"""Start trainings and sweeps from Python, each in a process of its own, as a person would start the command.

So they have the same bits, and leave this process as it was: its threads, its memory, its GPU and its signals. Whoever
interrupts stops the training, which saves a snapshot first, and gets the run as it is.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cleangpt.basics import verbs
from cleangpt.basics.errors import UserError
from cleangpt.disk.rundir import RunDir
from cleangpt.library import following
from cleangpt.library.following import Bar, Row, Rows
from cleangpt.machine import guard

LOOK_EVERY = 0.1  # seconds
WRONG_USE = 2
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
# An interruption is for this process, which passes it on as a signal that ends a beginning interpreter as well: that
# one may lose an interruption, which is an exception in it.
APART: dict[str, Any]
if sys.platform == "win32":
    APART, INTERRUPTION = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}, signal.CTRL_BREAK_EVENT
else:
    APART, INTERRUPTION = {"start_new_session": True}, signal.SIGTERM
Callback = Callable[[Row], Any]


class TrainingFailed(Exception):
    """A training ended in an error, which is its text; `path` is where its run lies, if it left anything."""

    def __init__(self, text: str, path: Path):
        super().__init__(text)
        self.path = path


def train(line: list[str], folder: Path, steps: int, callback: Callback | None, progress: bool) -> None:
    """Train as a command line asks, in the folder that it names."""
    rows = Rows(RunDir(folder).metrics)

    def look(bar: Bar) -> None:
        for row in rows.new():
            bar.reach(row["step"], following.in_words(row))
            if callback is not None:
                callback(row)

    status, said, interrupted = _run("train", line, look, _bar(progress, steps, "steps"))
    if interrupted and not RunDir(folder).config.exists():
        raise KeyboardInterrupt  # it had not begun
    if status == WRONG_USE:
        raise UserError(said)
    if not (interrupted or status in (0, *STOPPED)) or not RunDir(folder).config.exists():
        raise TrainingFailed(said or f"the training ended with status {status}", folder)


def sweep(line: list[str], folder: Path, jobs: int, progress: bool) -> None:
    """Run a sweep as a command line asks, in the folder that it names. Single jobs may fail."""

    def look(bar: Bar) -> None:
        bar.reach(sum(1 for _ in folder.glob("*/summary.json")))

    status, said, interrupted = _run("train", line, look, _bar(progress, jobs, "runs"))
    if interrupted and not any(folder.glob("*/config.json")):
        raise KeyboardInterrupt
    if status == WRONG_USE or not any(folder.glob("*/config.json")):
        raise UserError(said or f"the sweep in {folder} left no run")


def _bar(progress: bool, total: int, unit: str) -> Bar:
    return following.bar(total, "Training", unit) if progress else Bar(total)


def _run(verb: str, line: list[str], look: Callable[[Bar], None], bar: Bar) -> tuple[int, str, bool]:
    """Run a program to its end, and look at what it does meanwhile.

    Its exit status, what it said was wrong, and whether it was interrupted here.
    """
    environment = verbs.environment(guard.announced(os.environ)) | {verbs.STARTED: verbs.COMMAND}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [*verbs.command(verb), *line],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            **APART,
        )
        interrupted = True
        with _ending(process, bar):
            while process.poll() is None:
                look(bar)
                time.sleep(LOOK_EVERY)
            look(bar)
            interrupted = False
        errors.seek(0)
        return process.returncode, _said(errors.read().decode("utf-8", "replace")), interrupted


@contextlib.contextmanager
def _ending(process: subprocess.Popen[bytes], bar: Bar) -> Iterator[None]:
    """Let no process outlive this: an interruption has it save and end, and so has a callback that fails."""
    try:
        yield
    except KeyboardInterrupt:
        _stop(process)
    except BaseException:
        _stop(process)
        raise
    finally:
        bar.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    try:
        process.send_signal(INTERRUPTION)
        process.wait()
    except BaseException:  # a second interruption: at once
        guard.kill_with_descendants(process.pid)
        process.wait()
        raise


def _said(errors: str) -> str:
    """Take what was said last, without progress."""
    lines = [line for line in errors.splitlines() if not line.endswith("…")]
    return "\n".join(lines).strip()
