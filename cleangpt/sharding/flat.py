"""Keep all gradients in one flat buffer, and sum it over the processes while the backward pass still runs."""

from collections.abc import Iterable
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cleangpt.machine import distributed


class Sums(NamedTuple):
    """The sums that the all-reduce of a step brings besides gradients."""

    loss: float
    weight: float  # supervised tokens
    tokens: float
    stop: float  # processes that were asked to stop
    incomplete: float  # processes that did not read all their samples
    due: float  # 1 where a snapshot is due by the clock of rank 0
    squares: float  # of the gradients that are divided among processes


class Gradients:
    """The flat buffer, with a few sums of the step behind the gradients.

    Of a small model one buffer makes one all-reduce a step, which carries the sums as well. Of a large one the buffer
    is cut into buckets, and each is summed as soon as the last backward pass of a step is done with it. Either way
    there is one kernel for the norm, one for the scale, and an order that never changes, so that a resumed run has the
    same bits as one that went on. (DistributedDataParallel lays its buckets out anew after the first backward pass.)
    """

    SMALL = 1 << 24  # elements: of more than these a second copy would take memory that is needed
    BUCKET = 1 << 23  # elements: enough to make good use of a network
    ALIGN = 16  # elements: each gradient begins where vector instructions like it

    def __init__(self, parameters: Iterable[nn.Parameter], device: torch.device):
        self.parameters = list(parameters)
        sizes = [-(-p.numel() // self.ALIGN) * self.ALIGN for p in self.parameters]
        self.buffer = torch.zeros(sum(sizes) + len(Sums._fields), dtype=torch.float32, device=device)
        self.flat, self.sums = self.buffer[: sum(sizes)], self.buffer[sum(sizes) :]
        starts = accumulate(sizes, initial=0)
        self.views = [
            self.flat[start : start + p.numel()].view_as(p) for start, p in zip(starts, self.parameters, strict=False)
        ]
        self.adding = False
        self._add_from_here()
        self.last_pass = False
        self.buckets: list[Bucket] = []
        if self.flat.numel() > self.SMALL and distributed.is_distributed():
            self._cut(sizes)

    def begin(self) -> None:
        """Prepare for the first backward pass of a step."""
        if self.flat.numel() > self.SMALL:
            self.buffer.zero_()
            return
        # For small models, let backward() allocate .grad: copying once beats zeroing and accumulating.
        self.sums.zero_()
        self.adding = False
        for parameter in self.parameters:
            parameter.grad = None

    def collect(self) -> None:
        """Copy what the first backward pass left into the buffer, and have those to come add to it."""
        if self.adding:
            return
        missing = [view for p, view in zip(self.parameters, self.views, strict=True) if p.grad is None]
        pairs = [(view, p.grad) for p, view in zip(self.parameters, self.views, strict=True) if p.grad is not None]
        if missing:
            torch._foreach_zero_(missing)
        if pairs:
            torch._foreach_copy_([view for view, _ in pairs], [grad for _, grad in pairs])
        self._add_from_here()

    def _add_from_here(self) -> None:
        for parameter, view in zip(self.parameters, self.views, strict=True):
            parameter.grad = view
        self.adding = True

    # ---- over processes

    def _cut(self, sizes: list[int]) -> None:
        """Cut the buffer into buckets from its end, where a backward pass begins. The sums come last, by themselves."""
        stop, count, size = self.flat.numel(), 0, 0
        bucket_of: list[int] = []
        for number in reversed(range(len(sizes))):
            count, size = count + 1, size + sizes[number]
            bucket_of.append(len(self.buckets))
            if size >= self.BUCKET or number == 0:
                self.buckets.append(Bucket(self.flat[stop - size : stop], count))
                stop, count, size = stop - size, 0, 0
        for parameter, number in zip(reversed(self.parameters), bucket_of, strict=True):
            parameter.register_post_accumulate_grad_hook(lambda _, bucket=self.buckets[number]: self._done(bucket))

    def before_last_pass(self) -> None:
        """Note that the next backward pass is the last of this step: what it is done with can be summed."""
        self.last_pass = True

    def _done(self, bucket: "Bucket") -> None:
        if self.last_pass:
            bucket.missing -= 1
            for each in self.buckets:  # in their order, since all processes have to have the same
                if each.missing > 0:
                    break
                each.start()

    def reduce(self) -> None:
        """Sum everything over the processes, where that is not under way.

        All of them call this, also for a step that one of them did not finish.
        """
        if not self.buckets:
            distributed.sum_in_place(self.buffer)
            return
        for bucket in self.buckets:
            bucket.start()
        distributed.sum_in_place(self.sums)
        for bucket in self.buckets:
            bucket.finish()
        self.last_pass = False

    def norm(self) -> Tensor:
        return torch.linalg.vector_norm(self.flat)

    def scale(self, factor: float) -> None:
        """Multiply all gradients."""
        self.flat.mul_(factor)

    def summed(self) -> tuple[Sums, float]:
        """Read the sums and the norm of the gradients, which waits for the device: once a step."""
        *found, norm = torch.cat([self.sums, self.norm()[None]]).tolist()
        return Sums(*found), norm


class Bucket:
    """A part of the buffer that one all-reduce sums."""

    def __init__(self, part: Tensor, parameters: int):
        self.part, self.parameters = part, parameters
        self.missing = parameters  # gradients that the last backward pass still has to add
        self.work: Any = None

    def start(self) -> None:
        if self.work is None:
            self.work = distributed.begin_sum(self.part)

    def finish(self) -> None:
        self.work.wait()
        self.work, self.missing = None, self.parameters
