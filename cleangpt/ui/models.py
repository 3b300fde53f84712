"""Models that are asked from the page, each in a process of its own, which ends when nobody asked it for a while."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cleangpt.basics.errors import UserError
from cleangpt.disk.rundir import WEIGHTS, RunDir, weights_in
from cleangpt.serving.engine import Engine, Full
from cleangpt.ui.live import Live
from cleangpt.ui.looking import folder_of, weights

MOST = 2  # open at once
IDLE = 600.0  # seconds, after which a model is closed
Key = tuple[Path, int, int]  # a folder, and which weights were there


@dataclass
class Held:
    """A model that is open, or is being opened."""

    opening: asyncio.Task[Engine]
    users: int = 0
    asked: float = 0.0  # when it was last needed


class Models:
    """The models of runs, opened as they are asked for. All of it is for one event loop."""

    def __init__(self, live: Live, settings: dict[str, Any], waiting: int):
        self.live, self.settings, self.waiting = live, settings, waiting
        self.held: dict[Key, Held] = {}

    def names(self) -> dict[str, int]:
        """Name each model as clients of OpenAI's form do: the run, and which of its weights."""
        self.live.refresh()
        found = {}
        for path, entry in self.live.index.entries.items():
            for label in weights(RunDir(path)):
                if (made := _made(path, label)) is not None:
                    found[f"{entry.name}/{label}"] = made
        return found

    def made(self, name: str) -> int | None:
        """Say when one of them was made; None where there is none of this name."""
        run, _, label = name.rpartition("/")
        path = self._path(run)
        return None if path is None else _made(path, label)

    def _path(self, run: str) -> Path | None:
        return next((path for path, entry in self.live.index.entries.items() if entry.name == run), None)

    def open(self, name: str) -> contextlib.AbstractAsyncContextManager[Engine]:
        run, _, label = name.rpartition("/")
        return self.opened(self._path(run) or Path(run), label)

    @contextlib.asynccontextmanager
    async def opened(self, path: Path, label: str) -> AsyncIterator[Engine]:
        """Have a model ready as long as it is needed."""
        try:
            folder = folder_of(RunDir(path), label)
            if folder is None:
                raise FileNotFoundError
            held = self._held(folder)
        except OSError:
            raise UserError(f"{label} is not there: it may have been replaced by newer weights") from None
        held.users += 1
        try:
            yield await asyncio.shield(held.opening)
        finally:
            held.users -= 1
            loop = asyncio.get_running_loop()
            held.asked = loop.time()
            loop.call_later(IDLE + 1, self._close_idle)

    def close(self) -> None:
        """End all processes, when the event loop has ended."""
        for held in self.held.values():
            if held.opening.done() and not _is_broken(held):
                held.opening.result().close()

    def _held(self, folder: Path) -> Held:
        found = (weights_in(folder) or folder / WEIGHTS).stat()
        key = (folder, found.st_ino, found.st_mtime_ns)
        known = self.held.get(key)
        if known is not None and _is_broken(known):
            self._close(key)
            known = None
        if known is None:
            self._make_room(folder)
            known = self.held[key] = Held(asyncio.create_task(asyncio.to_thread(self._start, folder)))
        return known

    def _make_room(self, folder: Path) -> None:
        """Close what is of older weights, and who was not asked for the longest time."""
        idle = sorted((held.asked, key) for key, held in self.held.items() if not held.users)
        for _, key in idle:
            if key[0] == folder or len(self.held) >= MOST:
                self._close(key)
        if len(self.held) >= MOST:
            raise Full(f"{MOST} models are open and busy, and no more may be: try again in a moment")

    def _start(self, folder: Path) -> Engine:
        engine = Engine(folder, {**self.settings, "run": str(folder)}, self.waiting)
        try:
            engine.wait()
        except BaseException:
            engine.close()
            raise
        return engine

    def _close_idle(self) -> None:
        now = asyncio.get_running_loop().time()
        for key, held in list(self.held.items()):
            if not held.users and held.opening.done() and now - held.asked >= IDLE:
                self._close(key)

    def _close(self, key: Key) -> None:
        held = self.held.pop(key)
        held.opening.add_done_callback(_end)


def _made(path: Path, label: str) -> int | None:
    with contextlib.suppress(OSError):
        folder = folder_of(RunDir(path), label)
        found = None if folder is None else weights_in(folder)
        return None if found is None else int(found.stat().st_mtime)
    return None


def _end(opening: "asyncio.Task[Engine]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        asyncio.get_running_loop().run_in_executor(None, opening.result().close)


def _is_broken(held: Held) -> bool:
    """Tell whether a model could not be opened, or its process is gone."""
    opening = held.opening
    if not opening.done():
        return False
    return opening.cancelled() or opening.exception() is not None or not opening.result().process.is_alive()
