"""Refuse what this machine can't hold, before any of it is made."""

import math
import os

import torch

from cleangpt.basics.errors import UserError
from cleangpt.config.experiment import Config
from cleangpt.models.build import count_parameters
from cleangpt.terminal.patience import size as in_words

FLOAT = 4  # bytes


def of(device: torch.device) -> int | None:
    """Count the bytes of memory that a device has; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def refuse_too_large(config: Config, length: int, processes: int, device: torch.device) -> None:
    """Refuse a training that can't fit, by the least that it takes.

    That is weights, gradients and one moment of each, and of each block what goes into it.
    """
    there = of(device)
    if there is None:
        return
    parameters, model, train = count_parameters(config.model), config.model, config.train
    least = parameters * FLOAT * (1 if train.freeze else 3)
    ways = "lower model.n_embd, model.n_layer or model.vocab_size"
    if processes > 1 and train.shard != "none":  # and whole weights while it is evaluated
        least = least // min(train.shard_group or processes, processes) + parameters * FLOAT
    elif processes > 1:
        ways = f"divide it by train.shard=full, or {ways}"
    if least > there:
        raise UserError(
            f"a model of {parameters:,} parameters takes {in_words(least)} at least to be trained, and there are "
            f"{in_words(there)} of memory: {ways}"
        )
    share = math.ceil(train.batch_size / processes)
    rows = 1 if train.micro_batch_size == "auto" else min(share, train.at_once or share)
    least += FLOAT * length * (2 * share + rows * model.n_embd * model.n_layer)
    if least > there:
        raise UserError(
            f"{rows:,} sequences of {length:,} tokens at once, of {share:,} in a micro-step, take {in_words(least)} at "
            f"least, and there are {in_words(there)} of memory: lower train.micro_batch_size or train.batch_size"
        )
