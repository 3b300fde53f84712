"""Make a step on tensors without values: what a process holds at the peak of it, and what it sends.

The step is the real one: the model, the division, the gradients and the optimizer are those of a training. The tensors
have shapes only, so that a laptop can imagine one process of hundreds. Memory within a kernel is not seen, which is
little but for recurrent networks, nor what an allocator can't use.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from cleangpt.config.experiment import Config
from cleangpt.machine.device import Compute
from cleangpt.memory.meter import Meter
from cleangpt.models.build import build
from cleangpt.optimizers import optim
from cleangpt.sharding import make
from cleangpt.sharding.flat import Gradients
from cleangpt.sharding.pretend import pretended

UPDATED = 4  # copies of the weights that an update makes at most: of ours Muon most, about two
KINDS = ("weights", "gradients", "optimizer", "gathered", "cast", "activations", "logits")


@dataclass(frozen=True)
class Memory:
    """Bytes of one process. The kinds are those at the peak of a micro-step."""

    weights: int
    gradients: int
    optimizer: int
    gathered: int  # weights of others for a moment, and gradients on their way
    cast: int  # weights in the dtype of the arithmetic
    activations: int
    logits: int
    step: int  # the peak of a micro-step
    update: int  # and of the optimizer's step
    sent_each: int  # bytes that a micro-step sends
    sent_once: int  # and those that a step sends besides

    def stretched(self, other: "Memory", times: float) -> "Memory":
        """Add so many times what the other has more than this one, as another layer has."""
        few, more = ([getattr(memory, field.name) for field in fields(Memory)] for memory in (self, other))
        return Memory(*(each + round(times * (then - each)) for each, then in zip(few, more, strict=True)))


@dataclass(frozen=True)
class Step:
    """What of a training decides about its memory."""

    config: Config  # resolved
    samples: dict[str, tuple[tuple[int, ...], torch.dtype]]  # what a model reads of one: shape and dtype
    rows: int  # sequences at once
    processes: int
    dtype: torch.dtype
    on_gpu: bool
    rank: int = 0

    @property
    def is_divided(self) -> bool:
        return self.config.train.shard == "full" and self.processes > 1


def imagine(step: Step, layers: int | None = None) -> Memory:
    """Imagine a micro-step and an update, of a model of so many layers or of all."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # which loads torch's compiler

    config = _on_its_device(step.config, step.on_gpu, **({} if layers is None else {"n_layer": layers}))
    build(config.model, "meta")  # here, since it may ask real tensors what this processor can do
    with pretended(step.processes, step.rank) if step.is_divided else contextlib.nullcontext():
        mesh = None
        if step.is_divided:
            from cleangpt.sharding.divide import mesh_of

            mesh = mesh_of("cpu", config.train.shard_group)
        with FakeTensorMode(), _Attention():
            return _measured(config, step, mesh, Compute(torch.device("cpu"), step.dtype))


def outline(step: Step) -> Memory:
    """Bound the memory of a small whole model by a real step on one sequence, which takes milliseconds."""
    config = _on_its_device(step.config, step.on_gpu)
    one = replace(step, rows=1, processes=1)
    found = _measured(config, one, None, Compute(torch.device("cpu"), step.dtype), updates=False)
    kept = found.weights + found.gradients + found.optimizer
    more = {"cast": found.cast * step.rows, "activations": found.activations * step.rows}
    more |= {"logits": found.logits * step.rows, "step": kept + (found.step - kept) * step.rows}
    more["update"] = kept + UPDATED * found.weights
    return replace(found, **more)


def _on_its_device(config: Config, on_gpu: bool, **changes: Any) -> Config:
    """Choose attention as it is chosen where the training shall run."""
    if on_gpu and getattr(config.model, "attention", None) == "auto":
        changes["attention"] = "sdpa"
    return config.model_copy(update={"model": config.model.model_copy(update=changes)})


def _measured(config: Config, step: Step, mesh: Any, compute: Compute, updates: bool = True) -> Memory:
    """Run the step and read the meter. Whoever calls has made tensors fake ones, or wants them real."""
    meter = Meter(Kinds(config.model.vocab_size, step.rows * step.samples["tokens"][0][0]))
    with meter:
        divided = None
        model = build(config.model, compute.device)
        optim.freeze(model, config.train.freeze)
        if mesh is not None:
            from cleangpt.sharding.divide import divide

            divided = divide(model, compute, mesh)
            meter.forget()  # the whole model, which nobody had
        model.checkpointing = config.train.activation_checkpointing
        model.train()
        optimizer, gradients, *_ = make.parts(config, model, divided, None, compute)
        held = model if divided is None else divided
        meter.mark((p for _, p in held.named_parameters()), "weights")
        meter.mark((value for state in optimizer.state.values() for value in state.values()), "optimizer")
        flat = gradients if isinstance(gradients, Gradients) else gradients.small
        meter.mark([flat.buffer], "gradients")
        rows = {
            name: torch.zeros((step.rows, *shape), dtype=kind, device=compute.device)
            for name, (shape, kind) in step.samples.items()
        }
        gradients.begin()
        for _ in range(2):  # the second one adds to the gradients of the first
            meter.begin()
            before = meter.sent
            with compute.autocast():
                loss = model(**rows)
                with compute.no_autocast():
                    loss.backward()
            del loss
            gradients.collect()
            meter.mark(_gradients_of(model), "gradients")
            each = meter.sent - before
        most, peak, before = dict(meter.most), meter.peak, meter.sent
        meter.begin()
        if divided is not None:  # or else there may be real processes, which would sum this
            gradients.reduce()
        gradients.scale(0.5)
        if updates:
            optimizer.step()
        once = meter.sent - before
        meter.mark((value for state in optimizer.state.values() for value in state.values()), "optimizer")
        lazy = meter.now.get("optimizer", 0) - most.get("optimizer", 0)  # of one that makes it in its first step
        found = {kind: most.get(kind, 0) for kind in KINDS}
        found["optimizer"] += lazy
    if divided is None and step.processes > 1:
        once = round(2 * (step.processes - 1) / step.processes * flat.buffer.numel() * 4)
    return Memory(**found, step=peak + lazy, update=meter.peak, sent_each=round(each), sent_once=round(once))


def _gradients_of(model: torch.nn.Module) -> Iterator[Tensor]:
    return (parameter.grad for parameter in model.parameters() if parameter.grad is not None)


class Kinds:
    """Name the kind of what an operation made."""

    def __init__(self, vocabulary: int, tokens: int):
        self.vocabulary, self.tokens = vocabulary, tokens

    def __call__(self, meter: Meter, func: Any, args: Any, made: Tensor) -> str:
        if func.namespace in ("fsdp", "c10d", "_c10d_functional"):
            return "gathered"
        if func.overloadpacket is torch.ops.aten._to_copy and meter.kind_of(args[0]) in ("weights", "gathered"):
            return "cast"
        if made.dim() > 1 and made.shape[-1] == self.vocabulary and made.shape[:-1].numel() == self.tokens:
            return "logits"
        return "activations"


class _Attention(TorchFunctionMode):
    """Take the fused kernel where a GPU does, which has one with dropout too."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and kwargs.get("dropout_p"):
            kwargs = {**kwargs, "dropout_p": 0.0}
        return func(*args, **kwargs)
