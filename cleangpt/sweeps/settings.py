"""The keys of hydra.launcher and hydra.sweeper: their types, bounds and meaning. Their values are in conf/hydra/."""

import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, create_model, field_validator

from cleangpt.basics import extras
from cleangpt.basics.errors import ConfigError
from cleangpt.basics.schema import Section, keys, parse

PLUGIN_CLASS = "_" + "target_"  # Hydra's own key in its own sections: which plugin answers; no user sets it


class Processes(Section):
    """The keys of conf/hydra/launcher/processes.yaml."""

    name: Literal["processes"] = Field(description="how jobs are started")
    jobs: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        description="jobs at once; auto: one for each GPU, or core, that its processes need"
    )
    gpus: list[int | str] | None = Field(
        description="GPUs of each job that runs at once: [0,1], or ['0,1','2,3']; null: divide the visible ones"
    )
    keep: bool | Literal["auto"] = Field(
        description="fork jobs of one process from one that has torch loaded; auto: on Linux, for jobs on the CPU"
    )

    @field_validator("gpus")
    @classmethod
    def _one_entry_a_job(cls, gpus: list[int | str] | None, info: ValidationInfo) -> list[int | str] | None:
        jobs = info.data.get("jobs")
        if gpus is not None and isinstance(jobs, int) and len(gpus) != jobs:
            raise ValueError(f"must have an entry for each of hydra.launcher.jobs={jobs}, and has {len(gpus)}")
        return gpus


class Submitit(Section):
    """The keys of conf/hydra/launcher/submitit_slurm.yaml and submitit_local.yaml."""

    name: Literal["submitit"] = Field(description="how jobs are started")
    cluster: Literal["slurm", "local"] = Field(description="hand jobs to Slurm, or run them here as Slurm would")
    jobs: int | None = Field(ge=1, description="jobs that are queued or run at once; null: all")
    nodes: int = Field(ge=1, description="nodes of a job")
    tasks_per_node: int = Field(ge=1, description="processes of a job on each node")
    gpus_per_node: int | None = Field(ge=1, description="GPUs of a job on each node; null: none asked for")
    cpus_per_task: int = Field(ge=1, description="cores of each process")
    mem_gb: float | None = Field(gt=0, description="memory of a job on each node; null: the cluster's default")
    timeout_min: int = Field(ge=1, description="minutes until Slurm ends a job; it is requeued and goes on")
    signal_delay_s: int = Field(ge=1, description="seconds before that end in which a job saves a snapshot")
    max_requeues: int = Field(ge=0, description="times that a job which ran out of time is requeued")
    partition: str | None = Field(description="Slurm's partition; null: its default")
    account: str | None = Field(description="Slurm's account; null: its default")
    qos: str | None = Field(description="Slurm's quality of service; null: its default")
    constraint: str | None = Field(description="features that nodes must have; null: any")
    setup: list[str] = Field(description="shell lines before a job, such as 'module load cuda'")
    additional_parameters: dict[str, Any] = Field(description="further flags of sbatch, by name")

    @field_validator("nodes")
    @classmethod
    def _one_node_here(cls, nodes: int, info: ValidationInfo) -> int:
        if info.data.get("cluster") == "local" and nodes > 1:
            raise ValueError(f"must be 1 with hydra/launcher=submitit_local, not {nodes}")
        return nodes


class Sweeper(Section):
    """The keys of conf/hydra/sweeper/."""

    name: Literal["grid", "optuna"] = Field(description="every combination of the values, or a search among them")
    params: dict[str, Any] | None = Field(description="key: values, as in a preset of conf/sweep/")
    trials: int = Field(ge=1, description="trials of a search, those of earlier parts included")
    metric: str = Field(min_length=1, description="what a search makes good: a value of evaluations in metrics.jsonl")
    direction: Literal["auto", "minimize", "maximize"] = Field(
        description="whether a small metric is good, or a large one; auto: as the task says"
    )
    sampler: Literal["tpe", "random"] = Field(description="how values are proposed")
    seed: int = Field(ge=0, lt=2**32, description="of the proposals")
    pruner: Literal["median", "none"] = Field(
        description="median: stop a trial whose best value so far is worse than the median of others at that step"
    )
    startup_trials: int = Field(ge=0, description="trials that come before anything is pruned or modelled")
    warmup_steps: int = Field(ge=0, description="optimizer steps of a trial before it can be pruned")


def launcher(data: dict[str, Any]) -> Processes | Submitit:
    """Check hydra.launcher."""
    ours = "processes, submitit_slurm, submitit_local"
    return _part("launcher", data, {"processes": Processes, "submitit": Submitit}, ours)


def sweeper(data: dict[str, Any]) -> Sweeper:
    """Check hydra.sweeper."""
    return _part("sweeper", data, {"grid": Sweeper, "optuna": Sweeper}, "grid, optuna")


def _part(part: str, data: dict[str, Any], known: Mapping[str, type[Section]], ours: str) -> Any:
    plain = {key: value for key, value in data.items() if key != PLUGIN_CLASS}
    name = str(plain.get("name"))
    if name not in known:
        raise ConfigError([f"`hydra/{part}` must be one of {ours}: another does not give each job fresh processes"])
    field: dict[str, Any] = {part: (known[name], ...)}
    inner = create_model("Hydra", __base__=Section, **field)
    outer = create_model("Whole", __base__=Section, hydra=(inner, ...))  # so that sentences name the whole key
    return getattr(dict(parse({"hydra": {part: plain}}, outer))["hydra"], part)


def mistakes(hydra: dict[str, Any]) -> list[str]:
    """Say what is wrong with hydra.launcher and hydra.sweeper, a sentence each."""
    found = []
    for read, data in ((launcher, hydra["launcher"]), (sweeper, hydra["sweeper"])):
        try:
            found += _lacking(read(data))
        except ConfigError as error:
            found += error.mistakes
    return found


def _lacking(chosen: Section) -> list[str]:
    """Say what this machine lacks for what was chosen."""
    if isinstance(chosen, Sweeper) and chosen.name == "optuna" and find_spec("optuna") is None:
        return [f"`hydra/sweeper=optuna` needs optuna: install it by `{extras.command('search')}`"]
    if isinstance(chosen, Submitit) and find_spec("submitit") is None:
        command = extras.command("slurm")
        return [f"`hydra/launcher=submitit_{chosen.cluster}` needs submitit: install it by `{command}`"]
    if isinstance(chosen, Submitit) and chosen.cluster == "slurm" and shutil.which("srun") is None:
        return ["`hydra/launcher=submitit_slurm` needs a machine of a Slurm cluster, and there is no `srun` here"]
    return []


def help_keys() -> dict[str, Any]:
    """List the keys that --help explains, with their fields."""
    sections = {"launcher": keys(Processes), "sweeper": keys(Sweeper)}
    found = {f"hydra.{part}.{key}": field for part, fields in sections.items() for key, field in fields.items()}
    return {key: field for key, field in found.items() if not key.endswith((".params", ".name"))}
