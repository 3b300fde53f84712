"""The loop. Its unit is the optimizer step: logging, evaluation and snapshots fall between steps only."""

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from cleangpt import distributed, evaluate, optim, schedule, snapshot, weights
from cleangpt.config import Config
from cleangpt.device import Compute
from cleangpt.distributed import World
from cleangpt.models.layers import Decoder
from cleangpt.rundir import RunDir
from cleangpt.seeds import derive
from cleangpt.signals import Stop
from cleangpt.stream import Stream
from cleangpt.tracking import Tracker


class NonFinite(Exception):
    """A loss or gradient that is not a number: the weights were not touched."""


@dataclass
class State:
    """What a run has to remember, besides weights and optimizer, to go on as if nothing had happened."""

    step: int = 0
    micro_step: int = 0  # where the data stands
    tokens: int = 0
    train_seconds: float = 0.0  # spent in steps
    seconds: float = 0.0  # wall time of all parts of the run
    train_loss: float | None = None
    scores: dict[str, float] | None = None  # of the last evaluation
    scored_step: int | None = None
    best: dict[str, float] | None = None  # of the best evaluation
    best_step: int | None = None
    worse: int = 0  # evaluations since then
    loss_scale: float = 65536.0  # float16 only
    good_steps: int = 0  # since the loss scale last changed


class Trainer:
    def __init__(
        self,
        config: Config,
        task: Any,
        model: Decoder,
        compute: Compute,
        world: World,
        run: RunDir,
        tracker: Tracker,
        stop: Stop,
        began: float,
    ):
        self.config, self.task, self.model = config, task, model
        self.compute, self.world, self.run, self.tracker = compute, world, run, tracker
        self.stop, self.began = stop, began
        self.optimizer = optim.build(config.optimizer, model)
        self.gradients = optim.Gradients(model.parameters())
        train = config.train
        self.stream = Stream(task, config.seed, train.batch_size, train.micro_batch_size, world, compute.device)
        self.judge = evaluate.Judge(model, compute.device, world)
        self.state = State()
        self.earlier_seconds = 0.0
        self.scales_loss = compute.dtype == torch.float16
        self.all_micro_steps = schedule.micro_steps_before(config.schedule, train.steps + 1, train.steps)

    # ---- the whole run

    def restore(self, folder: Path) -> None:
        self.state = State(**snapshot.restore(folder, self.model, self.optimizer))
        self.earlier_seconds = self.state.seconds

    def fit(self) -> str:
        """Train to the end, to an early stop or to a signal; the status of the run."""
        train, state = self.config.train, self.state
        self.tracker.start(state.step)
        self.first_micro_step, self.first_step_began = state.micro_step, time.monotonic()
        status = "completed"
        tokens_before, seconds_before = state.tokens, state.train_seconds
        while state.step < train.steps:
            row, stopping = self.step(state.step + 1)
            logs = state.step % train.log_every == 0 or state.step in (1, train.steps)
            if logs:
                speed = (state.tokens - tokens_before) / max(state.train_seconds - seconds_before, 1e-9)
                row |= {"tokens": state.tokens, "tokens_per_second": speed, "seconds": self.seconds()}
                tokens_before, seconds_before = state.tokens, state.train_seconds
            self.tracker.progress(state.step, row if logs else None, self.seconds_left())
            evaluates = train.eval_every is not None and state.step % train.eval_every == 0
            scores = self.evaluate() if evaluates or state.step == train.steps else {}
            if logs or scores:
                row = row if logs else {"step": state.step}
                self.tracker.row({**row, **scores, "seconds": self.seconds()})
            if train.early_stopping is not None and state.worse >= train.early_stopping:
                status = "early_stopped"
            if stopping:
                status = "stopped"
            due = train.snapshot_every is not None and state.step % train.snapshot_every == 0
            if due or status != "completed" or state.step == train.steps:
                self.snapshot()
            if status != "completed":
                break
        return status

    def snapshot(self) -> None:
        self.state.seconds = self.seconds()
        if self.world.is_main:
            snapshot.save(
                self.run,
                self.state.step,
                self.model,
                self.optimizer,
                asdict(self.state),
                self.config,
                self.task.tokenizer,
            )
            snapshot.prune(self.run, self.config.train.keep_snapshots)

    def seconds(self) -> float:
        return self.earlier_seconds + time.monotonic() - self.began

    def seconds_left(self) -> float | None:
        """From the time of the micro-steps since this process began, and the number of those to come."""
        done = self.state.micro_step - self.first_micro_step
        if self.state.step < 10 or not done:
            return None
        return (self.all_micro_steps - self.state.micro_step) / done * (time.monotonic() - self.first_step_began)

    # ---- one step

    def step(self, step: int) -> tuple[dict[str, Any], bool]:
        """One optimizer step over all its micro-steps and processes. What it was like, and whether to stop."""
        config, state, gradients = self.config, self.state, self.gradients
        started = time.perf_counter()
        now = schedule.at(config.schedule, step, config.train.steps)
        optim.set_schedule(self.optimizer, now.lr, now.weight_decay)
        if config.model.dropout > 0:  # masks are a function of the step too, so no random state has to be saved
            torch.manual_seed(derive(config.seed, "dropout", step, self.world.rank))
        self.model.train()
        gradients.zero()
        # Losses are summed over supervised tokens. Their number over all processes is known only after the
        # all-reduce, so they are divided by the number of positions first, and the rest is made up for below.
        positions = now.grad_accum * config.train.batch_size * self.task.sequence_length
        scale = (state.loss_scale if self.scales_loss else 1.0) / positions
        weight = tokens = 0.0
        for micro_step in range(state.micro_step, state.micro_step + now.grad_accum):
            for rows in self.stream.micro_step(micro_step):
                with self.compute.autocast():
                    loss = self.model(rows.inputs, rows.targets, rows.loss_weights)
                (loss * scale).backward()
                gradients.sums[0] += loss.detach()
                weight += rows.weight
                tokens += rows.tokens
        gradients.sums[1:] += torch.tensor([weight, tokens, float(self.stop.number > 0)]).to(gradients.sums)
        distributed.sum_in_place(gradients.buffer)
        loss, weight, tokens, stop, norm = torch.cat([gradients.sums, gradients.norm()[None]]).tolist()
        mean = 1 / weight if weight else 0.0
        loss, norm = loss * mean, norm * mean / scale
        if self._is_finite(step, loss, norm, now.lr):
            clip = config.train.grad_clip
            clipping = min(1.0, clip / (norm + 1e-6)) if clip else 1.0
            gradients.flat.mul_(mean / scale * clipping)
            self.optimizer.step()
        state.step, state.micro_step = step, state.micro_step + now.grad_accum
        state.tokens += int(tokens)
        state.train_loss = loss
        self.compute.synchronize()
        state.train_seconds += time.perf_counter() - started
        row = {
            "step": step,
            "train/loss": loss,
            "lr": now.lr,
            "weight_decay": now.weight_decay,
            "grad_accum": now.grad_accum,
            "batch": now.grad_accum * config.train.batch_size,
            "grad_norm": norm,
        }
        return row, stop > 0

    def _is_finite(self, step: int, loss: float, norm: float, lr: float) -> bool:
        """Whether to take the step. With float16 a gradient that overflows only lowers the loss scale."""
        state = self.state
        finite = math.isfinite(norm) and math.isfinite(loss)
        if self.scales_loss and math.isfinite(loss):
            state.good_steps = state.good_steps + 1 if finite else 0
            if not finite:
                state.loss_scale = max(state.loss_scale / 2, 1.0)
            elif state.good_steps == 2000:
                state.loss_scale, state.good_steps = state.loss_scale * 2, 0
            return finite
        if not finite:
            raise NonFinite(
                f"step {step}: loss {loss:g}, gradient norm {norm:g} at lr {lr:.3g}: stopped before the weights were "
                "touched. Lower optimizer.lr, lengthen schedule.lr.warmup, or set train.grad_clip"
            )
        return True

    # ---- evaluation

    def evaluate(self) -> dict[str, float]:
        """Score the weights as they are now; if they are the best so far, keep exactly these."""
        state = self.state
        scores = evaluate.validate(self.judge, self.task)
        state.scores, state.scored_step = scores, state.step
        if state.best is None or scores["val/loss"] < state.best["val/loss"]:
            state.best, state.best_step, state.worse = scores, state.step, 0
            self.save_weights(self.run.best)
        else:
            state.worse += 1
        accuracy = f"  exact match {scores['val/accuracy']:.2%}" if "val/accuracy" in scores else ""
        mark = "  (best so far)" if state.best_step == state.step else ""
        self.tracker.say(f"step {state.step}: val/loss {scores['val/loss']:.5f}{accuracy}{mark}")
        if self.config.logger.samples and self.world.is_main:
            self.tracker.say("    " + "    ".join(self.task.show(self.judge, self.config.logger.samples)))
        return scores

    def save_weights(self, folder: Path) -> None:
        if self.world.is_main:
            about = {"step": self.state.step, **(self.state.scores or {})}
            weights.save(folder, self.model, self.config, self.task.tokenizer, about)

    def use_best(self) -> None:
        """Put the weights that were evaluated best into the model, on every rank."""
        distributed.barrier()  # rank 0 has written them
        weights.load_into(self.model, self.run.best / weights.WEIGHTS)
