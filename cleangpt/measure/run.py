"""One measurement from a checked configuration to one plain dict with everything in it."""

import platform
from pathlib import Path
from typing import Any

import torch

from cleangpt import tasks
from cleangpt.config.experiment import resolve
from cleangpt.config.programs import BenchConfig
from cleangpt.machine import device, process
from cleangpt.measure import decode, matmul, turns
from cleangpt.measure import train as training
from cleangpt.measure.score import Scoring
from cleangpt.models import flops
from cleangpt.models.build import build, count_parameters

WARM_UP = {"train": 3, "decode": 1, "score": 1}  # calls of each side
PEAK_SECONDS = 0.5  # of matmuls, before and after the turns


def measure(config: BenchConfig) -> dict[str, Any]:
    process.keep_memory()
    device.share_threads(1)
    task = tasks.make(config.dataset, config.model.block_size)
    config = resolve(config, task)
    compute = device.choose(
        config.device, device.decided_dtype(config.dtype, config.device, count_parameters(config.model))
    )
    scoring, more = None, {}
    if config.what == "train":
        sides, unit = training.sides(config, task, compute), "tokens"
    elif config.what == "decode":
        model = training.first_weights(config, compute.device).to(compute.dtype)
        sides, unit = decode.sides(config, model), "tokens"
    else:
        scoring = Scoring(config, task, training.first_weights(config, compute.device), compute)
        sides, unit = scoring.sides(), "problems" if task.has_answers else "windows"
    dtypes = list(dict.fromkeys(side.dtype for side in sides)) if config.what == "train" else []
    peaks = {dtype: matmul.peak(compute, dtype, min(PEAK_SECONDS, config.seconds)) for dtype in dtypes}
    turns.run(sides, config.rounds, config.seconds, WARM_UP[config.what], compute)
    for dtype in dtypes:  # once more: what disturbed the machine then may be over
        peaks[dtype] = max(peaks[dtype], matmul.peak(compute, dtype, min(PEAK_SECONDS, config.seconds)))
    found = turns.found(sides)
    if config.what == "train":
        more = _utilisation(config, task, found, peaks)
    if scoring is not None:
        more["complete"] = scoring.complete()
    if config.profile:
        training.profile(config, task, compute, Path.cwd())
    return {
        "what": config.what,
        "unit": f"{unit} a second",
        "rounds": config.rounds,
        "sides": found,
        **more,
        "device": compute.name,
        "dtype": compute.dtype_name,
        "threads": torch.get_num_threads(),
        "model": _about(config),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _utilisation(config: BenchConfig, task: Any, found: dict[str, Any], peaks: dict[torch.dtype, float]) -> dict:
    """The peaks by dtype, and of each side the share of the peak of its dtype that the model's arithmetic is."""
    by_name = {str(dtype).removeprefix("torch."): peak for dtype, peak in peaks.items()}
    each = flops.flops_per_token(build(config.model, "meta"), task.sequence_length)
    for side in found.values():
        side["mfu"] = side["median"] * each / by_name[side["dtype"]]
    return {"flops_per_token": each, "peak_tflops": {name: peak / 1e12 for name, peak in by_name.items()}}


def _about(config: BenchConfig) -> dict[str, Any]:
    model = config.model
    shape = {"layers": model.n_layer, "width": model.n_embd, "context": model.block_size}
    return {"name": model.name, "parameters": count_parameters(model), **shape, "batch": config.train.batch_size}
