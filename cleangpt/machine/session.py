"""Set up a process that computes: its device, its share of the cores, its place in the process group."""

import contextlib
from collections.abc import Iterator

from cleangpt.machine import device, distributed, launcher, process
from cleangpt.machine.device import Compute
from cleangpt.machine.launcher import World
from cleangpt.terminal import patience


def alone(asked_device: str, asked_dtype: str, parameters: int) -> Compute:
    """Set up a program of one process, for a model of this size."""
    compute = device.choose(asked_device, device.decided_dtype(asked_dtype, asked_device, parameters))
    device.share_threads(1)
    return compute


@contextlib.contextmanager
def together(asked_device: str, dtype: str) -> Iterator[tuple[Compute, World]]:
    """Set up one of the processes that a launcher started, or the only one, and let go of the others in the end."""
    here = launcher.world()
    compute = device.choose(asked_device, dtype, here.local_rank)
    device.share_threads(here.local_size)
    with patience.doing("Waiting for the other processes"):
        world = distributed.start(compute.device)
    try:
        yield compute, world
    finally:
        process.release_garbage()  # which a training has kept from being looked at
        distributed.stop()
