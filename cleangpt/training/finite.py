"""Steps whose loss or gradient is not a number."""

import math
from typing import Any


class NonFinite(Exception):
    """A loss or gradient that is not a number: the weights were not touched."""


def is_finite(trainer: Any, step: int, loss: float, norm: float, lr: float) -> bool:
    """Decide whether to take the step. With float16 a gradient that overflows only lowers the loss scale."""
    config, state, say, scales_loss = trainer.config, trainer.state, trainer.tracker.say, trainer.scales_loss
    finite = math.isfinite(norm) and math.isfinite(loss)
    if scales_loss and finite:
        state.good_steps += 1
        if state.good_steps == 2000:
            state.loss_scale, state.good_steps = state.loss_scale * 2, 0
    elif scales_loss and math.isfinite(loss) and state.loss_scale > 1:
        state.loss_scale, state.good_steps = state.loss_scale / 2, 0
        return False
    if finite:
        state.skipped_in_a_row = 0
        return True
    what = f"step {step}: loss {loss:g}, gradient norm {norm:g} at lr {lr:.3g}"
    state.skipped_in_a_row += 1
    if config.train.nonfinite == "stop" or state.skipped_in_a_row > config.train.nonfinite_limit:
        raise NonFinite(
            f"{what}: stopped before the weights were touched. Lower optimizer.lr, lengthen schedule.lr.warmup, "
            "or set train.grad_clip"
        )
    state.skipped += 1
    say(f"{what}: skipped, the weights stay as they are")
    return False
