"""What a process is set to before it computes: how its threads wait, how it keeps memory, when it collects garbage.

None of it changes a number that is computed.
"""

import ctypes
import gc
import os
import sys

SPINS = "20000"  # about a millisecond
HUGE = 1 << 29  # bytes that may lie in huge pages
PAGE = 1 << 21


def before_torch() -> None:
    """Let threads that wait for each other give up their core soon. OpenMP reads this when torch is imported.

    GNU's OpenMP would spin for up to 300,000 rounds, many milliseconds, and where another process needs the core all
    of it is lost: with two busy neighbours on two cores a step took 12 times as long as with this.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def keep_memory() -> None:
    """Have freed tensors stay with the process for the next step, instead of being fetched anew page by page, and have
    them lie in huge pages, where addresses are found sooner."""
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
    """What was made so far stays until the end: no collection looks at it again."""
    gc.collect()
    gc.freeze()


def release_garbage() -> None:
    gc.unfreeze()
