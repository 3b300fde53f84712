"""A run that is trained says so, and can be asked to stop, by two files in its directory.

`alive` names the process and is touched every ten seconds, so whoever shares the disk sees that it lives. A file
`stop`, whatever is in it, asks the training to save and end, as SIGTERM does.
"""

import contextlib
import os
import platform
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cleangpt.basics import files, untrusted
from cleangpt.disk.rundir import RunDir

EVERY = 10.0  # seconds from one touch to the next
STALE = 3.5 * EVERY  # without a touch: a touch or two may be late on a busy machine or a slow disk
LOOK_EVERY = 1.0
CUT_OFF = "cut_off"
BOOT = Path("/proc/sys/kernel/random/boot_id")


class Alive:
    """Keeps the file `alive` fresh, and looks for `stop`, in a thread, until it is closed."""

    def __init__(self, run: RunDir, stop: Callable[[], None]):
        self.run, self.stop = run, stop
        self.closing = threading.Event()
        with contextlib.suppress(OSError):  # a disk that is full, or gone, is told elsewhere
            self.run.stop.unlink(missing_ok=True)  # of an earlier part: it has been heard
            files.write_json(run.alive, _this_process())
        self.thread = threading.Thread(target=self._keep, name="alive", daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Say that nothing is trained here any more."""
        self.closing.set()
        self.thread.join()
        for path in (self.run.alive, self.run.stop):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _keep(self) -> None:
        touched = time.monotonic()
        while not self.closing.wait(LOOK_EVERY):
            if os.path.lexists(self.run.stop):
                self.stop()
            if time.monotonic() - touched >= EVERY:
                touched = time.monotonic()
                with contextlib.suppress(OSError):  # a directory that was taken away is not made anew
                    os.utime(self.run.alive)


def lives(run: RunDir) -> bool:
    """Tell whether a run is trained just now, here or on a machine that shares the disk."""
    try:
        age = time.time() - run.alive.stat(follow_symlinks=False).st_mtime
        said = untrusted.json_object(run.alive)
    except (OSError, ValueError):
        return False
    here = {key: said.get(key) for key in ("host", "boot")} == {"host": platform.node(), "boot": _boot()}
    if here and _boot() and type(said.get("pid")) is int:
        return _began(said["pid"]) is not None and _began(said["pid"]) == said.get("began")
    return abs(age) < STALE


def status(run: RunDir, ended: str | None) -> str:
    """Say how a run stands: running, how it ended as summary.json says, or cut off where it says nothing."""
    return "running" if lives(run) else ended or CUT_OFF


def ask_to_stop(run: RunDir) -> None:
    """Leave a request to stop, which the training hears within a second or two."""
    files.write_text(run.stop, "")


def _this_process() -> dict[str, Any]:
    return {"host": platform.node(), "boot": _boot(), "pid": os.getpid(), "began": _began(os.getpid())}


def _boot() -> str | None:
    """Tell this start of this machine, and of this container, from all others, where the system says so."""
    with contextlib.suppress(OSError):
        return f"{BOOT.read_text(encoding='ascii').strip()} {os.readlink('/proc/self/ns/pid')}"
    return None


def _began(pid: int) -> int | None:
    """Find when a process began, in ticks since the machine did: numbers of processes are used again."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        state, *fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return None if state in (b"Z", b"X") else int(fields[18])  # one that nobody has buried yet is dead too
    return None
