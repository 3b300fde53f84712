"""Run somebody else's side in a process of its own, where nothing is set as our programs set it: how threads wait and
how memory is kept is part of what is compared."""

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch

from cleangpt.machine import process
from cleangpt.machine.device import Compute
from cleangpt.measure.turns import Call, Here, Work


class OtherProcess(Work):
    """Work of another process: `make(*arguments)` is called there, and makes it."""

    def __init__(self, make: Callable[..., Call], arguments: tuple[Any, ...], compute: Compute):
        context = multiprocessing.get_context("spawn")
        self.here, there = context.Pipe()
        threads = torch.get_num_threads()
        self.process = context.Process(target=_serve, args=(there, make, arguments, compute, threads), daemon=True)
        with _environment_of_others():
            self.process.start()
        there.close()  # so that the end of the process is the end of what can be read
        self._answer()

    def turn(self, seconds: float) -> tuple[int, list[float]]:
        self.here.send(seconds)
        return self._answer()

    def peak_memory(self) -> int | None:
        self.here.send(None)
        return self._answer()

    def _answer(self) -> Any:
        try:
            answer = self.here.recv()
        except EOFError:
            self.process.join()
            raise RuntimeError(f"the other side ended with status {self.process.exitcode}") from None
        if isinstance(answer, Exception):
            raise answer
        return answer


def _serve(pipe: Any, make: Callable[..., Call], arguments: tuple[Any, ...], compute: Compute, threads: int) -> None:
    """Work when it is asked for so many seconds, and tell the peak of memory when it is asked for nothing."""
    torch.set_num_threads(threads)
    if compute.device.type == "cuda":
        torch.cuda.set_device(compute.device)
    try:
        work = Here(make(*arguments), compute)
        pipe.send("ready")
        while True:
            asked = pipe.recv()
            pipe.send(work.peak_memory() if asked is None else work.turn(asked))
    except (EOFError, KeyboardInterrupt):  # nobody asks any more
        return
    except Exception as error:
        pipe.send(error)


@contextlib.contextmanager
def _environment_of_others() -> Iterator[None]:
    """Take out of the environment what `process.before_torch` puts there."""
    ours = os.environ.get(process.SPINS_NAME) == process.SPINS
    if ours:
        del os.environ[process.SPINS_NAME]
    try:
        yield
    finally:
        if ours:
            os.environ[process.SPINS_NAME] = process.SPINS
