"""No orphans: a process whose launcher is gone saves a snapshot and leaves.

Whoever is killed at once (SIGKILL, out of memory) can't tell the processes that it started: a sweep its jobs, a
torchrun its workers. They notice by themselves, in the same way on every system.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Mapping

PARENT = "CLEANGPT_PARENT"  # in the environment: the process that says so itself
LOOK_EVERY = 0.5  # seconds
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # on Windows both end at once
STUCK_AFTER = 300.0  # seconds, for a snapshot to be written; others may be gone that this process waits for

Link = tuple[int, int]  # a process, and the one that started it


def announced(environment: Mapping[str, str]) -> dict[str, str]:
    """Make an environment for children of this process, which tells them whom to watch."""
    return {**environment, PARENT: str(os.getpid())}


def leave_with_parent(parent: int | None = None) -> None:
    """Have this process get a SIGTERM when whoever started it is gone.

    That is the parent that is given or was announced to it, or the launcher that made it one of several processes. One
    that a person started alone, or with nohup or setsid, may outlive the shell.
    """
    if links := _links() if parent is None else [(os.getpid(), parent)]:
        threading.Thread(target=_watch, args=(links,), name="guard", daemon=True).start()


def _links() -> list[Link]:
    me, parent = os.getpid(), os.environ.pop(PARENT, None)
    if parent is not None:
        return [(me, int(parent))]
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return []
    links = [(me, os.getppid())]
    if "TORCHELASTIC_RUN_ID" in os.environ:  # there may be a script between torchrun and this process
        while links[-1][0] != os.getsid(0) and (above := _parent_of(links[-1][1])):  # torchrun's own children lead one
            links.append((links[-1][1], above))
    elif signal.getsignal(signal.SIGHUP) == signal.SIG_IGN or os.getsid(0) == me:  # by nohup or setsid, to live on
        return []
    return links


def _watch(links: list[Link]) -> None:
    while all(_is_held(*link) for link in links):
        time.sleep(LOOK_EVERY)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STUCK_AFTER)
    os.kill(os.getpid(), KILL)


def _is_held(child: int, parent: int) -> bool:
    return (os.getppid() if child == os.getpid() else _parent_of(child)) == parent


def _parent_of(pid: int) -> int | None:
    """Find the parent of a process, where the system tells it."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return None


def is_there(pid: int) -> bool:
    """Tell whether there is a process of this number that this one may ask. On Windows that can't be asked: no."""
    if os.name == "nt":  # where a signal of number 0 is Ctrl-C
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, 0)
        return True
    return False


def kill_with_descendants(pid: int) -> None:
    """End a process and all that it started at once, those in sessions of their own included."""
    for process in [pid, *_descendants(pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, KILL)


def _descendants(pid: int) -> list[int]:
    """Find the processes that this one started, and they in turn, as far as the system tells."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else []:
        if name.isdigit() and (parent := _parent_of(int(name))) is not None:
            children.setdefault(parent, []).append(int(name))
    found, look = [], [pid]
    while look:
        below = children.get(look.pop(), [])
        found += below
        look += below
    return found
