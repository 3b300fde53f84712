"""Jobs of toy sweeps, and an executor that only pretends to run them."""

from pathlib import Path

from cleangpt.basics import files
from cleangpt.sweeps import jobs
from cleangpt.sweeps.jobs import Job
from helpers.configs import toy

LAUNCHER = {"name": "processes", "jobs": "auto", "gpus": None, "keep": False}
SUBMITIT = {
    "name": "submitit", "cluster": "slurm", "jobs": None, "nodes": 2, "tasks_per_node": 4, "gpus_per_node": 4,
    "cpus_per_task": 3, "mem_gb": 64.0, "timeout_min": 90, "signal_delay_s": 77, "max_requeues": 5,
    "partition": "fast", "account": "me", "qos": "high", "constraint": "h100", "setup": ["module load cuda"],
    "additional_parameters": {"mail-user": "a@b.c"},
}  # fmt: skip
SWEEPER = {
    "name": "optuna", "params": None, "trials": 4, "metric": "val/loss", "direction": "minimize", "sampler": "tpe",
    "seed": 0, "pruner": "median", "startup_trials": 1, "warmup_steps": 0,
}  # fmt: skip
TOY = (
    "model=llama_tiny", "model.n_embd=16", "model.n_layer=1", "dataset.digits=1", "train.batch_size=8",
    "train.test_at_end=false", "logger=quiet", "device=cpu", "dtype=float32",
)  # fmt: skip


def composing(folder: Path, **changes):
    """Composes jobs as Hydra would: words are keys of a toy configuration."""

    def compose(number, words, name):
        values = dict(word.lstrip("+").split("=", 1) for word in words)
        return toy(**{**changes, **values}), folder / name

    return compose


def complete(job: Job, status="completed", **summary) -> None:
    jobs.prepare(job)
    files.write_json(job.run.summary, {"status": status, "step": job.steps(), **summary})


class Fake:
    """Runs jobs that take some looks and end with a status; notes what is done to them."""

    def __init__(self, slots, statuses, looks=2):
        self.slots, self.statuses, self.looks, self.notes = slots, statuses, looks, []
        self.running = self.most = 0

    def start(self, job):
        self.running += 1
        self.most = max(self.most, self.running)
        return FakeRun(self, job)

    def ended(self, run):
        self.running -= 1


class FakeRun:
    def __init__(self, fake, job):
        self.fake, self.job, self.left = fake, job, fake.looks
        self.status = fake.statuses.get(job.number, 0)

    def poll(self):
        self.left -= 1
        if self.left > 0:
            return None
        if self.status == 0:
            complete(self.job, **{"val/loss": 1.5, "val/accuracy": 0.5})
        elif self.status == 1:
            files.write_json(self.job.run.summary, {"status": "failed", "error": f"words of {self.job.number}"})
        elif callable(self.status):
            return self.status(self)
        return self.status

    def stop(self):
        self.fake.notes.append(("stop", self.job.number))
        self.status, self.left = 143, 2

    def kill(self):
        self.fake.notes.append(("kill", self.job.number))
        self.status, self.left = -9, 0
