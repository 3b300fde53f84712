"""What threads of several processes tell each other while they write one snapshot, through the launcher's store.

They write into one folder, which all have to see. A collective in a thread could meet one of the training's, and
neither would end.
"""

import contextlib
import json
import os
import secrets
import socket
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from cleangpt.basics.errors import UserError
from cleangpt.disk.rundir import RunDir, writable
from cleangpt.machine import distributed, launcher

LONG = 3600.0  # seconds that a process may take to write its file
SEEN = 15.0  # seconds after which a file of another machine is seen wherever its folder is shared
_numbers = count()  # of snapshots: all processes begin the same ones, in the same order


def refuse_folders_apart(run: RunDir) -> None:
    """Refuse processes that do not see one run directory, where each of them is to write its part of snapshots."""
    token = run.path / f".together.{secrets.token_hex(8)}"

    def leave() -> str:
        with writable(run):
            run.path.mkdir(parents=True, exist_ok=True)
            token.touch()
        return token.name

    name = distributed.from_main(leave)
    try:
        apart = [where for where in distributed.gather(_lacks(run.path, name)) if where]
    finally:
        with contextlib.suppress(OSError):  # of a machine that may not write there
            token.unlink(missing_ok=True)
    if apart:
        raise UserError(
            f"{run.shown()} is not seen on {apart[0]}, and with train.shard=full each process writes its part of "
            "snapshots there: choose a hydra.run.dir that all nodes share, or train.shard=none"
        )


def _lacks(folder: Path, name: str) -> str:
    """Look for a file; the name of this machine if it is not seen here."""
    end = time.monotonic() + SEEN
    while True:
        with contextlib.suppress(OSError):
            if name in os.listdir(folder):  # which asks a server, where looking for one file may not
                return ""
        if not folder.parent.exists() or time.monotonic() > end:
            return socket.gethostname()
        time.sleep(0.1)


@dataclass(frozen=True)
class Together:
    """The processes that write one snapshot, each one file of it. The first one leads."""

    place: int
    count: int
    number: int

    @classmethod
    def next(cls, place: int, count: int) -> "Together":
        return cls(place, count, next(_numbers))

    def lead(self, folder: str | None) -> None:
        """Tell the others where to write, or that nothing is written."""
        for place in range(1, self.count):
            launcher.tell(self._key("where", place), json.dumps(folder))

    def where(self) -> str | None:
        """Hear where to write."""
        return json.loads(launcher.hear(self._key("where", self.place), LONG))

    def done(self, about: dict[str, Any]) -> None:
        """Tell the first one what was written, or what went wrong."""
        launcher.tell(self._key("done", self.place), json.dumps(about))

    def others(self) -> dict[str, Any]:
        """Hear what the others wrote; an OSError where one of them could not."""
        told = {place: json.loads(launcher.hear(self._key("done", place), LONG)) for place in range(1, self.count)}
        for place, about in told.items():
            if "wrong" in about:
                raise OSError(f"{about['wrong']}, on process {place}")
        return {about.pop("name"): about for about in told.values()}

    def _key(self, what: str, place: int) -> str:
        return f"snapshot/{self.number}/{what}/{place}"
