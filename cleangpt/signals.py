"""Being asked to stop: a handler only sets a flag, which the loops read between steps."""

import os
import signal
from typing import Any

ASKING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Stop:
    """`number` is the signal that asked to stop, or 0. A second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stop":
        self._before = {number: signal.signal(number, self._asked) for number in ASKING}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _asked(self, number: int, _frame: object) -> None:
        if number == signal.SIGINT and self.number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.number = number
