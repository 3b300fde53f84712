"""Count the cores that this process may use, and divide them. torch is not loaded for it."""

import math
import os
from pathlib import Path


def usable() -> int:
    """Count the cores that this process may use: those it is bound to, two threads of one once, within its quota."""
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
    """Read how many processors a container may keep busy, where it is limited."""
    try:
        limit, period = (folder / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        return None


def share(processes: int) -> int:
    """Divide the cores among so many processes on this machine."""
    return max(1, usable() // processes)
