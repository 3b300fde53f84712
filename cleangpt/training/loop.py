"""Train step by step. The unit is the optimizer step: logging, evaluation and snapshots fall between steps only."""

import contextlib
import math
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cleangpt.basics.seeds import derive
from cleangpt.config.experiment import Config
from cleangpt.disk import weights
from cleangpt.disk.rundir import RunDir
from cleangpt.machine import distributed
from cleangpt.machine.device import Compute
from cleangpt.machine.launcher import World
from cleangpt.machine.signals import Stop, Stopped
from cleangpt.models.contract import LanguageModel
from cleangpt.optimizers import optim, schedule
from cleangpt.score import evaluate, of_task
from cleangpt.sharding import make as sharding
from cleangpt.snapshots import restoring, saving, writer
from cleangpt.snapshots.state import State
from cleangpt.tasks.contract import Task
from cleangpt.terminal import patience
from cleangpt.training import finite
from cleangpt.training.stream import Stream
from cleangpt.watch import profiling
from cleangpt.watch.health import StepHealth
from cleangpt.watch.tracking import Tracker, only_finite

if TYPE_CHECKING:
    from cleangpt.sharding.divide import Divided

NARROW = 80  # characters of a line on many terminals


class Trainer:
    """One training: its steps, and what falls between them."""

    def __init__(
        self,
        config: Config,
        task: Task,
        model: LanguageModel,
        compute: Compute,
        world: World,
        run: RunDir,
        tracker: Tracker,
        stop: Stop,
        began: float,
        divided: "Divided | None" = None,
    ):
        self.config, self.task, self.model = config, task, model
        self.compute, self.world, self.run, self.tracker = compute, world, run, tracker
        self.stop, self.began = stop, began
        self.judge = evaluate.Judge(model, compute.device, world, stop)
        self.divided = divided
        made = sharding.parts(config, model, divided, self.judge, compute)
        self.optimizer, self.gradients, self.whole, self.filling = made
        train = config.train
        self.stream = Stream(task, config.seed, train.batch_size, train.at_once, world, compute.device)
        self.writer = writer.BackgroundWriter()
        self.unwritten_best: Callable[[], None] | None = None  # writes the best weights, until it has
        self.health = StepHealth(model, task.sequence_length, compute, world, config.logger.norms, divided)
        profiles = config.profile and world.is_main
        self.profiler = profiling.Profiler(run, train, compute, tracker.say) if profiles else profiling.Off()
        self.launches_graphs = False
        self.told_time = self.due_by_clock = False
        self.step_began = self.snapshot_at = self.first_step_began = 0.0
        self.first_micro_step = 0
        self.state = State()
        self.earlier_seconds = 0.0
        self.scales_loss = compute.dtype == torch.float16
        self.all_micro_steps = schedule.micro_steps_before(config.schedule, train.steps + 1)

    # ---- the whole run

    def restore(self, folder: Path) -> None:
        """Go on from a snapshot."""
        self.state = restoring.restore(folder, self.model, self.optimizer, self.divided)
        self.earlier_seconds = self.state.seconds
        distributed.from_main(lambda: restoring.restore_best(folder, self.run, self.model))
        if self.state.best is not None and not self.has_best():
            lost = f"best/ does not hold step {self.state.best_step}, which could not be written"
            self.tracker.say(f"{lost}: the next evaluation counts as the best")
            self.state.best = self.state.best_step = None

    def fit(self) -> str:
        """Train to the end, to an early stop or to a signal; the status of the run."""
        train, state = self.config.train, self.state
        behind = state.step if state.unevaluated is None else state.step - 1
        distributed.from_main(lambda: self.tracker.start(behind))
        self.tracker.log_to(self.config, behind)
        self.first_micro_step, self.first_step_began = state.micro_step, time.monotonic()
        self.health.start(state)
        self.snapshot_at = time.monotonic()
        stopping = state.unevaluated is not None and not self.finish_step(state.unevaluated, evaluates=True)
        while state.step < train.steps and not (stopping or self.is_solved() or self.stops_early()):
            self.say_complaints(": training goes on")
            with self.profiler.step(state.step + 1), self._long_step():
                row, stopping = self.step(state.step + 1)
            if row is not None:
                last = state.step == train.steps
                evaluates = last or (train.eval_every is not None and state.step % train.eval_every == 0)
                stopping = not self.finish_step(row, evaluates) or stopping
                if not (stopping or last) and self.snapshot_is_due():
                    self.snapshot()
        self.profiler.close()
        with patience.doing("Writing the last snapshot", voice=self.tracker.voice):
            self.snapshot()
            self.writer.wait()
        self.say_complaints()
        if stopping:
            return "stopped"
        return "early_stopped" if self.stops_early() and not self.is_solved() else "completed"

    def _long_step(self) -> contextlib.AbstractContextManager:
        """Announce a step that may take long: the first one, and those after a slow one."""
        first = self.state.micro_step == self.first_micro_step
        before, self.step_began = self.step_began, time.monotonic()
        if not first and self.step_began - before < 1.0:
            return contextlib.nullcontext()
        what = "Making the first samples and the first step" if first else f"Making step {self.state.step + 1}"
        return patience.doing(what, voice=self.tracker.voice)

    def finish_step(self, row: dict[str, Any], evaluates: bool) -> bool:
        """Log and evaluate a step that was made; False when the evaluation was interrupted, and is to be made anew."""
        state, train = self.state, self.config.train
        if self.tracker.is_gone():
            self.stop.number = self.stop.number or signal.SIGTERM  # which the next step tells all processes
        logs = state.step % train.log_every == 0 or state.step in (1, train.steps)
        logs = logs or self.health.measures_norms(state.step)
        if "tokens" not in row:  # a row that waited for its evaluation has all this
            row |= self.health.speed(state)
            if logs:
                row |= self.health.line(state, clips=train.grad_clip is not None)
        row = only_finite(row)
        left = self.seconds_left()
        self.tracker.progress(state.step, row, left)
        if not self.told_time and left is not None:
            self.told_time = True
            most = " at most" if train.stop_when or train.early_stopping else ""
            self.tracker.say(f"about {patience.duration(left)}{most} to step {train.steps:,}, without evaluations")
        scores: dict[str, float] = {}
        if evaluates:
            try:
                scores = self.evaluate()
            except Stopped:
                state.unevaluated = row
                return False
        state.unevaluated = None
        if logs or scores:
            self.tracker.row({**(row if logs else {"step": state.step}), **scores, "seconds": self.seconds()})
        if scores:
            self.tracker.renew_plots()
        return True

    def is_solved(self) -> bool:
        """Tell whether train.stop_when has been reached."""
        asked = self.config.train.stop_when
        return asked is not None and self.state.asked == asked.question() and self.state.met >= asked.times

    def stops_early(self) -> bool:
        patience = self.config.train.early_stopping
        return patience is not None and self.state.worse >= patience

    def snapshot_is_due(self) -> bool:
        train = self.config.train
        if train.snapshot_every is not None and self.state.step % train.snapshot_every == 0:
            return True
        return self.due_by_clock

    def _is_due_by_clock(self) -> bool:
        """Tell rank 0's opinion, which travels with the sums of a step."""
        minutes = (time.monotonic() - self.snapshot_at) / 60
        most = self.config.train.snapshot_minutes
        return self.world.is_main and most is not None and minutes >= most

    def snapshot(self) -> None:
        """Copy what a snapshot holds; it is written while training goes on.

        It holds the best weights too: where best/ could not be written, that comes first, or there is no snapshot.
        """
        self.snapshot_at = time.monotonic()
        if self.divided is None and (not self.world.is_main or self.tracker.is_gone()):
            return
        self.writer.wait()  # a disk slower than the interval must not fall behind by more than one snapshot
        self.state.seconds, self.state.world_size = self.seconds(), self.world.size
        state = replace(self.state)
        copied = saving.copy(self.model, self.optimizer, self.divided)
        if copied is None or (copied.leads and self.tracker.is_gone()):
            if copied is not None:
                copied.drop()
            return
        self.tracker.sync()
        late = self.unwritten_best

        def write() -> None:
            try:
                if late is not None:
                    late()
            except BaseException:
                copied.drop()
                raise
            saving.save(self.run, copied, state, self.config, self.task.tokenizer)

        self.writer.submit(f"the snapshot of step {state.step}", write)

    def say_complaints(self, and_then: str = "") -> None:
        """Say what could not be written since the last time."""
        while not self.writer.complaints.empty():
            self.tracker.say(self.writer.complaints.get() + and_then)

    def seconds(self) -> float:
        return self.earlier_seconds + time.monotonic() - self.began

    def seconds_left(self) -> float | None:
        """Estimate the time left from that of the micro-steps since this process began."""
        done = self.state.micro_step - self.first_micro_step
        if self.state.step < 10 or not done:
            return None
        return (self.all_micro_steps - self.state.micro_step) / done * (time.monotonic() - self.first_step_began)

    # ---- one step

    def step(self, step: int) -> tuple[dict[str, Any] | None, bool]:
        """Make one optimizer step over all its micro-steps and processes; its row of metrics, and whether to stop.

        A signal between micro-steps drops the step on all processes alike: the row is None then, nothing of it was
        done, and a resumed run makes it whole.
        """
        config, state, gradients, phase = self.config, self.state, self.gradients, self.profiler.phase
        started = time.perf_counter()
        now = schedule.at(config.schedule, step)
        optim.set_schedule(self.optimizer, now.lr, now.weight_decay)
        if config.model.is_random:  # masks are a function of the step too, so no random state has to be saved
            torch.manual_seed(derive(config.seed, "dropout", step, self.world.rank))
        if not self.model.training:
            self.model.train()
        gradients.begin()
        # Losses are summed over supervised tokens. Their number over all processes is known only after the
        # all-reduce, so they are divided by the number of positions first, and the rest is made up for below.
        positions = now.grad_accum * config.train.batch_size * self.task.sequence_length
        scale = (state.loss_scale if self.scales_loss else 1.0) / positions
        weight = tokens = 0.0
        micro_steps = range(state.micro_step, state.micro_step + now.grad_accum)
        parts = (rows for micro_step in micro_steps for rows in self.stream.micro_step(micro_step))
        last = now.grad_accum * self.stream.parts
        incomplete = False
        with self.compute.autocast():  # once a step: until the weights change, they are cast only once
            for number, rows in enumerate(self.health.waiting(parts, phase), start=1):
                if incomplete := self.stop.number > 0 and self.divided is None:  # one that is divided goes on together
                    break
                if self.launches_graphs:
                    torch.compiler.cudagraph_mark_step_begin()
                with phase("forward"):
                    loss = self.model(**rows.model_inputs())
                if number == last:
                    gradients.before_last_pass()
                with phase("backward"), self.compute.no_autocast():
                    (loss * scale).backward()
                    gradients.collect()
                gradients.sums[0] += loss.detach()
                weight += rows.weight
                tokens += rows.tokens
            if self.divided is not None:
                for _ in range(now.grad_accum * (self.stream.most_parts - self.stream.parts)):  # others have more rows
                    loss = self.model(**rows.model_inputs())
                    with self.compute.no_autocast():
                        (loss * 0.0).backward()
        gradients.collect()  # where there was nothing to do
        mine = [weight, tokens, float(self.stop.number > 0), float(incomplete), float(self._is_due_by_clock()), 0.0]
        gradients.sums[1:] += torch.tensor(mine).to(gradients.sums)
        with phase("reduce"):  # this is where the step waits: for the device, and for the other processes
            gradients.reduce()
            sums, norm = gradients.summed()
        if sums.incomplete:
            return None, True
        mean = 1 / sums.weight if sums.weight else 0.0
        norms: dict[str, float] = {}
        loss, norm = sums.loss * mean, norm * mean / scale
        if finite.is_finite(self, step, loss, norm, now.lr):
            clip = config.train.grad_clip
            clipping = min(1.0, clip / (norm + 1e-6)) if clip else 1.0
            state.clipped += clipping < 1
            with phase("update"):
                gradients.scale(mean / scale * clipping)
                norms = self.health.update(self.optimizer, step)
        self.due_by_clock = sums.due > 0
        state.step, state.micro_step = step, state.micro_step + now.grad_accum
        state.tokens += int(sums.tokens)
        state.train_loss = loss if math.isfinite(loss) else None
        # A GPU still updates the weights while the next step is prepared, whose sums wait for that: one wait a step.
        state.train_seconds += time.perf_counter() - started
        row = {
            "step": step,
            "train/loss": loss,
            "lr": now.lr,
            "weight_decay": now.weight_decay,
            "grad_accum": now.grad_accum,
            "batch": now.grad_accum * config.train.batch_size,
            "grad_norm": norm,
            "epoch": self.stream.epochs(state.micro_step),
            **norms,
        }
        if state.skipped:
            row["skipped"] = state.skipped
        return row, sums.stop > 0

    # ---- evaluation

    def evaluate(self) -> dict[str, float]:
        """Score the weights as they are now; if they are the best so far, keep exactly these."""
        with self.whole():
            return self._evaluate()

    def _evaluate(self) -> dict[str, float]:
        state = self.state
        watch = evaluate.Watch(voice=self.tracker.voice)
        scores = evaluate.validate(self.judge, self.task, watch, self.config.train.eval_train)
        finite = math.isfinite(scores["val/loss"])
        state.scores, state.scored_step = scores if finite else None, state.step
        if finite and (state.best is None or self._is_better(scores, state.best)):
            state.best, state.best_step, state.worse = scores, state.step, 0
            self.save_weights(self.run.best)
        else:
            state.worse += 1
        if asked := self.config.train.stop_when:
            question = asked.question()
            before = state.met if state.asked == question else 0  # a resumed run may ask for something else
            state.met, state.asked = before + 1 if asked.is_met(scores) else 0, question
        words = [f"val/loss {scores['val/loss']:.5f}"]
        if "val/accuracy" in scores:
            words.append(f"exact match {scores['val/accuracy']:.2%}")
        if "train/accuracy" in scores:
            words.append(f"of training samples {scores['train/accuracy']:.2%}")
        words += [f"{n.replace('_', ' ')} {scores[f'val/{n}']:.4f}" for n in self.task.measures(scores["val/loss"])]
        words += ["(best so far)"] if state.best_step == state.step else []
        self.tracker.say(f"step {state.step}: {'  '.join(words)}")
        if self.config.logger.samples and self.world.is_main:
            shown = of_task.show(self.task, self.judge, self.config.logger.samples)
            lines = [f"    {sample.line}" for sample in shown]
            self.tracker.say(("" if sum(map(len, lines)) <= NARROW else "\n").join(lines))
            self.tracker.samples(state.step, [sample.parts for sample in shown])
        return scores

    def _is_better(self, scores: dict[str, float], best: dict[str, float]) -> bool:
        """Compare two evaluations by train.best, and those that are alike by their loss."""
        name = self.config.train.best
        sign = 1 if name.partition("/")[2] in self.task.more_is_better else -1
        ours, theirs = ((sign * found.get(name, -math.inf * sign), -found["val/loss"]) for found in (scores, best))
        return ours > theirs

    def save_weights(self, folder: Path) -> None:
        """Copy the weights; they are written into best/ or final/ while training goes on."""
        tensors: dict[str, torch.Tensor] = {}
        if self.divided is not None and self.judge.model is self.model:  # or else it is gathered already
            tensors = self.divided.weights()
        if not self.world.is_main or self.tracker.is_gone():
            return
        tensors = tensors or weights.copy(self.judge.model)
        about = {"step": self.state.step, **(self.state.scores or {})}

        def write() -> None:
            weights.save(folder, tensors, self.config, self.task.tokenizer, about)
            if self.unwritten_best is write:
                self.unwritten_best = None

        if folder == self.run.best:
            self.unwritten_best = write
        self.writer.submit(f"{folder.name}/", write)

    def finish_writing(self) -> None:
        """Wait until all is on the disk, and try a best/ that found no room once more."""
        self.writer.wait()
        if self.unwritten_best is not None:
            self.writer.submit("best/", self.unwritten_best)
            self.writer.wait()

    def has_best(self) -> bool:
        """Tell whether best/ holds the weights that were evaluated best: a full disk may have kept them from it."""
        self.writer.wait()
        return distributed.from_main(lambda: weights.step(self.run.best) == self.state.best_step is not None)

    def use_best(self) -> None:
        """Put the weights that were evaluated best into the model, on every rank."""
        with self.filling():
            weights.load_into(self.model, self.run.best)
