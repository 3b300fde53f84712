"""Use torch.compile where it pays within the run: block by block, so that all layers share what was compiled once.

What was compiled stays on disk (TORCHINDUCTOR_CACHE_DIR), and a second run starts sooner. Evaluation is never
compiled: its last batch has another length.
"""

from typing import Any

import torch

from cleangpt.basics.errors import UserError
from cleangpt.config.experiment import Config
from cleangpt.machine import compiler, peaks
from cleangpt.machine.device import Compute
from cleangpt.models.contract import LanguageModel

COLD_SECONDS = 60.0  # a first compilation takes about so long
GAIN = 0.3  # of the time of a step, on a GPU
LAUNCH_SECONDS = 0.001  # a layer forward and backward: small models wait for their kernels to be launched
UTILISATION = 0.35  # of the peak: what large ones reach
UNKNOWN_PEAK = 50e12


def eager_seconds(
    config: Config, model: LanguageModel, length: int, compute: Compute, processes: int, micro_steps: int
) -> float:
    """Estimate how long so many micro-steps take on a GPU without compilation, from what is known of the card."""
    rows = -(-config.train.batch_size // processes)
    peak = peaks.peak(compute) or UNKNOWN_PEAK
    arithmetic = rows * length * model.flops_per_token(length) / (UTILISATION * peak)
    parts = -(-rows // (config.train.at_once or rows))
    return micro_steps * max(arithmetic, parts * config.model.n_layer * LAUNCH_SECONDS)


def decide(choice: bool | str, compute: Compute, seconds: float) -> tuple[bool | str, str | None]:
    """Decide how to compile a run that takes so long without, and what `auto` has to say about it."""
    if choice == "graphs" and compute.device.type != "cuda":
        raise UserError("`compile` is graphs, which only a CUDA device has: use compile=true")
    if choice not in ("auto", False) and not compiler.has_compiler():
        raise UserError(
            f"`compile` is {str(choice).lower()}, which needs a C++ compiler, and there is none here: install g++, or "
            "use compile=false"
        )
    if choice != "auto":
        return choice, None
    if not compiler.has_compiler():
        return False, "compile=auto: off, there is no C++ compiler here" if compute.device.type == "cuda" else None
    if compute.device.type != "cuda":  # in float32 on two cores: 31 s to compile, and no step the faster for it
        return False, None
    pays = seconds * GAIN > COLD_SECONDS
    verb = "wins back" if pays else "would not win back"
    return pays, f"compile=auto: {'on' if pays else 'off'}, a run of about {seconds:,.0f} s {verb} the compilation"


def apply(choice: bool | str, model: LanguageModel) -> None:
    if choice:
        compiler.without_a_stopwatch()
    if choice == "graphs":  # the whole step of the model is launched at once
        model.compile(dynamic=False, mode="reduce-overhead")
    elif choice:
        for module in model.compiled():
            module.compile(dynamic=False)
        vars(model)["loss"] = torch.compile(model.loss, dynamic=False)  # goes before the method


def prepare(trainer: Any) -> None:
    """Set the model up for this training: what it recomputes, and how it is compiled."""
    config, model, compute = trainer.config, trainer.model, trainer.compute
    model.checkpointing = config.train.activation_checkpointing
    # Of the whole run, wherever it stands: one that was interrupted goes on as it would have.
    length, micro_steps = trainer.task.sequence_length, trainer.all_micro_steps
    seconds = eager_seconds(config, model, length, compute, trainer.world.size, micro_steps)
    asked = config.compile if trainer.divided is None else config.compile is True
    choice, reason = decide(asked, compute, seconds)
    apply(choice, model)
    trainer.launches_graphs = choice == "graphs"
    if reason:
        trainer.tracker.say(reason)
