"""Jobs that submitit hands to Slurm, or runs here as Slurm would.

The tasks of a job are its processes. Before Slurm takes a job's nodes away, because its time is over or another job
comes first, submitit hears of it: the training saves a snapshot, the job is queued again, and goes on from there.
"""

import dataclasses
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cleangpt.basics import files, verbs
from cleangpt.machine import guard
from cleangpt.sweeps import jobs
from cleangpt.sweeps.jobs import Job
from cleangpt.sweeps.processes import command, until_free
from cleangpt.sweeps.settings import Submitit

STOP = ".stop"  # a file in the folder of a job that asks it to stop: nodes may have no other way to be told
TICKET = "submitted.json"
SECONDS_TO_BE_TAKEN = 600  # in which Slurm, having said so, takes a node away


def executor(settings: Submitit, folder: Path) -> Any:
    """Make submitit's executor, which submits jobs and writes its own files to this folder."""
    import submitit

    made = submitit.AutoExecutor(folder, settings.cluster, slurm_max_num_timeout=settings.max_requeues)
    made.update_parameters(
        timeout_min=settings.timeout_min,
        nodes=settings.nodes,
        tasks_per_node=settings.tasks_per_node,
        gpus_per_node=settings.gpus_per_node,
        cpus_per_task=settings.cpus_per_task,
        mem_gb=settings.mem_gb,
        stderr_to_stdout=True,
        local_setup=settings.setup or None,
        slurm_setup=settings.setup or None,
        slurm_signal_delay_s=settings.signal_delay_s,
        slurm_partition=settings.partition,
        slurm_account=settings.account,
        slurm_qos=settings.qos,
        slurm_constraint=settings.constraint,
        slurm_additional_parameters=settings.additional_parameters or None,
    )
    if settings.cluster == "local":
        made._executor.parameters["signal_delay_s"] = settings.signal_delay_s
    return made


@dataclass
class Training:
    """The work of each task of a job: one process of the training, as torchrun would start it."""

    words: list[str]
    folder: str
    log: str
    directory: str
    threads: int

    def __call__(self) -> int:
        from submitit import JobEnvironment

        self._job = JobEnvironment()
        environment = verbs.environment(guard.announced({**os.environ, **self._group()}))
        environment.setdefault("OMP_NUM_THREADS", str(self.threads))
        # Slurm sends submitit's signal to all processes of a job. It would end a training that does not know it.
        theirs = getattr(signal, f"SIG{JobEnvironment.USR_SIG}")
        with files.append_bytes(Path(self.log)) as log:
            self._child = subprocess.Popen(
                self.words, env=environment, cwd=self.directory, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                preexec_fn=lambda: signal.signal(theirs, signal.SIG_IGN),
            )  # fmt: skip
        # The handler of a signal waits for the child too: a thread of its own collects it.
        self._waiting = threading.Thread(target=self._child.wait, daemon=True)
        self._waiting.start()
        asked = False
        try:
            while self._waiting.is_alive():
                if not asked and (Path(self.folder) / STOP).exists():
                    asked = True
                    self._stop()
                time.sleep(0.2)
        except KeyboardInterrupt:  # a local job that is cancelled
            guard.kill_with_descendants(self._child.pid)
        if self._child.returncode in jobs.STOPPING and not asked and self._job.cluster == "slurm":
            time.sleep(SECONDS_TO_BE_TAKEN)  # Slurm told the training directly: leaving now would end the job for good
        return self._child.returncode

    def _group(self) -> dict[str, str]:
        """Say where the processes of this job meet."""
        job = self._job
        if job.num_tasks == 1:
            return {}
        first = job.hostnames[0] if job.num_nodes > 1 else "127.0.0.1"
        return {
            "MASTER_ADDR": first,
            "MASTER_PORT": str(random.Random(job.job_id).randint(20000, 30000)),
            "RANK": str(job.global_rank),
            "WORLD_SIZE": str(job.num_tasks),
            "LOCAL_RANK": str(job.local_rank),
            "LOCAL_WORLD_SIZE": str(job.num_tasks // job.num_nodes),
        }

    def _stop(self) -> None:
        if self._waiting.is_alive():
            os.kill(self._child.pid, signal.SIGTERM)

    def checkpoint(self) -> Any:
        """Save when submitit says that the job is about to lose its nodes, and go on when there are nodes again."""
        from submitit.helpers import DelayedSubmission

        self._stop()
        while self._waiting.is_alive():
            time.sleep(0.1)
        if self._child.returncode == 0:
            return None  # it was done: nothing is left to be queued
        return DelayedSubmission(dataclasses.replace(self))  # without what this process knows


@dataclass
class Submitted:
    """A job that submitit has."""

    job: Job
    ticket: Any  # submitit's own Job
    local: bool
    cancelled: bool = False

    def poll(self) -> int | None:
        if not self.ticket.done():
            return None
        if self.cancelled:
            return 128 + signal.SIGTERM
        try:
            return max(self.ticket.results(), key=lambda status: (status != 0, status))
        except Exception:  # submitit's, of many kinds: the job ended without a result
            return 0 if jobs.is_done(self.job) else 1

    def stop(self) -> None:
        """Ask a running job to save and leave; take one that waits for nodes out of the queue."""
        (self.job.folder / STOP).touch()
        if self.ticket.state == "PENDING":
            self.kill()

    def kill(self) -> None:
        self.cancelled = True
        if self.local:
            guard.kill_with_descendants(int(self.ticket.job_id))
        else:
            self.ticket.cancel(check=False)


class Cluster:
    """Jobs through submitit."""

    def __init__(self, settings: Submitit, folder: Path):
        self.settings = settings
        self.say: Callable[[str], None] = print
        self.executor = executor(settings, folder / ".submitit" / "%j")
        self.slots = settings.jobs or 10_000
        os.environ |= verbs.environment(os.environ)  # tasks load this file

    def start(self, job: Job) -> Submitted:
        (job.folder / STOP).unlink(missing_ok=True)
        if running := self._still_there(job):
            self.say(f"{job.folder.name} is in the queue, or runs, as job {running.job_id}")
            return Submitted(job, running, local=False)
        until_free(job, self.say)
        threads = max(1, self.settings.cpus_per_task)
        training = Training(command(job), str(job.folder), str(job.log), os.getcwd(), threads)
        self.executor.update_parameters(name=f"sweep-{job.number:04}")
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the sweep, which tells its jobs
        try:
            ticket = self.executor.submit(training)
        finally:
            signal.signal(signal.SIGINT, before)
        files.write_json(job.folder / TICKET, {"cluster": self.settings.cluster, "job_id": ticket.job_id})
        return Submitted(job, ticket, local=self.settings.cluster == "local")

    def _still_there(self, job: Job) -> Any:
        """Find the job of an earlier sweep process that Slurm still has: it is not submitted twice."""
        try:
            known = files.read_json(job.folder / TICKET)
        except (OSError, ValueError):
            return None
        if known["cluster"] != "slurm" or self.settings.cluster != "slurm":
            return None
        from submitit import SlurmJob

        tasks = range(self.settings.nodes * self.settings.tasks_per_node)
        ticket = SlurmJob(self.executor.folder, known["job_id"], list(tasks))
        return None if ticket.done(force_check=True) else ticket

    def ended(self, running: Submitted) -> None:
        (running.job.folder / STOP).unlink(missing_ok=True)
        (running.job.folder / TICKET).unlink(missing_ok=True)
