"""A model in a process of its own, for a server: requests wait in a line, and one that is given up makes room."""

import asyncio
import contextlib
import multiprocessing
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from cleangpt.basics.errors import UserError
from cleangpt.serving.worker import GONE, work

STARTS_WITHIN = 600.0  # seconds: a large model is read from a slow disk
ENDS_WITHIN = 5.0


class Full(Exception):
    """As many requests wait as may."""


class Broken(Exception):
    """The model's process is gone."""


class Failed(Exception):
    """The model's process could not do this request, and goes on with the next."""


class Engine:
    """One model. `ask` is for one event loop; the process is started and ended by whoever has the engine."""

    def __init__(self, folder: Path, settings: dict[str, Any], waiting: int):
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, str(folder), settings), daemon=True)
        self.process.start()
        theirs.close()
        self.most, self.count, self.number = waiting + 1, 0, 0
        self.turn = asyncio.Lock()
        self.about: dict[str, Any] = {}

    def wait(self) -> None:
        """Wait until the model has been read; a UserError says why it can't be."""
        try:
            if not self.pipe.poll(STARTS_WITHIN):
                raise UserError("the model was not read in ten minutes")
            kind, what = self.pipe.recv()
        except GONE:
            raise UserError("the model's process ended before it had read the model: is there memory for it?") from None
        if kind == "refused":
            raise UserError(what)
        self.about = what

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(*GONE):
            self.pipe.close()
        self.process.terminate()
        self.process.join(ENDS_WITHIN)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    async def ask(self, what: str, *asked: Any) -> AsyncGenerator[tuple[str, Any], None]:
        """Yield what the model's process says to a request, in its turn. Closing this gives the request up."""
        if self.count >= self.most:
            raise Full
        self.count += 1
        try:
            async with self.turn:
                self.number += 1
                number, ended = self.number, False
                self._send(number, (what, *asked))
                try:
                    while True:
                        said, kind, *told = await self._receive()
                        if said != number:
                            continue  # of one that was given up
                        if kind in ("end", "refused", "failed"):
                            ended = True
                        if kind == "refused":
                            raise UserError(told[0])
                        if kind == "failed":
                            raise Failed(told[0])
                        if ended:
                            return
                        yield kind, told[0]
                finally:
                    if not ended:  # whatever else it says is of an old number, and skipped
                        with contextlib.suppress(Broken):
                            self._send(number, None)
        finally:
            self.count -= 1

    def _send(self, number: int, asked: tuple[Any, ...] | None) -> None:
        try:
            self.pipe.send((number, asked))
        except GONE:
            raise Broken from None

    async def _receive(self) -> Any:
        """Read the next message, without keeping the event loop waiting."""
        loop = asyncio.get_running_loop()
        try:
            while not self.pipe.poll():
                ready = asyncio.Event()
                loop.add_reader(self.pipe.fileno(), ready.set)
                try:
                    await ready.wait()
                finally:
                    loop.remove_reader(self.pipe.fileno())
            return self.pipe.recv()
        except GONE:
            raise Broken from None
