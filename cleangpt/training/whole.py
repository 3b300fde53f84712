"""Train, from a checked configuration to a complete run directory."""

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import torch

from cleangpt import tasks
from cleangpt.basics import files, verbs
from cleangpt.basics.errors import UserError
from cleangpt.basics.seeds import derive
from cleangpt.config import command_line
from cleangpt.config.asked import Asked
from cleangpt.config.cli import FAILED
from cleangpt.config.experiment import Config, resolve
from cleangpt.corpus.store import NotPrepared
from cleangpt.disk import alike, alive, migrations, record
from cleangpt.disk.rundir import RunDir, point_latest_to, read_config, refuse_links_outside, writable, write_config
from cleangpt.hf import pretrained
from cleangpt.machine import device, distributed, launcher, process, session
from cleangpt.machine.signals import Stop, Stopped
from cleangpt.memory import least, need
from cleangpt.models.build import count_parameters, parameter_counts
from cleangpt.sharding import make as sharding
from cleangpt.snapshots import snapshot, together
from cleangpt.tasks import usable
from cleangpt.tasks.contract import Task, TaskWithAnswers
from cleangpt.terminal import patience
from cleangpt.training import compiling, ending, telling
from cleangpt.training.loop import Trainer
from cleangpt.watch.tracking import Tracker


def train(asked: Asked[Config], run: RunDir, resume: Path | None, began: float) -> int:
    """Train; the exit status. `resume` is the run or snapshot to continue, already checked against what is asked.

    Whoever calls this has claimed the run directory.
    """
    process.keep_memory()
    task = _task(asked)
    config = resolve(asked.config, task)
    _refuse_unknown_goal(config, task)
    config = config.model_copy(update={"dtype": _dtype(config, run, resume)})
    with session.together(config.device, config.dtype) as (compute, world):
        if (size := config.train.batch_size) < world.size:
            raise UserError(
                f"`train.batch_size` must be at least {world.size}, one sequence for each process, not {size}"
            )
        least.refuse_too_large(config, task.sequence_length, world.size, compute.device)
        with patience.doing("Looking at what it needs"):
            config, needs = need.settle(config, task, world, compute)
        with Stop() as stop:
            distributed.from_main(lambda: refuse_links_outside(run.path))
            with patience.doing("Checking the snapshot"):
                snapshot_folder, complaints = _where_to_go_on(config, run, resume)
            if world.is_main:
                snapshot.remove_leftovers(run)
            with patience.doing("Building the model"):
                model, divided = sharding.make(config, compute)
            if divided is not None:
                together.refuse_folders_apart(run)
            distributed.from_main(lambda: _begin_log(run))
            tracker = Tracker(run, config.logger, config.train.steps, speaks=world.is_main)
            living = alive.Alive(run, stop.ask) if world.is_main else None
            trainer = Trainer(config, task, model, compute, world, run, tracker, stop, began, divided)
            del model, divided  # which go with the trainer, before the process group does
            try:
                for complaint in complaints:
                    tracker.say(complaint)
                return _fit(trainer, asked, snapshot_folder, needs)
            except Exception as error:
                ending.failed(trainer, error)
                raise
            finally:
                trainer.writer.close()
                tracker.close()
                if living is not None:
                    living.close()
                del trainer


def _begin_log(run: RunDir) -> None:
    with writable(run):
        run.path.mkdir(parents=True, exist_ok=True)
        files.append_text(run.log).close()


def _dtype(config: Config, run: RunDir, resume: Path | None) -> str:
    """Decide what dtype=auto means on all processes: rank 0 does, since the processors of nodes may differ.

    A run that goes on has what was decided in its configuration; where that says auto, run.json knows.
    """

    def say() -> str:
        before = record.begun(run.run) if resume is not None else None
        machine = record.parts(before)[-1].get("machine", {}) if before else {}
        if machine.get("dtype") in ("float32", "bfloat16", "float16"):
            return machine["dtype"]
        return device.fastest_dtype(device.fastest(config.device), count_parameters(config.model))

    return config.dtype if config.dtype != "auto" else launcher.broadcast_from_rank0("dtype", say)


def _task(asked: Asked[Config]) -> Task:
    """Make the task. Text has to be prepared, and what was prepared is what is trained on."""
    dataset = asked.config.dataset
    try:
        task = tasks.make(dataset, asked.config.model.block_size)
    except NotPrepared as error:
        folders = command_line.hydra_words(sys.argv[1:], command_line.FOLDERS)
        chosen = asked.given.get("dataset", f"dataset={dataset.name}")
        words = shlex.join([*folders, chosen, *asked.below("dataset").values()])
        raise UserError(f"{error}: run `{verbs.shown('prepare')} {words}` first") from None
    if isinstance(task, TaskWithAnswers):
        usable.refuse_unusable(task)
    for key, word in asked.below("dataset").items():
        if (value := getattr(task.settings, key)) != getattr(dataset, key):
            where = dataset.model_dump()["dir"]
            raise UserError(
                f"`{word}`, but {where} was prepared with {key}={value}: leave it out, or prepare it so in another "
                "dataset.dir"
            )
    return task


def _refuse_unknown_goal(config: Config, task: Task) -> None:
    """Refuse to end a run, or to judge it, by what is not among the scores of its evaluations."""
    scores = ["val/loss", *(["val/accuracy"] if task.has_answers else [])]
    scores += [f"val/{name}" for name in task.measures(1.0)]
    if config.train.eval_train:
        scores += ["train/evaluated_loss", *(["train/accuracy"] if task.has_answers else [])]
    rule = config.train.stop_when
    asked = {"best": config.train.best, **({"stop_when.metric": rule.metric} if rule else {})}
    for key, metric in asked.items():
        if metric not in scores:
            raise UserError(
                f"`train.{key}` is {metric}, which dataset={config.dataset.name} does not have: it has "
                + ", ".join(scores)
            )
    if rule and rule.metric.endswith("/accuracy") and max(rule.at_least or 0, rule.at_most or 0) > 1:
        raise UserError(f"`train.stop_when` is about {rule.metric}, a share: write 0.95 for 95%")


def _where_to_go_on(config: Config, run: RunDir, resume: Path | None) -> tuple[Path | None, list[str]]:
    """Find the snapshot to continue, if any, and what is to be said of others. One rank looks for all."""
    if resume is None:
        return None, []
    folder, complaints = distributed.from_main(lambda: snapshot.choose(run, resume))
    if folder is None and config.resume not in (None, "auto"):
        raise UserError(f"`resume` is {config.resume}, which has no good snapshot: {'; '.join(complaints)}")
    return folder, complaints


def _fit(trainer: Trainer, asked: Asked[Config], snapshot_folder: Path | None, remarks: list[str]) -> int:
    config, run, tracker, world = trainer.config, trainer.run, trainer.tracker, trainer.world
    if snapshot_folder is not None:
        distributed.from_main(lambda: _refuse_other_data(trainer))
    with patience.doing("Reading the weights" if snapshot_folder or config.init_from else "Drawing the first weights"):
        _first_weights(trainer, snapshot_folder)
    if trainer.state.step > config.train.steps:
        raise UserError(f"`train.steps` is {config.train.steps}, and the run is at step {trainer.state.step} already")
    parameters = parameter_counts(trainer.model)
    before: dict[str, Any] | None = None
    now: dict[str, Any] = {}
    if world.is_main:
        before = record.begun(run.run) if snapshot_folder else None
        changed = record.changes(config, asked, before)
        now = record.circumstances(asked, changed, trainer.compute, world, parameters)
        now["data"] = trainer.task.fingerprint()
        now["more_is_better"] = trainer.task.more_is_better
        now["flops_per_token"] = trainer.model.flops_per_token(trainer.task.sequence_length)
        if asked.own:
            remarks.append("with files of your own: " + ", ".join(map(os.path.relpath, asked.own)))
        remarks += _about_the_machine(trainer, parameters["total"], before, now)
        if snapshot_folder is not None:
            earlier, parts = read_config(snapshot_folder / "config.json"), [*record.parts(before or {}), now]
            assert isinstance(earlier, Config)
            remarks += telling.stretching(earlier, config, trainer.state.step, parts)
    distributed.from_main(lambda: _note_beginning(trainer, before, now))
    compiling.prepare(trainer)
    telling.introduce(trainer, parameters, snapshot_folder, remarks)
    process.settle_garbage()
    status = trainer.fit()
    tracker.pause()
    if ending.is_gone(trainer):
        return FAILED
    if status != "stopped":
        try:
            ended = ending.finish(trainer, status)
            return FAILED if ending.is_gone(trainer) else ended
        except Stopped:
            pass  # training is done and its snapshot written; only the score is not complete
    return ending.stopped(trainer)


def _note_beginning(trainer: Trainer, before: dict[str, Any] | None, now: dict[str, Any]) -> None:
    """Write what the run is, and under which circumstances it began or goes on."""
    run = trainer.run
    with writable(run):
        if before is None or not _holds(run.config, migrations.stamped(trainer.config.model_dump(mode="json"))):
            write_config(run.config, trainer.config)
        if before is None:
            files.write_json(run.run, now)
    if before is not None:
        try:
            files.write_json(run.run, {**before, "resumed": [*record.parts(before)[1:], now]})
        except OSError as error:
            trainer.tracker.say(f"run.json could not be written ({error.strerror}): it tells of the earlier parts only")
    point_latest_to(run)


def _holds(path: Path, data: dict[str, Any]) -> bool:
    try:
        return files.read_json(path) == data
    except (OSError, ValueError):
        return False


def _about_the_machine(
    trainer: Trainer, parameters: int, before: dict[str, Any] | None, now: dict[str, Any]
) -> list[str]:
    """Say where this part of a run computes otherwise than the run began, and in a dtype not chosen here."""
    kept = before is not None and record.DECIDED not in now["changed"]
    continued = alike.continued(before.get("machine", {}), now["machine"]) if before else None
    remark = device.dtype_remark(trainer.compute, parameters, kept)
    return [sentence for sentence in (continued, remark) if sentence]


def _refuse_other_data(trainer: Trainer) -> None:
    """Refuse to go on with other data than those that the run began with."""
    before = (record.begun(trainer.run.run) or {}).get("data")
    if before is not None and before != trainer.task.fingerprint():
        where, run = trainer.config.dataset.model_dump()["dir"], trainer.run.shown()
        raise UserError(
            f"{where} was prepared anew since {run} began, and holds other data: prepare it as it was, or start a new "
            "run"
        )


def _first_weights(trainer: Trainer, snapshot_folder: Path | None) -> None:
    if snapshot_folder is not None:
        trainer.restore(snapshot_folder)
        return
    with trainer.filling():
        if (source := trainer.config.init_from) is not None:
            pretrained.load(trainer.model, source, trainer.task.tokenizer, trainer.divided)
        else:
            trainer.model.initialise(torch.Generator().manual_seed(derive(trainer.config.seed, "init")))
