"""Peaks of devices in FLOP/s, to which model FLOPs utilisation compares what a model does."""

import torch

from cleangpt.machine.device import Compute

# Dense peaks in TFLOP/s, after NVIDIA's data sheets and architecture papers: tensor cores with sums in float32 for
# bfloat16, float16 and tf32, the ordinary cores for float32. Where a sheet has only the doubled number of structured
# sparsity, it is halved here. Cards before Ampere have neither bfloat16 nor tf32.
# By the name that the driver gives: a card that is not here has no peak, rather than that of a relative.
PEAKS: dict[str, tuple[float, float | None, float]] = {  # 16 bits, tf32, float32
    "NVIDIA B200": (2250.0, 1125.0, 75.0),
    "NVIDIA H200": (989.4, 494.7, 66.9),
    "NVIDIA H200 NVL": (835.5, 417.5, 60.0),
    "NVIDIA H100 80GB HBM3": (989.4, 494.7, 66.9),
    "NVIDIA H100 PCIe": (756.0, 378.0, 51.2),
    "NVIDIA H100 NVL": (835.5, 417.5, 60.0),
    "NVIDIA A100-SXM4-40GB": (312.0, 156.0, 19.5),
    "NVIDIA A100-SXM4-80GB": (312.0, 156.0, 19.5),
    "NVIDIA A100-PCIE-40GB": (312.0, 156.0, 19.5),
    "NVIDIA A100 80GB PCIe": (312.0, 156.0, 19.5),
    "A100-SXM4-40GB": (312.0, 156.0, 19.5),
    "A100-SXM4-80GB": (312.0, 156.0, 19.5),
    "A100-PCIE-40GB": (312.0, 156.0, 19.5),
    "NVIDIA A10": (125.0, 62.5, 31.2),
    "NVIDIA L4": (121.0, 60.0, 30.3),
    "NVIDIA L40S": (362.1, 183.0, 91.6),
    "Tesla V100-SXM2-16GB": (125.0, None, 15.7),
    "Tesla V100-SXM2-32GB": (125.0, None, 15.7),
    "Tesla V100-PCIE-16GB": (112.0, None, 14.0),
    "Tesla V100-PCIE-32GB": (112.0, None, 14.0),
    "Tesla T4": (65.0, None, 8.1),
    "NVIDIA GeForce RTX 3090": (71.0, 35.6, 35.6),
    "GeForce RTX 3090": (71.0, 35.6, 35.6),
    "NVIDIA GeForce RTX 4090": (165.2, 82.6, 82.6),
    "NVIDIA GeForce RTX 5090": (209.5, 104.8, 104.8),
}


def peak(compute: Compute) -> float | None:
    """Look up the FLOP/s that this device could do in this dtype, or None where that is not known (on every CPU)."""
    if compute.device.type != "cuda" or compute.name not in PEAKS:
        return None
    half, tf32, float32 = PEAKS[compute.name]
    if compute.dtype == torch.float32:
        found = float32 if torch.get_float32_matmul_precision() == "highest" else tf32
    else:
        found = half if compute.dtype == torch.float16 or tf32 else None
    return None if found is None else found * 1e12
