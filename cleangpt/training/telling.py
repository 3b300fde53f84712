"""Say what a training is about: at its beginning what will happen, at its end what came of it and what is next."""

import shlex
from pathlib import Path
from typing import Any

from cleangpt.basics import verbs
from cleangpt.basics.words import counted
from cleangpt.config import command_line
from cleangpt.config.experiment import Config
from cleangpt.disk import record
from cleangpt.machine import launcher
from cleangpt.optimizers import schedule
from cleangpt.optimizers.settings import ScheduleConfig
from cleangpt.tasks.contract import ENDLESS
from cleangpt.terminal.patience import duration
from cleangpt.training.loop import Trainer
from cleangpt.training.verdict import Verdict


def introduce(trainer: Trainer, parameters: dict[str, int], snapshot_folder: Path | None, remarks: list[str]) -> None:
    """Say what is trained on what, where, and what is going to happen. `remarks` are about the machine."""
    config, task, world, say = trainer.config, trainer.task, trainer.world, trainer.tracker.say
    model, before = config.model, trainer.state.world_size
    shape = f"{counted(model.n_layer, 'layer')}, {model.n_embd} wide, context {model.block_size}"
    frozen = parameters["total"] - parameters["trained"]
    trained = f", {parameters['trained']:,} of them trained" if frozen else ""
    origin = f", from {config.init_from}" if config.init_from and snapshot_folder is None else ""
    say(f"{model.name}: {parameters['total']:,} parameters{trained}, {shape}{origin}")
    samples = counted(task.size("train"), "sample") if task.size("train") < ENDLESS else "samples without end"
    sizes = f"{samples} to train on, {task.val_size:,} to validate"
    say(f"{config.dataset.name}: {sizes}, {counted(task.sequence_length, 'token')} each")
    place = f"{trainer.compute.name}, {trainer.compute.dtype_name}, {counted(world.size, 'process')}"
    say(f"{place}; run directory {trainer.run.shown()}")
    if snapshot_folder is not None:
        say(f"continuing {snapshot_folder.name} on the way to step {config.train.steps}")
        if before != world.size:
            say(
                f"begun with {counted(before, 'process')}, continued with {world.size}: the same samples in the same "
                "order, losses equal to about 1e-6 at first, and rounding grows"
            )
    for sentence in (*outlook(trainer), *schedule.ignored(config.schedule, config.train.steps)):
        say(sentence)
    if model.is_random and world.size > 1:
        say("dropout is on: its masks depend on the number of processes, all else does not")
    for remark in remarks:
        say(remark)


def outlook(trainer: Trainer) -> list[str]:
    """Say what is going to happen; how long it takes is said as soon as some steps have shown it."""
    train, task, schedules = trainer.config.train, trainer.task, trainer.config.schedule
    most, last = (schedule.at(schedules, step).grad_accum * train.batch_size for step in (1, train.steps))
    batch = f"{most:,}" if most == last else f"{most:,} to {last:,}"
    every = f", evaluated every {train.eval_every:,}" if train.eval_every else ""
    found = [f"{counted(train.steps, 'step')} of {batch} sample{'s' * (batch != '1')}{every}"]
    if train.stop_when:
        found.append(f"it ends as soon as {train.stop_when.in_words()}")
    if train.early_stopping:
        found.append(f"it ends after {counted(train.early_stopping, 'evaluation')} without a better {train.best}")
    if train.test_at_end and task.size("test"):
        many = task.size("test") >= ENDLESS
        test = "a part of the test samples" if many else counted(task.size("test"), "test sample")
        found.append(f"then its best weights are scored on {test}")
    return found


def stretching(before: Config, now: Config, step: int, parts: list[dict[str, Any]]) -> list[str]:
    """Say what leaps where a resumed run has a schedule over another number of steps, and how it would not.

    `parts` are the records of the run so far, as in run.json.
    """
    there, here = (_over(config, config.schedule.steps or config.train.steps) for config in (before, now))
    leaps = schedule.jumps(there, here, step) if there.steps != here.steps else []
    if not leaps:
        return []
    keeps = f"schedule.steps={there.steps} keeps it as it was" if schedule.at(there, step + 1).lr else ""
    anew = f"without a leap, from the beginning: {_from_the_beginning(now, parts, now.train.steps)}"
    return [
        f"the schedule is stretched from {there.steps:,} to {here.steps:,} steps: after step {step:,} "
        + ", ".join(leaps),
        "; ".join(filter(None, [keeps, anew])),
    ]


def _over(config: Config, steps: int) -> ScheduleConfig:
    return config.schedule.model_copy(update={"steps": steps})


def _from_the_beginning(config: Config, parts: list[dict[str, Any]], steps: int) -> str:
    """Write the command of a run that is the same but for its number of steps."""
    words = {command_line.split(word)[0]: word for part in parts for word in part.get("overrides", [])}
    kept = [word for key, word in words.items() if key not in ("resume", "train.steps")]
    where = command_line.hydra_words(parts[0].get("command", [])[1:])
    return shlex.join([*starter(config, launcher.world()).split(), *where, *kept, f"train.steps={steps}"])


def starter(config: Config, world: launcher.World) -> str:
    """Write how a training like this one is started."""
    by_itself = world.size == 1 or config.processes == world.size
    nodes = -(-world.size // world.local_size)
    return verbs.shown("train") if by_itself else verbs.shown_by_torchrun("train", world.local_size, nodes)


def end(trainer: Trainer, status: str) -> list[str]:
    """Say why training ended where it did."""
    asked, state, steps = trainer.config.train.stop_when, trainer.state, trainer.config.train.steps
    if status == "early_stopped":
        return [f"Stopped early: no better {trainer.config.train.best} in {counted(state.worse, 'evaluation')}."]
    if asked is None:
        return []
    if trainer.is_solved():
        return [f"Solved after {state.step:,} of {counted(steps, 'step')}: {asked.in_words()}."]
    return [f"The goal was not reached in {counted(state.step, 'step')}: {asked.in_words()} (train.stop_when)."]


def farewell(trainer: Trainer, status: str, summary: dict[str, Any], judged: Verdict) -> None:
    """Say what came of a run, where it is, and what to do next."""
    say, state, config = trainer.tracker.say, trainer.state, trainer.config
    for sentence in judged.sentences:
        say(sentence)
    tokens = f"{counted(summary['tokens'], 'token')} in {duration(summary['seconds'])}"
    say(f"Done: {counted(state.step, 'step')}, {tokens}, {summary['tokens_per_second']:,.0f} tokens a second.")
    if trainer.task.size("train") < ENDLESS:
        say(f"{min(1.0, summary['epochs']):.1%} of the training samples were seen, {summary['epochs']:.3g} times.")
    run, shown = trainer.run, trainer.run.shown()
    best = f"best/ (step {state.best_step})" if state.best else f"final/ (step {state.step})"
    names = (("card.md", run.card), ("plots/", run.plots), ("metrics.jsonl", run.metrics))
    there = [name for name, path in names if path.exists()]
    say(f"Everything is in {shown}: {', '.join([*there, best])}. Next:")
    say(f"    {verbs.shown('score')} run={shown}    # every table of the score")
    say(f"    {verbs.shown('sample')} run={shown} interactive=true    # talk to it")
    longer = ["train.stop_when=null"] if trainer.is_solved() else []
    longer += ["train.early_stopping=null"] if status == "early_stopped" else []
    longer += [f"train.steps={2 * config.train.steps}"] if state.step == config.train.steps else []
    leaps = []
    if state.step == config.train.steps == config.schedule.steps:
        leaps = schedule.jumps(config.schedule, _over(config, 2 * state.step), state.step)
    remark = f": {', '.join(leaps)}" if leaps else ""
    say(f"    {verbs.shown('train')} resume={shown} {' '.join(longer)}    # train longer{remark}")
    if leaps and (begun := record.begun(run.run)):
        command = _from_the_beginning(config, record.parts(begun), 2 * state.step)
        say(f"    {command}    # as long from the beginning, without that leap")
