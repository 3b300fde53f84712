"""A process that a sweep keeps, with torch loaded: jobs are forked from it, which takes no second where a start does.

A fork becomes the program as if it had been started: in a session of its own, with its own log, arguments and signals;
it ends as any program does, and has the same bits. The kept process only imports. What has threads must not be forked:
where a library has started one, jobs are started anew instead.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cleangpt.basics import files, verbs
from cleangpt.config import cli, composition
from cleangpt.config.experiment import Config
from cleangpt.machine import guard

LOADED = ("hydra._internal.utils", "cleangpt.training.launch", "cleangpt.training.whole")  # what every training loads
BEGIN = "import sys; from cleangpt.sweeps import kept; kept.serve(int(sys.argv[1]))"
SET_NAME = 15  # of prctl
ASKING_TO_END = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)  # which each job gets by itself
SECONDS_TO_LOAD, SECONDS_TO_ANSWER = 300, 20
GONE = 128 + signal.SIGTERM  # the status of a job whose kept process was killed: it noticed, and left


def works_here() -> bool:
    """Say whether a process that has loaded torch may be forked on this system; macOS's own libraries forbid it."""
    return sys.platform.startswith("linux")


class Kept:
    """The sweep's end of the line."""

    def __init__(self, environment: Mapping[str, str]):
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-c", BEGIN, str(theirs.fileno()), *sys.argv],  # the last for `ps`
                env=verbs.environment(environment),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        ours.settimeout(SECONDS_TO_LOAD)
        self.line = ours.makefile("rw")
        self.close = weakref.finalize(self, _let_go, ours, self.line, process)
        self.works = self.ask(None) is True
        if self.works:
            ours.settimeout(SECONDS_TO_ANSWER)
        else:
            self.close()

    def ask(self, request: Any) -> Any:
        """Ask, and wait for the answer; when there is none, jobs are no longer forked, and those that run leave."""
        with contextlib.suppress(OSError, ValueError):
            if request is not None:
                self.line.write(json.dumps(request) + "\n")
                self.line.flush()
            return json.loads(self.line.readline())
        self.works = False
        self.close()
        return None

    def start(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> "Forked | None":
        """Fork a process that becomes a program of Python's, a module (-m) or a file; None where that can't be done.

        What a library reads as it is loaded, such as OMP_NUM_THREADS, is that of the kept process.
        """
        pid = self.ask({"start": [*command], "log": str(log), "environment": {**environment}})
        return None if pid is None else Forked(self, pid)


def _let_go(connection: socket.socket, line: Any, process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        line.close()
    connection.close()
    try:
        process.wait(SECONDS_TO_ANSWER)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Forked:
    """A process that was forked, as a Popen is one that was started."""

    def __init__(self, kept: Kept, pid: int):
        self.kept, self.pid, self.began = kept, pid, _began(pid)
        self.status: int | None = None

    def poll(self) -> int | None:
        if self.status is None and self.kept.works:
            self.status = self.kept.ask({"poll": self.pid})
        if self.status is None and not self.kept.works and (self.began is None or _began(self.pid) != self.began):
            self.status = GONE
        return self.status

    def send_signal(self, number: int) -> None:
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def _began(pid: int) -> str | None:
    """Read when a process began, which tells it from another of the same number; None when it has ended.

    One that nobody has waited for has ended as well: in a container there may be nobody who does.
    """
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].decode().split()
    except OSError:
        return None
    return None if state in "ZX" else rest[18]


# ---- the kept process


def serve(number: int) -> None:
    """Fork what is asked for, until nobody can ask any more; the forks return from here as other programs."""
    for name in LOADED:
        importlib.import_module(name)
    cli.register_resolvers(Config)
    composition.defaults("train")  # Hydra learns to read, and every job compares itself with these
    gc.collect()
    gc.freeze()  # what the collections of a fork need not look at, and so do not copy
    connection = socket.socket(fileno=number)
    line = connection.makefile("rw")
    handlers = {asking: signal.signal(asking, signal.SIG_IGN) for asking in ASKING_TO_END}
    _answer(line, len(os.listdir("/proc/self/task")) == 1)
    for received in line:
        request = json.loads(received)
        if "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            _answer(line, os.waitstatus_to_exitcode(status) if pid else None)
            continue
        parent = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, ASKING_TO_END)  # so that the fork loses none
        try:
            pid = os.fork()
        except OSError:  # there are too many processes: whoever starts one will be told
            pid = -1
        if pid != 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKING_TO_END)
            _answer(line, pid if pid > 0 else None)
            continue
        line.close()
        connection.close()
        for asking, handler in handlers.items():
            signal.signal(asking, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKING_TO_END)
        os.setsid()
        os.environ.clear()
        os.environ.update(request["environment"] | {guard.PARENT: str(parent)})
        with files.append_bytes(Path(request["log"])) as log:
            os.dup2(log.fileno(), 1), os.dup2(log.fileno(), 2)
        ctypes.CDLL(None).prctl(SET_NAME, Path(request["log"]).parent.name.encode()[:15])  # for `ps` and `top`
        _, *sys.argv = request["start"]
        if sys.argv[0] == "-m":
            del sys.argv[0]
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")
        return


def _answer(line: Any, answer: Any) -> None:
    line.write(json.dumps(answer) + "\n")
    line.flush()
