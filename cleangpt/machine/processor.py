"""The processor: its name, and in which dtypes it has instructions to multiply matrices. Nothing is timed."""

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# As Linux names them: Intel's tiles, the dot products of AVX-512 (AMD's from Zen 4 on), and Arm's. Without one of them
# torch computes all the same, but by way of float32: twice to a hundred times slower than in float32 itself.
INSTRUCTIONS = {"bfloat16": {"amx_bf16", "avx512_bf16", "bf16"}, "float16": {"amx_fp16", "avx512_fp16", "asimdhp"}}


def name() -> str:
    return _about().get("model name") or platform.processor() or platform.machine()


def flags() -> frozenset[str]:
    """List what the processor says that it can do; nothing where the system does not tell."""
    found = _about()
    return frozenset((found.get("flags") or found.get("Features") or "").split())


def computes_in(dtype: str) -> bool:
    """Test whether matmuls in this dtype are the processor's own."""
    return dtype == "float32" or bool(INSTRUCTIONS[dtype] & flags())


def _about() -> dict[str, str]:
    """Read what Linux says of the first processor."""
    try:
        first = CPUINFO.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    except OSError:
        return {}
    lines = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}
