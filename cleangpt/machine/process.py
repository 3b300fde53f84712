"""Set up a process before it computes: how its threads wait, how it keeps memory, when it collects garbage.

None of it changes a number that is computed.
"""

import ctypes
import gc
import os
import sys
import time
from pathlib import Path

from cleangpt.basics.errors import UserError

SPINS_NAME, SPINS = "GOMP_SPINCOUNT", "2000"  # about a tenth of a millisecond
HUGE = 1 << 29  # bytes that may lie in huge pages
PAGE = 1 << 21


def before_torch() -> None:
    """Let threads that wait for each other give up their core soon, where others use this machine too.

    OpenMP reads this when torch is imported.
    GNU's OpenMP spins for 300,000 rounds, twenty milliseconds perhaps, lost where another process has the core:
    of a small model on two cores, beside a process that needs one, 3.6 thousand tokens a second were seen, and 10 with
    this. On a machine of one's own, waking threads so often costs 12%.
    """
    asked = {"OMP_WAIT_POLICY", SPINS_NAME, "OMP_NUM_THREADS"} & set(os.environ)
    if not asked and others_are_busy():
        os.environ[SPINS_NAME] = SPINS


def others_are_busy() -> bool:
    """Look whether other processes run all the time of a hundredth of a second, more than there are cores to spare."""
    usable = getattr(os, "sched_getaffinity", lambda _: ())(0)
    spare = (os.cpu_count() or 1) - len(usable)
    try:
        for _ in range(6):
            running = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[0]) - 1  # besides this one
            if running <= spare:
                return False
            time.sleep(0.002)
    except (OSError, ValueError, IndexError):
        return False
    return True


def refuse_several(what: str) -> None:
    """Refuse what needs several processes, where the system has neither the sessions nor the signals for them."""
    if not hasattr(os, "setsid"):
        raise UserError(f"{what} Linux or macOS (on Windows, WSL): train one at a time, with processes=1")


def keep_memory() -> None:
    """Keep the memory of freed tensors for the next step, in huge pages, where addresses are found sooner."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):  # glibc has it; other libraries do without
        return
    trim_threshold, mmap_threshold, huge_pages = -1, -3, 14
    libc.mallopt(mmap_threshold, 1 << 30)
    libc.mallopt(trim_threshold, 1 << 30)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    # Addresses only: memory is taken when something is written there. What is freed is where the next tensors will lie.
    if place := libc.malloc(HUGE):
        first = -(-place // PAGE) * PAGE
        libc.madvise(first, (place + HUGE - first) // PAGE * PAGE, huge_pages)
        libc.free(place)


def settle_garbage() -> None:
    """Keep what was made so far until the end: no collection looks at it again."""
    gc.collect()
    gc.freeze()


def release_garbage() -> None:
    gc.unfreeze()
