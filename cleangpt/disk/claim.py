"""One training at a time in a run directory.

Whoever trains there holds a lock on the folder, taken before looking at what the folder holds, so that nothing
changes between the look and the training. The lock ends with the process.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cleangpt.basics import files
from cleangpt.basics.errors import UserError
from cleangpt.disk.rundir import RunDir, writable

TIME_TO_LEAVE = 60.0  # seconds that a training has which was left behind, and saves a snapshot first
LOOK_EVERY = 0.2


@contextlib.contextmanager
def alone_in(run: RunDir, waits: bool) -> Iterator[None]:
    """Claim a run directory for this process. `waits` allows one that is leaving its time."""
    with writable(run):
        run.path.mkdir(parents=True, exist_ok=True)
    handle = lock(run.path, TIME_TO_LEAVE if waits else 0.0, lambda line: print(line, flush=True))
    try:
        yield
    finally:
        os.close(handle)


def lock(folder: Path, patience: float, say: Callable[[str], None]) -> int:
    """Lock a folder, after waiting so many seconds for whoever has it; the handle of the lock."""
    deadline, shown = time.monotonic() + patience, RunDir(folder).shown()
    told = False
    while True:
        handle = files.lock(folder)
        if handle is not None and _is_still(folder, handle):
            return handle
        if handle is not None:  # another one took the folder back that it had made, and let go of that
            os.close(handle)
            folder.mkdir(parents=True, exist_ok=True)
            continue
        if time.monotonic() >= deadline:
            raise UserError(f"{shown} is being trained by another process: wait until it has ended, or stop it")
        if not told:
            told = True
            say(f"Waiting up to {patience:.0f} s for a process that still trains in {shown} …")
        time.sleep(LOOK_EVERY)


def _is_still(folder: Path, handle: int) -> bool:
    if not files.HAS_HANDLES:
        return folder.exists()
    try:
        return os.path.samestat(os.stat(folder), os.fstat(handle))
    except FileNotFoundError:
        return False
