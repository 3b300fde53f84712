"""Requests to stop: a handler only sets a flag, which the loops read between steps."""

import os
import signal
import threading
import time
from typing import Any


class Stopped(Exception):
    """A signal asked to stop in the middle of an evaluation, whose result is not complete."""


# Those that this system has: Windows has neither SIGUSR1 nor SIGHUP.
ASKING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGBREAK") if hasattr(signal, name))


class Stop:
    """A flag that signals set: `number` is the one that asked to stop, or 0. A second Ctrl-C stops at once.

    One Ctrl-C reaches a process under torchrun twice, from the terminal and from torchrun: within a moment they
    count as one.
    """

    MOMENT = 2.0  # seconds

    def __init__(self) -> None:
        self.number = 0
        self._asked_at = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():  # no other hears of signals
            self._before = {number: signal.signal(number, self._asked) for number in ASKING}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def ask(self) -> None:
        """Ask to stop as SIGTERM does."""
        if not self.number:
            self.number, self._asked_at = signal.SIGTERM, time.monotonic()

    def _asked(self, number: int, _frame: object) -> None:
        repeated = number == signal.SIGINT and self.number == signal.SIGINT
        if repeated and ("RANK" not in os.environ or time.monotonic() - self._asked_at > self.MOMENT):
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        if not self.number:
            self.number, self._asked_at = number, time.monotonic()
