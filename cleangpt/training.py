"""One training from a checked configuration to a complete run directory."""

import contextlib
import shlex
import signal
import traceback
from pathlib import Path
from typing import Any

import torch

from cleangpt import (
    alike,
    card,
    compiling,
    device,
    distributed,
    evaluate,
    files,
    memory,
    models,
    optim,
    patience,
    pretrained,
    process,
    record,
    scoring,
    snapshot,
    tasks,
    telling,
    verdict,
)
from cleangpt.config import Config, resolve
from cleangpt.corpus.store import NotPrepared
from cleangpt.errors import UserError
from cleangpt.rundir import RunDir, point_latest_to, read_config, read_metrics, write_config
from cleangpt.seeds import derive
from cleangpt.shown import visible
from cleangpt.signals import Stop, Stopped
from cleangpt.tracking import Tracker
from cleangpt.trainer import Trainer


def train(config: Config, run: RunDir, overrides: list[str], resume: Path | None, began: float) -> int:
    """Train; the exit status. `resume` is the run or snapshot to continue, already checked against `config`.

    Whoever calls this has claimed the run directory.
    """
    process.keep_memory()
    device.share_threads(distributed.world().local_size)
    task = _task(config, overrides)
    asked, config = config, resolve(config, task)
    _refuse_unknown_goal(config, task)
    config = config.model_copy(update={"dtype": _dtype(config, run, resume)})
    compute = device.choose(config.device, config.dtype, distributed.world().local_rank)
    with patience.doing("Waiting for the other processes"):
        world = distributed.start(compute.device)
    try:
        if config.train.batch_size < world.size:
            raise UserError(
                f"`train.batch_size` must be at least {world.size}, one sequence for each process, "
                f"not {config.train.batch_size}"
            )
        memory.refuse_too_large(config, task.sequence_length, world.size, compute.device)
        with Stop() as stop:
            with patience.doing("Checking the snapshot"):
                snapshot_folder, complaints = _where_to_go_on(config, run, resume)
            if world.is_main:
                run.path.mkdir(parents=True, exist_ok=True)
                snapshot.sweep(run)
            with patience.doing("Building the model"):
                model = models.build(config.model, compute.device)
            optim.freeze(model, config.train.freeze)
            tracker = Tracker(run, config.logger, config.train.steps, speaks=world.is_main)
            trainer = Trainer(config, task, model, compute, world, run, tracker, stop, began)
            try:
                for complaint in complaints:
                    tracker.say(complaint)
                return _fit(trainer, asked, overrides, snapshot_folder)
            except Exception as error:
                _failed(trainer, error)
                raise
            finally:
                trainer.writer.close()
                tracker.close()
                del trainer
    finally:
        process.release_garbage()
        distributed.stop()


def _dtype(config: Config, run: RunDir, resume: Path | None) -> str:
    """What dtype=auto means on all processes: rank 0 decides, since the processors of nodes may differ.

    A run that goes on has what was decided in its configuration; where that says auto, run.json knows.
    """

    def say() -> str:
        before = record.begun(run.run) if resume is not None else None
        machine = record.parts(before)[-1].get("machine", {}) if before else {}
        if machine.get("dtype") in ("float32", "bfloat16", "float16"):
            return machine["dtype"]
        return device.fastest_dtype(device.fastest(config.device), models.size(config.model))

    return config.dtype if config.dtype != "auto" else distributed.told_by_main("dtype", say)


def _task(config: Config, overrides: list[str]) -> Any:
    """The task. Text has to be prepared, and what was prepared is what is trained on."""
    try:
        task = tasks.make(config.dataset, config.model.block_size)
    except NotPrepared as error:
        words = [word for word in overrides if word.lstrip("+").startswith("dataset")]
        if not any(word.startswith("dataset=") for word in words):
            words.insert(0, f"dataset={config.dataset.name}")
        raise UserError(f"{error}: run `{shlex.join(['python', 'data/prepare.py', *words])}` first") from None
    for word in overrides:
        section, _, key = word.lstrip("+").partition("=")[0].partition(".")
        if section == "dataset" and key and getattr(config.dataset, key) != getattr(task.settings, key):
            raise UserError(
                f"`{word}`, but {config.dataset.dir} was prepared with {key}={getattr(task.settings, key)}: leave it "
                "out, or prepare it so in another dataset.dir"
            )
    return task


def _refuse_unknown_goal(config: Config, task: Any) -> None:
    """What ends a run has to be among the scores of its evaluations."""
    rule = config.train.stop_when
    scores = ["val/loss", *(["val/accuracy"] if task.has_answers else [])]
    scores += [f"val/{name}" for name in task.measures(1.0)]
    if rule is not None and rule.metric not in scores:
        raise UserError(
            f"`train.stop_when.metric` is {rule.metric}, which dataset={config.dataset.name} does not have: it has "
            + ", ".join(scores)
        )
    if rule is not None and rule.metric == "val/accuracy" and max(rule.at_least or 0, rule.at_most or 0) > 1:
        raise UserError("`train.stop_when` is about val/accuracy, a share: write 0.95 for 95%")


def _where_to_go_on(config: Config, run: RunDir, resume: Path | None) -> tuple[Path | None, list[str]]:
    """The snapshot to continue, if any, and what is to be said of others. One rank looks, and all do what it found."""
    if resume is None:
        return None, []
    folder, complaints = distributed.from_main(lambda: snapshot.choose(run, resume))
    if folder is None and config.resume not in (None, "auto"):
        raise UserError(f"`resume` is {config.resume}, which has no good snapshot: {'; '.join(complaints)}")
    return folder, complaints


def _fit(trainer: Trainer, asked: Config, overrides: list[str], snapshot_folder: Path | None) -> int:
    config, run, tracker, world = trainer.config, trainer.run, trainer.tracker, trainer.world
    if snapshot_folder is not None:
        distributed.from_main(lambda: _refuse_other_data(trainer))
    with patience.doing("Reading the weights" if snapshot_folder or config.init_from else "Drawing the first weights"):
        _first_weights(config, trainer.model, trainer, snapshot_folder)
    if trainer.state.step > config.train.steps:
        raise UserError(f"`train.steps` is {config.train.steps}, and the run is at step {trainer.state.step} already")
    parameters = models.parameter_counts(trainer.model)
    remarks = []
    if world.is_main:
        write_config(run.config, config)
        before = record.begun(run.run) if snapshot_folder else None
        changed = record.changes(config, asked, overrides, before)
        now = record.circumstances(overrides, changed, trainer.compute, world, parameters)
        now["data"] = trainer.task.fingerprint()
        remarks = _about_the_machine(trainer, parameters["total"], before, now)
        story = {**before, "resumed": [*record.parts(before)[1:], now]} if before else now
        if snapshot_folder is not None:
            earlier = read_config(snapshot_folder / "config.json")
            remarks += telling.stretching(earlier, config, trainer.state.step, story)
        files.write_json(run.run, story)
        point_latest_to(run)
    prepare(trainer)
    telling.introduce(trainer, parameters, snapshot_folder, remarks)
    process.settle_garbage()
    status = trainer.fit()
    tracker.pause()
    if status != "stopped":
        try:
            _finish(trainer, status)
            return 0
        except Stopped:
            pass  # training is done and its snapshot written; only the score is not complete
    number = max(distributed.gather(trainer.stop.number))
    _summarise(trainer, "stopped", None)
    _leave_card(trainer)
    tracker.say(f"Stopped by {signal.Signals(number).name} after step {trainer.state.step}.")
    by_itself = world.size == 1 or config.processes == world.size
    command = "python train.py" if by_itself else f"torchrun --nproc-per-node={world.local_size} train.py"
    tracker.say(f"Resume with: {command} resume={run.shown()}")
    return 128 + number


def _about_the_machine(
    trainer: Trainer, parameters: int, before: dict[str, Any] | None, now: dict[str, Any]
) -> list[str]:
    """Where this part of a run computes otherwise than the run began, and a dtype that would not be chosen here."""
    kept = before is not None and record.DECIDED not in now["changed"]
    continued = alike.continued(before.get("machine", {}), now["machine"]) if before else None
    remark = device.dtype_remark(trainer.compute, parameters, kept)
    return [sentence for sentence in (continued, remark) if sentence]


def _refuse_other_data(trainer: Trainer) -> None:
    """A run that goes on has to go on with the data that it began with."""
    before = (record.begun(trainer.run.run) or {}).get("data")
    if before is not None and before != trainer.task.fingerprint():
        raise UserError(
            f"{trainer.config.dataset.dir} was prepared anew since {trainer.run.shown()} began, and holds other data: "
            "prepare it as it was, or start a new run"
        )


def _first_weights(config: Config, model: Any, trainer: Trainer, snapshot_folder: Path | None) -> None:
    if snapshot_folder is not None:
        trainer.restore(snapshot_folder)
    elif config.init_from is not None:
        pretrained.load(model, config.init_from, trainer.task.tokenizer)
    else:
        generator = torch.Generator().manual_seed(derive(config.seed, "init"))
        model.initialise(generator)


def prepare(trainer: Trainer) -> None:
    config, model, compute = trainer.config, trainer.model, trainer.compute
    model.checkpointing = config.train.activation_checkpointing
    # Of the whole run, wherever it stands: one that was interrupted goes on as it would have.
    length, micro_steps = trainer.task.sequence_length, trainer.all_micro_steps
    seconds = compiling.eager_seconds(config, model, length, compute, trainer.world.size, micro_steps)
    choice, reason = compiling.decide(config.compile, compute, seconds)
    compiling.apply(choice, model)
    trainer.launches_graphs = choice == "graphs"
    if reason:
        trainer.tracker.say(reason)


def _finish(trainer: Trainer, status: str) -> None:
    config, run, task, tracker, state = trainer.config, trainer.run, trainer.task, trainer.tracker, trainer.state
    with patience.doing("Writing the final weights", voice=tracker.voice):
        trainer.save_weights(run.final)
        trainer.writer.wait()
    trainer.say_complaints()
    for sentence in telling.end(trainer, status):
        tracker.say(sentence)
    score = None
    label = "best" if trainer.has_best() else "final"
    if config.train.test_at_end and task.size("test"):
        if label == "best":
            with patience.doing("Reading the best weights", voice=tracker.voice):
                trainer.use_best()
        elif state.best:
            tracker.say(
                f"best/ does not hold step {state.best_step}, which could not be written: the last weights are scored"
            )
        watch = evaluate.Watch(tracker.say, tracker.voice)
        score = task.score(trainer.judge, "test", None, "auto", watch=watch)
    if not trainer.world.is_main:
        return
    tracker.say()
    if score is not None:
        with patience.doing("Drawing the score", voice=tracker.voice):
            scoring.save(task, score, run.score, label, draws=config.logger.plots)
        for table in task.tables(score)[:2]:
            tracker.say(table)
    judged = verdict.of(config, read_metrics(run.metrics), _end(trainer, status, score))
    summary = _summarise(trainer, status, score, judged.name)
    _leave_card(trainer)
    telling.farewell(trainer, status, summary, judged)


def _end(trainer: Trainer, status: str, score: dict[str, Any] | None) -> verdict.End:
    """What a run is judged by: the test split, or where that was not scored, the last evaluation."""
    accuracy = guessing = None
    if trainer.task.has_answers:
        accuracy = score["accuracy"] if score is not None else (trainer.state.scores or {}).get("val/accuracy", 0.0)
    else:
        guessing = trainer.task.guessing()
    solved = trainer.is_solved() if trainer.config.train.stop_when else None
    return verdict.End(accuracy, guessing, solved, early=status == "early_stopped")


def _summarise(
    trainer: Trainer, status: str, score: dict[str, Any] | None, judged: str | None = None
) -> dict[str, Any]:
    """Write summary.json, and return it."""
    state = trainer.state
    summary: dict[str, Any] = {"status": status, "step": state.step, "train/loss": state.train_loss}
    summary |= {f"best/{name}": value for name, value in (state.best or {}).items()}
    summary |= {"best/step": state.best_step, **(state.scores or {})}
    if score is not None:
        summary |= {f"test/{name}": value for name, value in trainer.task.headline(score).items()}
    if judged is not None:
        summary["verdict"] = judged
    speed = state.tokens / max(state.train_seconds, 1e-9)
    mfu = trainer.watch.mfu(speed)
    summary |= {
        "tokens": state.tokens,
        "epochs": trainer.stream.epochs(state.micro_step),
        "tokens_per_second": speed,
        **({} if mfu is None else {"mfu": mfu}),
        "train_seconds": state.train_seconds,
        "seconds": trainer.seconds(),
    }
    if trainer.world.is_main:
        files.write_json(trainer.run.summary, summary)
        trainer.tracker.finish(summary)
    return summary


def _leave_card(trainer: Trainer) -> None:
    """The page about the run, and its plots once more. What stands in the way is said, and costs nothing else."""
    if not trainer.world.is_main:
        return
    with patience.doing("Drawing the plots", voice=trainer.tracker.voice):
        trainer.tracker.finish_plots()
    try:
        card.write(trainer.run)
    except OSError as error:
        trainer.tracker.say(f"card.md could not be written ({error.strerror})")


def _failed(trainer: Trainer, error: Exception) -> None:
    """Leave the traceback in train.log and the failure in summary.json. The last good snapshot stays."""
    run, world = trainer.run, trainer.world
    trainer.tracker.pause()
    if isinstance(error, UserError):  # nothing was begun: leave nothing behind
        if world.is_main and not run.config.exists():
            run.log.unlink(missing_ok=True)
        return
    trace = "".join(traceback.format_exception(error))
    if not world.is_main:
        distributed.tell_failure(f"rank {world.rank}: {trace}")
        return
    told = distributed.told_failure()  # rank 0 often fails only because another one is gone
    text = told.strip().splitlines()[-1] if told else str(error) or type(error).__name__
    with contextlib.suppress(OSError):
        with run.log.open("a", encoding="utf-8") as log:
            log.write(visible(trace + (told or "")))
        summary = {"status": "failed", "step": trainer.state.step, "error": text}
        files.write_json(run.summary, summary)
        trainer.tracker.finish(summary)
        card.write(run)
