"""The state.json of a snapshot: where a training stands."""

from dataclasses import dataclass
from typing import Any


@dataclass
class State:
    """Everything besides weights and optimizer that a run needs to go on as if nothing had happened."""

    step: int = 0
    micro_step: int = 0  # where the data stands
    tokens: int = 0
    train_seconds: float = 0.0  # spent in steps
    seconds: float = 0.0  # wall time of all parts of the run
    train_loss: float | None = None
    clipped: int = 0  # steps since the last line of metrics.jsonl whose gradient was clipped
    line_step: int = 0  # the step of that line
    scores: dict[str, float] | None = None  # of the last evaluation
    scored_step: int | None = None
    best: dict[str, float] | None = None  # of the best evaluation
    best_step: int | None = None
    worse: int = 0  # evaluations since then
    met: int = 0  # evaluations in a row, up to the last one, that show what train.stop_when asks for
    asked: str | None = None  # what that was
    unevaluated: dict[str, Any] | None = None  # the row of a step whose evaluation was interrupted
    skipped: int = 0  # steps that were not finite
    skipped_in_a_row: int = 0
    loss_scale: float = 65536.0  # float16 only
    good_steps: int = 0  # since the loss scale last changed
    world_size: int = 1
