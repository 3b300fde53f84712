"""The peak that MFU is measured against: the best rate of matmuls on this machine in this dtype with these threads."""

import time

import torch

from cleangpt.machine.device import Compute

SMALLEST, LARGEST, CALLS = 256, 8192, 3


def peak(compute: Compute, dtype: torch.dtype, seconds: float) -> float:
    """Time square matmuls for so long, each size twice the last while there is time; the best rate, in FLOP/s."""
    size, best, began = SMALLEST, 0.0, time.perf_counter()
    left, right, out = _operands(size, dtype, compute)
    while True:
        took = min(_once(left, right, out, compute) for _ in range(CALLS))
        best = max(best, 2 * size**3 / took)
        remaining = began + seconds - time.perf_counter()
        if remaining <= 0:
            return best
        if 2 * size <= LARGEST and 8 * CALLS * took < remaining:
            size *= 2
            left, right, out = _operands(size, dtype, compute)


def _operands(size: int, dtype: torch.dtype, compute: Compute) -> list[torch.Tensor]:
    return [torch.randn(size, size, device=compute.device).to(dtype) for _ in range(3)]


def _once(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor, compute: Compute) -> float:
    compute.synchronize()
    began = time.perf_counter()
    torch.mm(left, right, out=out)
    compute.synchronize()
    return time.perf_counter() - began
