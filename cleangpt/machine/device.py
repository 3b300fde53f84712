"""Choose where to compute, in which precision and with how many threads."""

import contextlib
import os
from dataclasses import dataclass

import torch

from cleangpt.basics.errors import UserError
from cleangpt.basics.words import counted
from cleangpt.machine import cores, processor


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
        """Turn autocast off for a backward pass within: its dtypes are those of the forward pass."""
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
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    @property
    def name(self) -> str:
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return {"cpu": f"CPU, {counted(torch.get_num_threads(), 'thread')}", "mps": "Apple GPU"}[self.device.type]


def fastest(device: str) -> str:
    """Decide what `device` means here: `auto` takes a GPU where there is one."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


# Parameters from which on bfloat16 is worth it on a CPU that has it. Trainings took, with one thread of an AMD EPYC of
# the Zen 4 generation (avx512_bf16, no AMX), in float32 1.7 times as long as in bfloat16 at 11 and at 3 million
# parameters, and 1.2 times at 0.1 million; with two threads of another processor 1.03 times. Smaller models stay in
# float32, where the same recipe gives the same result on more machines: they gain least, and are done in minutes.
LARGE = 4_000_000


def fastest_dtype(device: str, parameters: int) -> str:
    """Decide what dtype=auto means here for a model of this size.

    It is decided by what the hardware is, never by a stopwatch: the same command has to compute the same.
    """
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(False) else "float16"
    large = parameters >= LARGE
    return "bfloat16" if device == "cpu" and large and processor.computes_in("bfloat16") else "float32"


def decided_dtype(asked: str, device: str, parameters: int) -> str:
    """Replace auto by what it means here."""
    return fastest_dtype(fastest(device), parameters) if asked == "auto" else asked


def is_slow(compute: Compute) -> bool:
    """Test whether the device has no instructions for its dtype, and gets there by way of another."""
    if compute.device.type == "cuda":
        return compute.dtype == torch.bfloat16 and not torch.cuda.is_bf16_supported(False)
    return compute.device.type == "cpu" and not processor.computes_in(compute.dtype_name)


def dtype_remark(compute: Compute, parameters: int, kept: bool) -> str | None:
    """Remark on a dtype that this machine would not have chosen.

    That is one that a resumed run has kept, without anybody having asked for it, or one that is slow here.
    """
    has, here = compute.dtype_name, fastest_dtype(compute.device.type, parameters)
    slow = f"this {'processor' if compute.device.type == 'cpu' else 'GPU'} has no instructions for {has}, and is slow"
    if kept and here != has:
        slow = f"; {slow}" if is_slow(compute) else ""
        return f"dtype stays {has}, as the run has it, where one that begins here would take {here}{slow}"
    return f"{slow}: dtype={here} is faster" if is_slow(compute) else None


def choose(device: str, dtype: str, local_rank: int = 0) -> Compute:
    """Take the device of this process. `dtype` is one that was decided, not auto."""
    device = fastest(device)
    if device == "cuda" and local_rank >= torch.cuda.device_count():
        raise UserError(
            f"process {local_rank} of this machine has no GPU, there are {torch.cuda.device_count()}: start fewer "
            "processes, or use device=cpu"
        )
    place = torch.device(device, local_rank) if device == "cuda" else torch.device(device)
    if device == "cuda":
        torch.cuda.set_device(place)
    return Compute(place, getattr(torch, dtype))


def mistakes(device: str) -> list[str]:
    """Say what stands in the way of computing on this device, for the list of mistakes in a configuration."""
    if device == "cuda" and not torch.cuda.is_available():
        return ["`device` is cuda, but torch sees no CUDA device here: use device=auto, or install a CUDA build"]
    if device == "mps" and not torch.backends.mps.is_available():
        return ["`device` is mps, but this machine has no Apple GPU: use device=auto"]
    return []


def share_threads(processes_here: int) -> None:
    """Divide the cores among the processes of this machine: contending threads are far slower than few."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(cores.share(processes_here))
