"""Begin a program, and end it when a signal asks for that.

What takes long is announced, a process whose launcher is gone leaves, and Ctrl-C and SIGTERM end it with a word and
128 + the signal.

Where there is something to finish, signals get other handlers later (signals.py, sweeps/loop.py).
This is the first that each program imports, so nothing that takes time is imported at its head.
"""

import atexit
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM)

_program = 0  # the process that began; what it forks ends without a word
_unwinds = False  # whether an interruption may be an exception
_takes_back: list[Callable[[], None]] = []  # for a program that ends before it has done anything


def program() -> None:
    """Begin a program, before all else."""
    global _program
    _program = os.getpid()
    for number in ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:  # which nohup and a shell's & ask for
            signal.signal(number, _asked)
    atexit.register(gc.freeze)  # the interpreter's last collections find nothing to look at: of torch they take 0.7 s
    from cleangpt.machine import guard
    from cleangpt.terminal import patience

    guard.leave_with_parent()
    patience.starting()


def take_back(action: Callable[[], None]) -> None:
    """Have this done where the program is interrupted."""
    _takes_back.append(action)


@contextlib.contextmanager
def unwinding() -> Iterator[None]:
    """Make an interruption an exception in here, so that what was begun is closed in order; it is caught here.

    Elsewhere it ends the program at once: libraries that import or compose lose exceptions, or make others of them.
    """
    global _unwinds
    _unwinds = True
    try:
        yield
    except KeyboardInterrupt:
        _unwinds = False
        _say(signal.SIGINT)
        _take_back_all()
        sys.exit(128 + signal.SIGINT)
    except SystemExit:
        _take_back_all()
        raise
    finally:
        _unwinds = False


def _asked(number: int, frame: FrameType | None) -> None:
    if os.getpid() == _program:
        if _unwinds and not _imports(frame):
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            _say(number)
            raise SystemExit(128 + number)
        _say(number)
        _take_back_all()
        with contextlib.suppress(Exception):  # it may have been interrupted in its very writing
            sys.stdout.flush()
    os._exit(128 + number)


def _imports(frame: FrameType | None) -> bool:
    """Look whether a module is being imported."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _take_back_all() -> None:
    while _takes_back:
        with contextlib.suppress(Exception):
            _takes_back.pop()()


def _say(number: int) -> None:
    """Write one line on standard error, by the first of several processes."""
    if os.environ.get("RANK", "0") != "0":
        return
    with contextlib.suppress(Exception):
        from cleangpt.terminal import patience

        patience.wipe()
    word = "Interrupted." if number == signal.SIGINT else f"Stopped by {signal.Signals(number).name}."
    with contextlib.suppress(OSError):
        os.write(2, f"{word}\n".encode())
