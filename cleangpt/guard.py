"""No orphans: a process whose parent is gone saves a snapshot and leaves.

Whoever starts trainings names itself in their environment. A sweep that is killed at once (SIGKILL, out of memory)
can't tell its jobs, nor a torchrun its workers; they notice by themselves, in the same way on every system.
"""

import os
import signal
import threading
import time
from collections.abc import Mapping

PARENT = "CLEANGPT_PARENT"
LOOK_EVERY = 0.5  # seconds


def announced(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for children of this process, which tells them whom to watch."""
    return {**environment, PARENT: str(os.getpid())}


def leave_with_parent() -> None:
    """From here on, this process gets a SIGTERM when the parent that was announced to it is gone."""
    parent = os.environ.pop(PARENT, None)
    if parent is not None:
        threading.Thread(target=_watch, args=(int(parent),), name="guard", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY)
    os.kill(os.getpid(), signal.SIGTERM)


def kill_with_descendants(pid: int) -> None:
    """End a process and all that it started at once, those in sessions of their own included."""
    for process in [pid, *_descendants(pid)]:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _descendants(pid: int) -> list[int]:
    """Processes that this one started, and they in turn, as far as the system tells."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else []:
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(name))
    found, look = [], [pid]
    while look:
        below = children.get(look.pop(), [])
        found += below
        look += below
    return found
