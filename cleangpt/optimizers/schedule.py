"""Learning rate, weight decay and accumulation at a step: pure functions of the step, so nothing is saved.

Steps count from 1. With W steps of warm-up a value rises linearly to `begin`, which step W has; without, step 1
has it. The last step of the decay has `end`, exactly.
"""

import math
from typing import NamedTuple

from cleangpt.optimizers.settings import AccumRamp, DecayRamp, LrRamp, Ramp, ScheduleConfig
from cleangpt.optimizers.styles import STYLES


class Values(NamedTuple):
    """The values that hold during a step."""

    lr: float
    weight_decay: float
    grad_accum: int


def at(schedule: ScheduleConfig, step: int) -> Values:
    """Compute what holds during this step of a (resolved) schedule. Behind its last step nothing moves any more."""
    steps = schedule.steps
    return Values(
        lr=value(schedule.lr, step, steps),
        weight_decay=value(schedule.weight_decay, step, steps),
        grad_accum=max(1, math.floor(value(schedule.grad_accum, step, steps) + 0.5)),
    )


def value(ramp: LrRamp | DecayRamp | AccumRamp, step: int, steps: int) -> float:
    """Compute where a ramp is at this step."""
    warmup = round(ramp.warmup * steps)
    if step < warmup:
        return ramp.begin * step / warmup
    style = STYLES[ramp.style]
    way = style.way(_progress(ramp, step, steps, max(warmup, 1), style.at_the_end), ramp.power)
    return ramp.end if way == 1 else ramp.begin + (ramp.end - ramp.begin) * way


def _progress(ramp: Ramp, step: int, steps: int, first: int, at_the_end: bool) -> float:
    """Measure the way: 0 at the last step that has `begin`, 1 from the first step that has `end`."""
    length = steps - first if ramp.decay is None else round(ramp.decay * steps) or math.ceil(ramp.decay)
    start = max(first, steps - length) if at_the_end else first
    last = min(start + length, steps)
    if step <= start:
        return 0.0
    return 1.0 if step >= last else (step - start) / (last - start)


def ignored(schedule: ScheduleConfig, train_steps: int) -> list[str]:
    """Write a sentence on each `end` that a constant style never reaches, and on steps that would learn nothing."""
    idle, sentences = train_steps - schedule.steps, []
    if idle > 0 and at(schedule, schedule.steps + 1).lr == 0:
        sentences = [
            f"the learning rate is 0 from step {schedule.steps} on, where schedule.steps ends: the last {idle:,} of "
            "train.steps change nothing"
        ]
    for name in ("lr", "weight_decay", "grad_accum"):
        ramp = getattr(schedule, name)
        if ramp.style == "constant" and ramp.end not in (None, ramp.begin):
            sentences.append(f"`schedule.{name}.end` is not used with style=constant: choose linear, cosine or power")
    return sentences


def jumps(before: ScheduleConfig, now: ScheduleConfig, step: int) -> list[str]:
    """Say in words which values leap behind this step where `now` takes over from `before`."""
    names = ("the learning rate", "weight decay", "accumulation")
    values = zip(names, at(before, step), at(before, step + 1), at(now, step + 1), strict=True)
    return [
        f"{name} goes from {_shown(was)} to {_shown(comes)}"
        for name, was, would, comes in values
        if not math.isclose(would, comes, rel_tol=0.01, abs_tol=1e-12)
    ]


def _shown(value: float) -> str:
    return f"{value:.2e}" if 0 < value < 0.01 else f"{value:g}"


PIECES = 100_000  # that are looked at, before the rest is estimated


def micro_steps_before(schedule: ScheduleConfig, step: int) -> int:
    """Count the micro-steps that the steps before this one take: exact, but for ramps through very many values.

    The value only rises during warm-up, and then only rises or only falls: equal ends of a piece say all of it.
    """
    ramp, steps = schedule.grad_accum, schedule.steps
    warm = min(round(ramp.warmup * steps), step - 1)
    total, looked = 0, 0
    pieces = [piece for piece in ((1, warm), (warm + 1, step - 1)) if piece[0] <= piece[1]]
    while pieces:
        first, last = pieces.pop()
        one, other = (at(schedule, end).grad_accum for end in (first, last))
        looked += 1
        if one == other or looked > PIECES:
            total += (last - first + 1) * (one + other) // 2
        else:
            middle = (first + last) // 2
            pieces += [(first, middle), (middle + 1, last)]
    return total
