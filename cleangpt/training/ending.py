"""End a training: write what it leaves of its result, and say so. Nothing is named that is not there."""

import contextlib
import signal
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from cleangpt.basics import files, verbs
from cleangpt.basics.errors import UserError
from cleangpt.basics.shown import visible
from cleangpt.basics.words import listed
from cleangpt.config.cli import FAILED
from cleangpt.disk import card, weights
from cleangpt.disk.rundir import read_metrics
from cleangpt.machine import distributed, launcher
from cleangpt.score import evaluate, of_task
from cleangpt.terminal import patience
from cleangpt.training import telling, verdict
from cleangpt.training.loop import Trainer


def finish(trainer: Trainer, status: str) -> int:
    """Write what a run leaves, say it, and return the exit status. Without its weights a run is not complete."""
    config, run, task, tracker, state = trainer.config, trainer.run, trainer.task, trainer.tracker, trainer.state
    with patience.doing("Writing the final weights", voice=tracker.voice):
        trainer.save_weights(run.final)
        trainer.finish_writing()
    trainer.say_complaints()
    for sentence in telling.end(trainer, status):
        tracker.say(sentence)
    found: Kept = distributed.from_main(lambda: _look(trainer, ended=True))
    if found.lacking:
        if trainer.world.is_main:
            _write_summary(trainer, {**_summary(trainer, "failed"), "error": found.sentence()})
            _leave_card(trainer)
            tracker.say(f"The run is not complete: {found.sentence()}.")
            _say_how_to_go_on(trainer, found)
        return FAILED
    score = None
    label = "best" if state.best else "final"
    if config.train.test_at_end and task.size("test"):
        if label == "best":
            with patience.doing("Reading the best weights", voice=tracker.voice):
                trainer.use_best()
        watch = evaluate.Watch(tracker.say, tracker.voice)
        with trainer.whole():
            score = of_task.score(task, trainer.judge, "test", None, "auto", watch=watch)
    if not trainer.world.is_main:
        return 0
    tracker.say()
    judged = verdict.of(config, read_metrics(run.metrics), _end(trainer, status, score))
    summary = _summary(trainer, status, score, judged.name)
    if score is not None:
        _try_score(trainer, lambda: of_task.save(score, run.score, label))
    written = _write_summary(trainer, summary)  # before pictures take the last room
    if score is not None:
        if config.logger.plots:
            with patience.doing("Drawing the score", voice=tracker.voice):
                _try_score(trainer, lambda: of_task.draw(task, score, run.score, label))
        for table in of_task.tables(task, score)[:2]:
            tracker.say(table)
    _leave_card(trainer)
    telling.farewell(trainer, status, summary, judged)
    return 0 if written else FAILED


def _try_score(trainer: Trainer, write: Callable[[], Any]) -> None:
    try:
        write()
    except OSError as error:
        trainer.tracker.say(
            f"score/ could not be written whole ({error.strerror}): {verbs.shown('score')} makes it anew"
        )


def stopped(trainer: Trainer) -> int:
    """Say what was asked, and how to go on; the exit status."""
    tracker = trainer.tracker
    number = max(distributed.gather(trainer.stop.number))
    _write_summary(trainer, _summary(trainer, "stopped"))
    _leave_card(trainer)
    tracker.say(f"Stopped by {signal.Signals(number).name} after step {trainer.state.step}.")
    if trainer.world.is_main:
        found = _look(trainer, ended=False)
        if found.lacking:
            tracker.say(f"{found.sentence()}.")
        _say_how_to_go_on(trainer, found)
    return 128 + number


def failed(trainer: Trainer, error: Exception) -> None:
    """Leave the traceback in train.log and the failure in summary.json. The last good snapshot stays."""
    run, world = trainer.run, trainer.world
    trainer.tracker.pause()
    if isinstance(error, UserError):  # nothing was begun: leave nothing behind
        if world.is_main and not (run.metrics.exists() or run.snapshot_folders()):
            for path in (run.log, run.config, run.run):
                path.unlink(missing_ok=True)
        return
    if trainer.tracker.is_gone():
        return
    trace = "".join(traceback.format_exception(error))
    if not world.is_main:
        launcher.tell_failure(f"rank {world.rank}: {trace}")
        return
    told = launcher.told_failure()  # rank 0 often fails only because another one is gone
    text = told.strip().splitlines()[-1] if told else str(error) or type(error).__name__
    with contextlib.suppress(OSError):
        with files.append_text(run.log) as log:
            log.write(visible(trace + (told or "")))
        summary = {"status": "failed", "step": trainer.state.step, "error": text}
        files.write_json(run.summary, summary)
        trainer.tracker.finish(summary)
        card.write(run)


def is_gone(trainer: Trainer) -> bool:
    """Tell whether the run directory was taken away; it is not made anew, since that would hold half a run."""
    gone = distributed.from_main(trainer.tracker.is_gone)
    if gone:
        what = f"stopped after step {trainer.state.step}, nothing more is written."
        trainer.tracker.say(f"{trainer.run.shown()} was deleted, moved or replaced: {what}")
    return gone


class Kept(NamedTuple):
    """The names of what is there, as a person would say them, and of what should be there and is not."""

    there: list[str]
    lacking: list[str]
    goes_on: int | None  # the step from which the run can be resumed

    def sentence(self) -> str:
        are = "are" if len(self.there) > 1 else "is"
        there = f"there {are} {listed(self.there)}" if self.there else "nothing is there"
        return f"{listed(self.lacking)} could not be written; {there}"


def _look(trainer: Trainer, ended: bool) -> Kept:
    """Look at what the disk has of a run at its present step: a full one keeps nothing. One that `ended` has final/."""
    run, state, tracker = trainer.run, trainer.state, trainer.tracker
    there: list[str] = []
    lacking: list[str] = []
    snapshots = [int(folder.name.removeprefix("step_")) for folder in run.snapshot_folders()]
    if state.step not in snapshots:
        lacking.append(f"the snapshot of step {state.step}")
    if snapshots:
        there.append(f"the snapshot of step {snapshots[-1]}")
    expected = [(run.best, state.best_step)] if state.best is not None else []
    if ended:
        expected.append((run.final, state.step))
    for folder, step in expected:
        if (found := weights.step(folder)) is not None:
            there.append(f"{folder.name}/ (step {found})")
        if found != step:
            lacking.append(f"{folder.name}/ (step {step})")
    if lines := tracker.waiting():
        lacking.append(f"the last {lines} lines of metrics.jsonl" if lines > 1 else "the last line of metrics.jsonl")
    return Kept(there, lacking, snapshots[-1] if snapshots else None)


def _say_how_to_go_on(trainer: Trainer, found: Kept) -> None:
    command = f"{telling.starter(trainer.config, trainer.world)} resume={trainer.run.shown()}"
    if found.goes_on is None:
        trainer.tracker.say("There is no snapshot to resume from.")
    else:
        since = "" if found.goes_on == trainer.state.step else f" from step {found.goes_on}"
        trainer.tracker.say(f"Resume{since} with: {command}")


def _end(trainer: Trainer, status: str, score: dict[str, Any] | None) -> verdict.End:
    """Collect what a run is judged by: the test split, or the last evaluation where that was not scored."""
    accuracy, guessing = None, 0.0
    if trainer.task.has_answers:
        accuracy = score["accuracy"] if score is not None else (trainer.state.scores or {}).get("val/accuracy", 0.0)
    else:
        guessing = trainer.task.guessing()
    solved = trainer.is_solved() if trainer.config.train.stop_when else None
    return verdict.End(accuracy, guessing, solved, early=status == "early_stopped")


def _summary(
    trainer: Trainer, status: str, score: dict[str, Any] | None = None, judged: str | None = None
) -> dict[str, Any]:
    state = trainer.state
    summary: dict[str, Any] = {"status": status, "step": state.step, "train/loss": state.train_loss}
    summary |= {f"best/{name}": value for name, value in (state.best or {}).items()}
    summary |= {"best/step": state.best_step, **(state.scores or {})}
    if score is not None:
        summary |= {f"test/{name}": value for name, value in of_task.headline(trainer.task, score).items()}
    if judged is not None:
        summary["verdict"] = judged
    speed = state.tokens / max(state.train_seconds, 1e-9)
    summary |= {"tokens": state.tokens, "epochs": trainer.stream.epochs(state.micro_step), "tokens_per_second": speed}
    if (mfu := trainer.health.mfu(speed)) is not None:
        summary["mfu"] = mfu
    return {**summary, "train_seconds": state.train_seconds, "seconds": trainer.seconds()}


def _write_summary(trainer: Trainer, summary: dict[str, Any]) -> bool:
    """Write summary.json; tell whether that worked. An earlier one does not stay where it can't be replaced."""
    if not trainer.world.is_main:
        return True
    try:
        files.write_json(trainer.run.summary, summary)
    except OSError as error:
        with contextlib.suppress(OSError):
            trainer.run.summary.unlink(missing_ok=True)
        trainer.tracker.say(
            f"summary.json could not be written ({error.strerror}): the run looks as if it had not ended"
        )
        return False
    finally:
        trainer.tracker.finish(summary)
    return True


def _leave_card(trainer: Trainer) -> None:
    """Draw the plots once more and write card.md. What stands in the way is said, and costs nothing else."""
    if not trainer.world.is_main:
        return
    with patience.doing("Drawing the plots", voice=trainer.tracker.voice):
        trainer.tracker.finish_plots()
    try:
        card.write(trainer.run)
    except OSError as error:
        with contextlib.suppress(OSError):
            trainer.run.card.unlink(missing_ok=True)
        if trainer.run.summary.exists():  # of which it is made; that this is missing was said
            trainer.tracker.say(f"card.md could not be written ({error.strerror})")
