"""Jobs as processes of this machine. Cores and GPUs are divided among those that run at once."""

import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from cleangpt.basics import files, verbs
from cleangpt.config import command_line
from cleangpt.disk import claim
from cleangpt.machine import guard
from cleangpt.sweeps.jobs import Job
from cleangpt.sweeps.kept import Forked, Kept
from cleangpt.sweeps.settings import Processes

SECONDS_TO_LEAVE = 120  # for what an earlier sweep left running, which saves a snapshot first


def command(job: Job) -> list[str]:
    """Write the command that trains a job, and continues it where it has begun."""
    where = command_line.hydra_words(sys.argv[1:])
    words = [*command_line.without(job.overrides, "resume"), "resume=auto", "hydra.mode=RUN"]
    return [*verbs.command("train"), *where, *words, f"hydra.run.dir={command_line.quoted(job.folder)}"]


def until_free(job: Job, say: Callable[[str], None]) -> None:
    """Wait for processes that still train in the folder of a job: their sweep was killed, and they are leaving."""
    os.close(claim.lock(job.folder, SECONDS_TO_LEAVE, say))


@dataclass
class Share:
    """The threads and GPUs of one of the jobs that run at once."""

    threads: int
    gpus: str | None  # for CUDA_VISIBLE_DEVICES


def shares(settings: Processes, jobs: int, processes: int, gpus: Sequence[str], cores: int) -> list[Share]:
    """Divide the machine among the jobs that run at once, where `jobs` are to be run and each has so many processes.

    `gpus` are those that the jobs may use, none where they compute on the CPU.
    """
    own: list[str | None]
    if settings.gpus is not None:
        own = [str(entry) for entry in settings.gpus]
    elif gpus:
        at_once = settings.jobs if settings.jobs != "auto" else max(1, len(gpus) // processes)
        width = max(1, len(gpus) // at_once)
        chunks = [",".join(gpus[start : start + width]) for start in range(0, width * (len(gpus) // width), width)]
        own = [chunks[number % len(chunks)] for number in range(at_once)]
    else:
        own = [None] * (settings.jobs if settings.jobs != "auto" else max(1, cores // processes))
    own = own[: max(1, jobs)]
    widest = max(processes, *(1 if gpu is None else len(gpu.split(",")) for gpu in own))
    return [Share(max(1, cores // (len(own) * widest)), gpu) for gpu in own]


def usable_gpus() -> list[str]:
    """List the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if not _torch_is_built_for_gpus():
        return []
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(number) for number in range(count)]


def _torch_is_built_for_gpus() -> bool:
    """Read it where torch is installed, which takes a second less than to load torch."""
    place = getattr(find_spec("torch"), "origin", None)
    built = runpy.run_path(str(Path(place).with_name("version.py"))) if place else {}
    return bool(built.get("cuda") or built.get("hip"))


@dataclass
class Running:
    """The processes of a job, and what of the machine they have."""

    process: subprocess.Popen[bytes] | Forked
    share: Share

    def poll(self) -> int | None:
        return self.process.poll()

    def stop(self) -> None:
        """Ask for a snapshot and an end. torchrun passes it on to its workers."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        if self.process.poll() is None:
            guard.kill_with_descendants(self.process.pid)


class LocalProcesses:
    """Jobs as processes of this machine, as many at once as there are shares."""

    def __init__(self, shares: list[Share], keep: bool = False):
        self.free, self.slots, self.keep = list(shares), len(shares), keep
        self.kept: Kept | None = None
        self.say: Callable[[str], None] = print

    def start(self, job: Job) -> Running:
        until_free(job, self.say)
        share = self.free.pop(0)
        environment = verbs.environment(guard.announced(os.environ))
        environment.setdefault("OMP_NUM_THREADS", str(share.threads))
        if share.gpus is not None:
            environment["CUDA_VISIBLE_DEVICES"] = share.gpus
        with files.append_bytes(job.log) as log:
            process = self._forked(job, environment) or subprocess.Popen(
                command(job), env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        return Running(process, share)

    def _forked(self, job: Job, environment: dict[str, str]) -> Forked | None:
        if not self.keep or job.config["processes"] not in ("auto", 1):
            return None
        if self.kept is None:
            self.kept = Kept(environment)
        return self.kept.start(command(job), job.log, environment) if self.kept.works else None

    def ended(self, running: Running) -> None:
        self.free.append(running.share)
