"""How much arithmetic a device could do, to which model FLOPs utilisation compares what a model does."""

import torch

from cleangpt.machine.device import Compute

# Dense peaks in TFLOP/s, after NVIDIA's data sheets and architecture papers: tensor cores with sums in float32 for
# bfloat16, float16 and tf32, the ordinary cores for float32. Where a sheet has only the doubled number of structured
# sparsity, it is halved here.
H100 = {"bfloat16": 989.4, "float16": 989.4, "tf32": 494.7, "float32": 66.9}
H100_PCIE = {"bfloat16": 756.0, "float16": 756.0, "tf32": 378.0, "float32": 51.2}
H100_NVL = {"bfloat16": 835.5, "float16": 835.5, "tf32": 417.5, "float32": 60.0}
B200 = {"bfloat16": 2250.0, "float16": 2250.0, "tf32": 1125.0, "float32": 75.0}
A100 = {"bfloat16": 312.0, "float16": 312.0, "tf32": 156.0, "float32": 19.5}
A10 = {"bfloat16": 125.0, "float16": 125.0, "tf32": 62.5, "float32": 31.2}
L4 = {"bfloat16": 121.0, "float16": 121.0, "tf32": 60.0, "float32": 30.3}
L40S = {"bfloat16": 362.1, "float16": 362.1, "tf32": 183.0, "float32": 91.6}
V100_SXM = {"float16": 125.0, "float32": 15.7}
V100_PCIE = {"float16": 112.0, "float32": 14.0}
T4 = {"float16": 65.0, "float32": 8.1}
RTX_3090 = {"bfloat16": 71.0, "float16": 71.0, "tf32": 35.6, "float32": 35.6}
RTX_4090 = {"bfloat16": 165.2, "float16": 165.2, "tf32": 82.6, "float32": 82.6}
RTX_5090 = {"bfloat16": 209.5, "float16": 209.5, "tf32": 104.8, "float32": 104.8}

# By the name that the driver gives: a card that is not here has no peak, rather than that of a relative.
PEAKS: dict[str, dict[str, float]] = {
    "NVIDIA B200": B200,
    "NVIDIA H200": H100,
    "NVIDIA H200 NVL": H100_NVL,
    "NVIDIA H100 80GB HBM3": H100,
    "NVIDIA H100 PCIe": H100_PCIE,
    "NVIDIA H100 NVL": H100_NVL,
    "NVIDIA A100-SXM4-40GB": A100,
    "NVIDIA A100-SXM4-80GB": A100,
    "NVIDIA A100-PCIE-40GB": A100,
    "NVIDIA A100 80GB PCIe": A100,
    "A100-SXM4-40GB": A100,
    "A100-SXM4-80GB": A100,
    "A100-PCIE-40GB": A100,
    "NVIDIA A10": A10,
    "NVIDIA L4": L4,
    "NVIDIA L40S": L40S,
    "Tesla V100-SXM2-16GB": V100_SXM,
    "Tesla V100-SXM2-32GB": V100_SXM,
    "Tesla V100-PCIE-16GB": V100_PCIE,
    "Tesla V100-PCIE-32GB": V100_PCIE,
    "Tesla T4": T4,
    "NVIDIA GeForce RTX 3090": RTX_3090,
    "GeForce RTX 3090": RTX_3090,
    "NVIDIA GeForce RTX 4090": RTX_4090,
    "NVIDIA GeForce RTX 5090": RTX_5090,
}


def peak(compute: Compute) -> float | None:
    """Look up the FLOP/s that this device could do in this dtype, or None where that is not known (on every CPU)."""
    if compute.device.type != "cuda":
        return None
    arithmetic = str(compute.dtype).removeprefix("torch.")
    if arithmetic == "float32" and torch.get_float32_matmul_precision() != "highest":
        arithmetic = "tf32"
    found = PEAKS.get(compute.name, {}).get(arithmetic)
    return None if found is None else found * 1e12
