"""What a process is set to before it computes: how its threads wait, how it keeps memory, when it collects garbage.

None of it changes a number that is computed.
"""

import ctypes
import gc
import os
import sys

SPINS = "2000"  # a tenth of a millisecond, more or less


def before_torch() -> None:
    """Let threads that wait for each other give up their core soon. OpenMP reads this when torch is imported.

    GNU's OpenMP would spin for up to 300,000 rounds, many milliseconds, and where another process needs the core all
    of it is lost: with two busy neighbours on two cores a step took 12 times as long as with this.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def keep_memory() -> None:
    """Have freed tensors stay with the process for the next step, instead of being fetched anew page by page."""
    if not sys.platform.startswith("linux"):
        return
    trim_threshold, mmap_threshold = -1, -3  # of glibc's mallopt; other libraries do without
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, 1 << 30)


def settle_garbage() -> None:
    """What was made so far stays until the end: no collection looks at it again."""
    gc.collect()
    gc.freeze()


def release_garbage() -> None:
    gc.unfreeze()
