"""Somebody else's side in a process of its own, where nothing is set as our programs set it: how threads wait and how
memory is kept is part of what is compared."""

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from cleangpt.machine import process
from cleangpt.machine.device import Compute
from cleangpt.watch.health import peak_memory

Work = Callable[[], int]  # does a little, and says how many tokens or problems it was


def turn(work: Work, seconds: float, compute: Compute) -> tuple[int, list[float]]:
    """Work for so long, once at least: how much was done, and the seconds of each call."""
    compute.synchronize()
    began = now = time.perf_counter()
    done, calls = 0, []
    while not calls or now - began < seconds:
        done += work()
        compute.synchronize()
        before, now = now, time.perf_counter()
        calls.append(now - before)
    return done, calls


class Apart:
    """Work that another process does: `make(*arguments)` is called there, and gives it."""

    def __init__(self, make: Callable[..., Work], arguments: tuple, compute: Compute):
        context = multiprocessing.get_context("spawn")
        self.here, there = context.Pipe()
        threads = torch.get_num_threads()
        self.process = context.Process(target=_serve, args=(there, make, arguments, compute, threads), daemon=True)
        with _as_it_was():
            self.process.start()
        there.close()  # so that the end of the process is the end of what can be read
        self._answer()

    def __call__(self) -> int:
        return self.turn(0.0)[0]

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


def _serve(pipe: Any, make: Callable[..., Work], arguments: tuple, compute: Compute, threads: int) -> None:
    torch.set_num_threads(threads)
    if compute.device.type == "cuda":
        torch.cuda.set_device(compute.device)
    try:
        work = make(*arguments)
        pipe.send("ready")
        while True:
            asked = pipe.recv()
            pipe.send(peak_memory(compute) if asked is None else turn(work, asked, compute))
    except (EOFError, KeyboardInterrupt):  # nobody asks any more
        return
    except Exception as error:
        pipe.send(error)


@contextlib.contextmanager
def _as_it_was() -> Iterator[None]:
    """The environment without what `process.before_torch` puts there."""
    ours = os.environ.get(process.SPINS_NAME) == process.SPINS
    if ours:
        del os.environ[process.SPINS_NAME]
    try:
        yield
    finally:
        if ours:
            os.environ[process.SPINS_NAME] = process.SPINS
