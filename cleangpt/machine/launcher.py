"""The place of a process in its launch, and words between processes beside the process group."""

import contextlib
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]  # torch doesn't mark them as exported

from cleangpt.basics.errors import UserError

PATIENCE = timedelta(minutes=10)  # for processes that are started later than this one
LOOK_EVERY = 0.05  # seconds
_store: TCPStore | None = None
_attempt: str | None = None


@dataclass(frozen=True)
class World:
    """The place of this process among those of the launch."""

    rank: int
    size: int
    local_rank: int
    local_size: int

    @property
    def is_main(self) -> bool:
        return self.rank == 0


def launched() -> bool:
    """Test whether a launcher (torchrun, or a scheduler that speaks its language) started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def world() -> World:
    def number(name: str, default: int) -> int:
        return int(os.environ.get(name) or default) if launched() else default

    return World(number("RANK", 0), number("WORLD_SIZE", 1), number("LOCAL_RANK", 0), number("LOCAL_WORLD_SIZE", 1))


def store() -> TCPStore:
    """Open the key-value store of the launcher: it lives as long as the launch, restarts of workers included."""
    global _store
    if _store is None:
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        hosts = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" and world().is_main
        _store = TCPStore(host, port, world().size, is_master=hosts, timeout=PATIENCE)
    return _store


def agree(key: str, proposal: str) -> str:
    """Make the first proposal of any rank everyone's, those of a later restart included."""
    if not launched():
        return proposal
    return store().compare_set(f"cleangpt/{key}", "", proposal).decode()


def this_attempt(key: str) -> str:
    """Make a key of this start of the workers; the store outlives restarts."""
    global _attempt
    if _attempt is None:
        if world().size > world().local_size:
            _attempt = f"of nodes/{meet(store(), world())}"
        else:
            _attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return f"cleangpt/{_attempt}/{key}"


def meet(store: Store, here: World, patience: timedelta = PATIENCE) -> int:
    """Wait for all processes of this start; its number, which rank 0 counts.

    Each node's torchrun counts restarts by itself, and one whose machine was replaced begins at 0. So the others ask
    rank 0 for the number, with a name that nobody had before, and say that they know it: what the store still holds of
    processes that are gone is neither taken for an answer nor for a process that is there.
    """
    if here.is_main:
        number, deadline = store.add("cleangpt/starts", 1), time.monotonic() + patience.total_seconds()
        missing = set(range(1, here.size))
        while missing := {rank for rank in missing if not store.check([f"cleangpt/start {number}/{rank}"])}:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(missing)} of {here.size} processes did not come")
            for rank in missing:
                if store.check([f"cleangpt/asks/{rank}"]):
                    store.set(f"cleangpt/answers/{store.get(f'cleangpt/asks/{rank}').decode()}", str(number))
            time.sleep(LOOK_EVERY)
        return number
    name = uuid.uuid4().hex
    store.set(f"cleangpt/asks/{here.rank}", name)
    store.wait([f"cleangpt/answers/{name}"], patience)
    number = int(store.get(f"cleangpt/answers/{name}"))
    store.set(f"cleangpt/start {number}/{here.rank}", "here")
    return number


def broadcast_from_rank0(key: str, say: Callable[[], str]) -> str:
    """Broadcast what rank 0 says, before there is a process group. A UserError of its is raised on all ranks."""
    if not launched():
        return say()
    key = this_attempt(key)
    if world().is_main:
        try:
            store().set(key, "+" + say())
        except UserError as error:
            store().set(key, f"-{error}")
            raise
    store().wait([key], timedelta(days=1))  # it may fetch weights first
    told = store().get(key).decode()
    if told.startswith("-"):
        raise UserError(told[1:])
    return told[1:]


def happened(key: str) -> bool:
    """Test whether `note` was called in this launch, before a restart of its workers too."""
    return launched() and store().check([f"cleangpt/{key}"])


def note(key: str) -> None:
    if launched():
        store().set(f"cleangpt/{key}", "yes")


def tell(key: str, text: str) -> None:
    """Leave word for a thread of another process."""
    store().set(this_attempt(key), text)


def hear(key: str, seconds: float) -> str:
    """Wait for a word that is told once; an OSError where none comes.

    It asks again and again, since whoever waits in the store keeps all other threads of the process from it.
    """
    key, end = this_attempt(key), time.monotonic() + seconds
    try:
        while not store().check([key]):
            if told_failure() or time.monotonic() > end:
                raise TimeoutError("another process did not do its part")
            time.sleep(0.02)
        text = store().get(key).decode()
        store().delete_key(key)
        return text
    except RuntimeError as error:
        raise OSError(f"the launcher can't be asked: {error}") from None


def tell_failure(text: str) -> None:
    """Leave word of what ended this process, for rank 0 to write down."""
    with contextlib.suppress(Exception):  # the launcher may be gone, and what failed matters more
        if _attempt is not None:
            store().compare_set(this_attempt("failure"), "", text)


def told_failure() -> str | None:
    """Read what another process said before it ended."""
    with contextlib.suppress(Exception):
        if _attempt is not None and store().check([this_attempt("failure")]):
            return store().get(this_attempt("failure")).decode()
    return None
