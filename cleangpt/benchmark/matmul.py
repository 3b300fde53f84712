"""The peak that MFU is measured against: the best rate of matmuls on this machine in this dtype with these threads."""

import itertools
import time

import torch

from cleangpt.device import Compute

SIZES = {"cpu": (512, 1024, 2048), "cuda": (4096, 8192), "mps": (1024, 2048)}


def peak(compute: Compute, dtype: torch.dtype, seconds: float) -> float:
    """FLOP/s of the best of many square matmuls within this time; each size has at least one turn."""
    pairs = []
    for size in SIZES[compute.device.type]:
        left, right = (torch.randn(size, size, device=compute.device).to(dtype) for _ in range(2))
        pairs.append((size, left, right, torch.empty_like(left)))
        torch.mm(left[:64], right, out=pairs[-1][3][:64])  # the first call of a kind sets things up
    compute.synchronize()
    began, best = time.perf_counter(), 0.0
    for turn, (size, left, right, out) in enumerate(itertools.cycle(pairs)):
        if turn >= len(pairs) and time.perf_counter() - began > seconds:
            return best
        started = time.perf_counter()
        torch.mm(left, right, out=out)
        compute.synchronize()
        best = max(best, 2 * size**3 / (time.perf_counter() - started))
    raise AssertionError("a cycle has no end")
