"""Where to compute and in which precision."""

import contextlib
import os
from dataclasses import dataclass

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


def choose(device: str, dtype: str, local_rank: int = 0) -> Compute:
    """`auto` takes a GPU where there is one, and on it bfloat16 where it has that."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if device == "cuda" and local_rank >= torch.cuda.device_count():
        raise UserError(
            f"process {local_rank} of this machine has no GPU, there are {torch.cuda.device_count()}: start fewer "
            "processes, or use device=cpu"
        )
    place = torch.device(device, local_rank) if device == "cuda" else torch.device(device)
    if device == "cuda":
        torch.cuda.set_device(place)
    if dtype == "auto":
        half = "bfloat16" if device == "cuda" and torch.cuda.is_bf16_supported(False) else "float16"
        dtype = half if device == "cuda" else "float32"
    return Compute(place, getattr(torch, dtype))


def mistakes(device: str) -> list[str]:
    """What stands in the way of computing on this device, for the list of mistakes in a configuration."""
    if device == "cuda" and not torch.cuda.is_available():
        return ["`device` is cuda, but torch sees no CUDA device here: use device=auto, or install a CUDA build"]
    if device == "mps" and not torch.backends.mps.is_available():
        return ["`device` is mps, but this machine has no Apple GPU: use device=auto"]
    return []


def share_of_cores(processes: int) -> int:
    """Cores for each of so many processes on this machine."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, usable // processes)


def share_threads(processes_here: int) -> None:
    """Divide the cores among the processes of this machine: contending threads are far slower than few."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(share_of_cores(processes_here))


def compiles(choice: bool | str, compute: Compute, steps: int) -> bool:
    """`auto` compiles on a GPU where the run is long enough to win back a minute of compilation."""
    if choice != "auto":
        return bool(choice)
    return compute.device.type == "cuda" and steps >= 1000
