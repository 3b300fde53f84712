"""One training from a checked configuration to a complete run directory."""

import contextlib
import signal
import traceback
from pathlib import Path
from typing import Any

import torch

from cleangpt import device, distributed, files, models, record, scoring, snapshot, tasks, weights
from cleangpt.config import Config, resolve
from cleangpt.distributed import World
from cleangpt.errors import UserError
from cleangpt.evaluate import Judge
from cleangpt.rundir import RunDir, find, point_latest_to, read_metrics
from cleangpt.seeds import derive
from cleangpt.signals import Stop, Stopped
from cleangpt.tracking import Tracker, duration
from cleangpt.trainer import Trainer


def train(config: Config, run: RunDir, overrides: list[str], resume: Path | None, began: float) -> int:
    """Train; the exit status. `resume` is the run or snapshot to continue, already checked against `config`."""
    compute = device.choose(config.device, config.dtype, distributed.world().local_rank)
    device.share_threads(distributed.world().local_size)
    task = tasks.make(config.dataset)
    config = resolve(config, task)
    world = distributed.start(compute.device)
    if config.train.batch_size < world.size:
        raise UserError(
            f"`train.batch_size` must be at least {world.size}, one sequence for each process, "
            f"not {config.train.batch_size}"
        )
    snapshot_folder, complaints = None, []
    if resume is not None:  # one rank looks, and all do what it found
        found = snapshot.choose(run, resume) if world.is_main else None
        snapshot_folder, complaints = distributed.from_main(found)
        if snapshot_folder is None and config.resume not in (None, "auto"):
            raise UserError(f"`resume` is {config.resume}, which has no good snapshot: {'; '.join(complaints)}")
    if world.is_main:
        run.path.mkdir(parents=True, exist_ok=True)
        snapshot.sweep(run)
        point_latest_to(run)
        files.write_json(run.config, config.model_dump(mode="json"))
    tracker = Tracker(run, config.logger, config.train.steps, speaks=world.is_main)
    trainer = None
    try:
        with Stop() as stop:
            model = models.build(config.model, compute.device)
            parameters = models.parameter_counts(model)
            if world.is_main:
                files.write_json(run.run, record.circumstances(overrides, compute, world, parameters))
            trainer = Trainer(config, task, model, compute, world, run, tracker, stop, began)
            for complaint in complaints:
                tracker.say(complaint)
            _first_weights(config, model, trainer, snapshot_folder)
            _prepare(config, model, compute, tracker)
            _introduce(
                config, run, task, compute, world, parameters, snapshot_folder, trainer.state.world_size, tracker
            )
            status = trainer.fit()
            tracker.pause()
            if status != "stopped":
                try:
                    _finish(config, run, task, trainer, status)
                    return 0
                except Stopped:
                    pass  # training is done and its snapshot written; only the score is not complete
            number = max(distributed.gather(stop.number))
            _summarise(trainer, "stopped", None)
            tracker.say(f"Stopped by {signal.Signals(number).name} after step {trainer.state.step}.")
            tracker.say(f"Resume with: python train.py resume={run.shown()}")
            return 128 + number
    except Exception as error:
        _failed(run, trainer, tracker, world, error)
        raise
    finally:
        if trainer is not None:
            trainer.writer.close()
        tracker.close()
        del trainer
        distributed.stop()


def _first_weights(config: Config, model: Any, trainer: Trainer, snapshot_folder: Path | None) -> None:
    if snapshot_folder is not None:
        trainer.restore(snapshot_folder)
    elif config.init_from is not None:
        weights.load_into(model, find(config.init_from).folder / weights.WEIGHTS)
    else:
        generator = torch.Generator().manual_seed(derive(config.seed, "init"))
        model.initialise(generator)


def _prepare(config: Config, model: Any, compute: device.Compute, tracker: Tracker) -> None:
    model.checkpointing = config.train.activation_checkpointing
    compiles = device.compiles(config.compile, compute, config.train.steps)
    if compiles:
        model.compile(dynamic=False)
    if config.compile == "auto" and compute.device.type == "cuda":
        tracker.say(f"compile=auto: {'on' if compiles else 'off, it would not pay within this run'}")


def _introduce(
    config: Config,
    run: RunDir,
    task: Any,
    compute: device.Compute,
    world: World,
    parameters: dict[str, int],
    snapshot_folder: Path | None,
    world_before: int,
    tracker: Tracker,
) -> None:
    model, train, total = config.model, config.train, parameters["total"]
    processes = "1 process" if world.size == 1 else f"{world.size} processes"
    shape = f"{model.n_layer} layers, {model.n_embd} wide, context {model.block_size}"
    tracker.say(f"{model.name}: {total:,} parameters, {shape}")
    tracker.say(f"{config.dataset.name}: {task.size('train'):,} samples to train on, {task.val_size:,} to validate")
    tracker.say(
        f"{compute.name}, {str(compute.dtype).removeprefix('torch.')}, {processes}; run directory {run.shown()}"
    )
    if snapshot_folder is not None:
        tracker.say(f"continuing {snapshot_folder.name} on the way to step {train.steps}")
        if world_before != world.size:
            tracker.say(
                f"begun with {world_before} processes, continued with {world.size}: the same samples in the same "
                "order, losses equal to about 1e-6"
            )
    if model.dropout > 0 and world.size > 1:
        tracker.say("dropout is on: its masks depend on the number of processes, all else does not")


def _finish(config: Config, run: RunDir, task: Any, trainer: Trainer, status: str) -> None:
    tracker, state = trainer.tracker, trainer.state
    trainer.save_weights(run.final)
    trainer.writer.wait()
    if status == "early_stopped":
        tracker.say(f"Stopped early: no better val/loss in {state.worse} evaluations.")
    score = None
    label = "best" if state.best else "final"
    if config.train.test_at_end:
        if state.best:
            trainer.use_best()
        judge = Judge(trainer.model, trainer.compute.device, trainer.world, trainer.stop)
        score = task.score(judge, "test", None, "auto")
    if not trainer.world.is_main:
        return
    if config.logger.plots:
        from cleangpt.plots import run_plots

        run_plots(read_metrics(run.metrics), run.plots)
    tracker.say()
    if score is not None:
        scoring.save(task, score, run.score, label, draws=config.logger.plots)
        for table in task.tables(score)[:2]:
            tracker.say(table)
    summary = _summarise(trainer, status, score)
    speed = (
        f"{summary['tokens']:,} tokens in {duration(summary['seconds'])}, {summary['tokens_per_second']:,.0f} a second"
    )
    tracker.say(f"Done: {state.step} steps, {speed}. Best weights: step {state.best_step}.")
    shown = run.shown()
    tracker.say(f"Everything is in {shown}: metrics.jsonl, plots/, best/, final/, summary.json. Next:")
    tracker.say(f"    python eval/score.py run={shown}          # every table of the score")
    more = 2 * config.train.steps
    tracker.say(f"    python train.py resume={shown} train.steps={more}    # train longer")


def _summarise(trainer: Trainer, status: str, score: dict[str, Any] | None) -> dict[str, Any]:
    """Write summary.json, and return it."""
    state = trainer.state
    summary: dict[str, Any] = {"status": status, "step": state.step, "train/loss": state.train_loss}
    summary |= {f"best/{name}": value for name, value in (state.best or {}).items()}
    summary |= {"best/step": state.best_step, **(state.scores or {})}
    if score is not None:
        summary |= {"test/accuracy": score["accuracy"], "test/problems": score["problems"]}
    summary |= {
        "tokens": state.tokens,
        "tokens_per_second": state.tokens / max(state.train_seconds, 1e-9),
        "train_seconds": state.train_seconds,
        "seconds": trainer.seconds(),
    }
    if trainer.world.is_main:
        files.write_json(trainer.run.summary, summary)
        trainer.tracker.finish(summary)
    return summary


def _failed(run: RunDir, trainer: Trainer | None, tracker: Tracker, world: World, error: Exception) -> None:
    """Leave the traceback in train.log and the failure in summary.json. The last good snapshot stays."""
    tracker.pause()
    if isinstance(error, UserError):
        return
    trace = "".join(traceback.format_exception(error))
    if not world.is_main:
        distributed.tell_failure(f"rank {world.rank}: {trace}")
        return
    told = distributed.told_failure()  # rank 0 often fails only because another one is gone
    text = told.strip().splitlines()[-1] if told else str(error) or type(error).__name__
    with contextlib.suppress(OSError):
        with run.log.open("a", encoding="utf-8") as log:
            log.write(trace + (told or ""))
        step = trainer.state.step if trainer else 0
        files.write_json(run.summary, {"status": "failed", "step": step, "error": text})
