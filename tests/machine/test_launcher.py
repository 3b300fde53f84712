"""Processes of several nodes agree on which start of theirs this is, whatever a launcher of one node counts."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from torch.distributed import HashStore

from cleangpt.machine.launcher import World, meet

SIZE = 3
SOON = timedelta(seconds=20)


def started(store, ranks=range(SIZE)):
    """The numbers that these ranks come to when they start together."""
    with ThreadPoolExecutor(SIZE) as pool:
        return list(pool.map(lambda rank: meet(store, World(rank, SIZE, 0, 1), SOON), ranks))


def test_all_processes_have_the_number_that_rank_0_counts():
    store = HashStore()
    assert started(store) == [1] * SIZE
    assert started(store, [2, 1, 0]) == [2] * SIZE


def test_what_processes_left_that_are_gone_is_not_taken_for_one_that_is_there():
    store = HashStore()
    started(store)
    store.set("cleangpt/asks/1", "one that was killed before it had an answer")
    with pytest.raises(TimeoutError, match="2 of 3 processes did not come"):
        meet(store, World(0, SIZE, 0, 1), timedelta(seconds=0.2))
    assert started(store) == [3] * SIZE


def test_without_rank_0_nobody_takes_an_old_number():
    store = HashStore()
    started(store)
    with pytest.raises(RuntimeError):
        meet(store, World(1, SIZE, 0, 1), timedelta(seconds=0.2))
