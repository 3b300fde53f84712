"""The process group, and the few collectives that we use.

The global rank decides what a process computes and writes, the local rank only its device. Without torchrun
there is one process, and every collective is the identity.
"""

import gc
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore  # type: ignore[attr-defined]  # torch doesn't mark it as exported

from cleangpt.basics.errors import UserError
from cleangpt.machine.launcher import World, launched, store, this_attempt, world

T = TypeVar("T")


def start(device: torch.device) -> World:
    """Join the process group that the launcher announced."""
    here = world()
    if not launched() or dist.is_initialized():
        return here
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        store=PrefixStore(this_attempt("group"), store()),
        rank=here.rank,
        world_size=here.size,
        device_id=device if device.type == "cuda" else None,
    )
    assert dist.get_world_size() == here.size, "the process group is not what the launcher announced"
    return here


def stop() -> None:
    if dist.is_initialized():
        gc.collect()  # what still holds on to the group would abort the process while it leaves
        dist.destroy_process_group()


def sum_in_place(tensor: Tensor) -> Tensor:
    """Sum a tensor over all ranks: the one all-reduce of a step, and of an evaluation."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor


def is_distributed() -> bool:
    return dist.is_initialized() and dist.get_world_size() > 1


def begin_sum(tensor: Tensor) -> Any:
    """Begin to sum a tensor over all ranks while other work goes on; `wait` on what it returns."""
    return dist.all_reduce(tensor, async_op=True)


def gather(value: T) -> list[T]:
    """Gather everyone's value, by rank, on every rank."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def from_main(read: Callable[[], T]) -> T:
    """Broadcast what rank 0 reads: the others need no disk. What a user got wrong is raised on all of them."""
    if not dist.is_initialized():
        return read()
    box: list[Any] = [None, None]
    if dist.get_rank() == 0:
        try:
            box[0] = read()
        except UserError as error:
            box[1] = error
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    if box[1] is not None:
        raise box[1]
    return box[0]


def tensor_from_main(read: Callable[[], Tensor]) -> Tensor:
    """Broadcast the CPU tensor that rank 0 reads."""
    if not dist.is_initialized():
        return read()
    kept: list[Tensor] = []

    def look() -> tuple[torch.Size, torch.dtype]:
        kept.append(read().contiguous())
        return kept[0].shape, kept[0].dtype

    shape, dtype = from_main(look)
    tensor = kept[0] if kept else torch.empty(shape, dtype=dtype)
    dist.broadcast(tensor, src=0)
    return tensor


def alike(work: Callable[[], None]) -> None:
    """Do something on every rank; what a user got wrong on one of them is raised on all."""
    wrong: UserError | None = None
    try:
        work()
    except UserError as error:
        wrong = error
    if found := [error for error in gather(wrong) if error is not None]:
        raise found[0]
