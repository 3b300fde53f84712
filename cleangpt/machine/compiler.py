"""torch.compile on this machine: whether it finds a compiler, and how it chooses its kernels."""

import os
import shutil


def has_compiler() -> bool:
    """Look whether torch.compile will find the compiler that it writes its kernels for."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++", "cl"]
    return any(shutil.which(name) for name in names)


def without_a_stopwatch() -> None:
    """Have torch's compiler choose among kernels that round differently by rule. It would time them."""
    from torch._inductor import config

    if "TORCHINDUCTOR_DETERMINISTIC" not in os.environ and hasattr(config, "deterministic"):
        config.deterministic = True
