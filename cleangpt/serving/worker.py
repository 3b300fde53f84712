"""The process that has the model: it reads a request, and sends what it writes, token by token.

A request that was given up is left at the next token.
"""

import contextlib
import os
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

GONE = (EOFError, OSError, BrokenPipeError)


def work(pipe: Connection, folder: str, settings: dict[str, Any]) -> None:
    """Open the model, say how it is called, and write until nobody asks any more."""
    import signal

    from cleangpt.basics.errors import UserError
    from cleangpt.machine import guard

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server ends it
    guard.leave_with_parent(os.getppid())
    with contextlib.suppress(*GONE):
        try:
            does = opened(folder, settings)
        except UserError as error:
            pipe.send(("refused", str(error)))
            return
        pipe.send(("ready", does["about"]()))
        while True:
            number, request = pipe.recv()
            if request is None:
                continue  # given up before it began, or done
            try:
                for what in does[request[0]](*request[1:]):
                    pipe.send((number, *what))
                    if pipe.poll() and _is_given_up(pipe, number):
                        break
                pipe.send((number, "end", None))
            except UserError as error:
                pipe.send((number, "refused", str(error)))
            except GONE:
                raise
            except Exception as error:  # of this request, as one for more memory than there is: the next may be smaller
                pipe.send((number, "failed", f"{type(error).__name__}: {error}"))


def opened(folder: str, settings: dict[str, Any]) -> dict[str, Callable[..., Any]]:
    """Open the model, and list what can be asked of it."""
    from cleangpt.serving import speaking, writing
    from cleangpt.serving.model import Model

    model = Model(Path(folder), settings)
    return {
        "about": model.about,
        "complete": partial(writing.complete, model),
        "speak": partial(speaking.speak, model),
        "quiz": partial(speaking.quiz, model),
    }


def _is_given_up(pipe: Connection, number: int) -> bool:
    """Read what came meanwhile: while a request is worked on, only that it was given up."""
    given_up, nothing = pipe.recv()
    return given_up == number and nothing is None
