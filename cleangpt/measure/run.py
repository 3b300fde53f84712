"""One measurement, from a checked configuration to one plain dict with everything in it."""

import platform
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from cleangpt import tasks
from cleangpt.basics.errors import UserError
from cleangpt.config.experiment import resolve
from cleangpt.config.programs import BenchConfig
from cleangpt.machine import process, session
from cleangpt.machine.device import Compute
from cleangpt.measure import decode, fit, matmul, page, turns
from cleangpt.measure import train as training
from cleangpt.measure.score import Scoring
from cleangpt.measure.turns import OURS, Side
from cleangpt.models.build import build, count_parameters

WARM_UP = {"train": 3, "decode": 1, "score": 1}  # calls of each side
PEAK_SECONDS = 0.5  # of matmuls, before and after the turns


def measure(config: BenchConfig) -> dict[str, Any]:
    """Build the sides that were asked for, let them take turns, and sum up."""
    process.keep_memory()
    task = tasks.make(config.dataset, config.model.block_size)
    config = resolve(config, task)
    if config.what == "fit":
        return fit.measure(config, task)
    compute = session.alone(config.device, config.dtype, count_parameters(config.model))
    if config.what == "page":
        return {**page.measure(config, task, compute, WARM_UP["train"]), **_circumstances(config, compute)}
    others = None if config.against is None else sides_of_others(config.against)
    dtypes: list[torch.dtype] = []  # whose peaks are asked for
    more: dict[str, Any] = {}
    if config.what == "train":
        sides, unit = [Side(OURS, lambda: training.steps(config, task, compute), compute.dtype)], "tokens"
        sides += others.train(config, compute) if others else []
        dtypes = list(dict.fromkeys(side.dtype for side in sides))
    elif config.what == "decode":
        model = training.first_weights(config, compute.device).to(compute.dtype).eval()
        sides, unit = decode.sides(config, model, others.decode(config, model) if others else {}), "tokens"
    else:
        scoring = Scoring(task, training.first_weights(config, compute.device), compute)
        sides, unit = [scoring.side()], "problems" if task.has_answers else "windows"
        sides += others.score(config, scoring) if others else []
    length = min(PEAK_SECONDS, config.seconds)
    before = {dtype: matmul.peak(compute, dtype, length) for dtype in dtypes}
    turns.run(sides, config.rounds, config.seconds, WARM_UP[config.what], compute)
    # Once more: what disturbed the machine then may be over.
    peaks = {dtype: max(before[dtype], matmul.peak(compute, dtype, length)) for dtype in dtypes}
    found = turns.found(sides)
    if config.what == "train":
        more = _utilisation(build(config.model, "meta").flops_per_token(task.sequence_length), found, peaks)
    elif config.what == "score":
        more["complete"] = scoring.complete()
    if config.profile:
        training.profile(config, task, compute, Path.cwd())
    return {"unit": f"{unit} a second", "sides": found, **more, **_circumstances(config, compute)}


def _circumstances(config: BenchConfig, compute: Compute) -> dict[str, Any]:
    return {
        "what": config.what,
        "rounds": config.rounds,
        "device": compute.name,
        "dtype": compute.dtype_name,
        "threads": torch.get_num_threads(),
        "model": _about(config),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def sides_of_others(against: str) -> ModuleType:
    """Import benchmark/sides.py, which a checkout has beside the package and a wheel has not."""
    try:
        from benchmark import sides
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "benchmark":
            raise
        raise UserError(
            f"against={against} needs benchmark/, which only a checkout has: run its bench.py, or use against=null"
        ) from None
    return sides


def _utilisation(each: int, found: dict[str, Any], peaks: dict[torch.dtype, float]) -> dict[str, Any]:
    """Name the peaks by dtype, and give each side its MFU: the share of its peak that a token's arithmetic needs."""
    by_name = {str(dtype).removeprefix("torch."): peak for dtype, peak in peaks.items()}
    for side in found.values():
        side["mfu"] = side["median"] * each / by_name[side["dtype"]]
    return {"flops_per_token": each, "peak_tflops": {name: peak / 1e12 for name, peak in by_name.items()}}


def _about(config: BenchConfig) -> dict[str, Any]:
    model = config.model
    shape = {"layers": model.n_layer, "width": model.n_embd, "context": model.block_size}
    return {"name": model.name, "parameters": count_parameters(model), **shape, "batch": config.train.batch_size}
