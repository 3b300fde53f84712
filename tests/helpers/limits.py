"""A limit of time for a part of a test."""

import signal
from contextlib import contextmanager


@contextmanager
def within(seconds: int):
    """Fails what takes longer, instead of waiting for it."""

    def stop(*_):
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
