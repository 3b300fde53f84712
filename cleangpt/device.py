"""Where to compute, in which precision and with how many threads."""

import contextlib
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from cleangpt.errors import UserError


@dataclass(frozen=True)
class Compute:
    """A device and the dtype of the arithmetic on it. Weights, gradients and optimizer stay in float32."""

    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> contextlib.AbstractContextManager:
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def no_autocast(self) -> contextlib.AbstractContextManager:
        """For a backward pass within: its dtypes are those of the forward pass."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, enabled=False)

    def synchronize(self) -> None:
        """Wait for what was started, before a clock is read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    @property
    def name(self) -> str:
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return {"cpu": f"CPU, {torch.get_num_threads()} threads", "mps": "Apple GPU"}[self.device.type]


def fastest(device: str) -> str:
    """What `device` means here: `auto` takes a GPU where there is one."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def fastest_dtype(device: str) -> str:
    """What dtype=auto means here: bfloat16 where it is native."""
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(False) else "float16"
    return "bfloat16" if device == "cpu" and bfloat16_gain() > WORTHWHILE else "float32"


WORTHWHILE = 1.5  # a matmul has to gain more than what is lost to conversions around it


def bfloat16_gain() -> float:
    """How many times as fast as in float32 a matmul is in bfloat16 on this processor: 2 to 8 where it is native.

    Processors say that they can where they only pretend to, and are up to a hundred times slower then, so this measures
    it. It takes a few hundredths of a second; the best of a few is taken, since other processes may be in the way.
    """

    def seconds(dtype: torch.dtype, most: float) -> float:
        x, weight = torch.ones(512, 512, dtype=dtype), torch.ones(512, 512, dtype=dtype)
        began, best = time.perf_counter(), math.inf
        for _ in range(6):  # the first one finds out how
            start = time.perf_counter()
            torch.nn.functional.linear(x, weight)
            now = time.perf_counter()
            best = min(best, now - start)
            if now - began > most:
                break
        return best

    return seconds(torch.float32, 0.3) / seconds(torch.bfloat16, 0.3)


def choose(device: str, dtype: str, local_rank: int = 0) -> Compute:
    """The device of this process and the dtype of its arithmetic."""
    device = fastest(device)
    if device == "cuda" and local_rank >= torch.cuda.device_count():
        raise UserError(
            f"process {local_rank} of this machine has no GPU, there are {torch.cuda.device_count()}: start fewer "
            "processes, or use device=cpu"
        )
    place = torch.device(device, local_rank) if device == "cuda" else torch.device(device)
    if device == "cuda":
        torch.cuda.set_device(place)
    if dtype == "auto":
        dtype = fastest_dtype(device)
    return Compute(place, getattr(torch, dtype))


def mistakes(device: str) -> list[str]:
    """What stands in the way of computing on this device, for the list of mistakes in a configuration."""
    if device == "cuda" and not torch.cuda.is_available():
        return ["`device` is cuda, but torch sees no CUDA device here: use device=auto, or install a CUDA build"]
    if device == "mps" and not torch.backends.mps.is_available():
        return ["`device` is mps, but this machine has no Apple GPU: use device=auto"]
    return []


def usable_cores() -> int:
    """Cores that this process may use: those it is bound to, two threads of one core once, no more than its quota."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cpus = os.sched_getaffinity(0)
    cores = len({_siblings(cpu) for cpu in cpus})
    quota = _quota()
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def _siblings(cpu: int) -> str:
    try:
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text()
    except OSError:
        return str(cpu)


def _quota(folder: Path = Path("/sys/fs/cgroup")) -> float | None:
    """How many processors a container may keep busy, where it is limited."""
    try:
        limit, period = (folder / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        return None


def share_of_cores(processes: int) -> int:
    """Cores for each of so many processes on this machine."""
    return max(1, usable_cores() // processes)


def share_threads(processes_here: int) -> None:
    """Divide the cores among the processes of this machine: contending threads are far slower than few."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(share_of_cores(processes_here))
