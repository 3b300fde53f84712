"""Be one of many processes that do not exist, to see what it would do."""

import contextlib
import gc
from collections.abc import Iterator

import torch.distributed as dist


@contextlib.contextmanager
def pretended(processes: int, rank: int = 0) -> Iterator[None]:
    """Be one of so many: collectives return at once, and bring nothing."""
    if processes == 1:
        yield
        return
    from torch.testing._internal.distributed.fake_pg import FakeStore  # which registers them too

    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=processes)
    try:
        yield
    finally:
        gc.collect()
        dist.destroy_process_group()
