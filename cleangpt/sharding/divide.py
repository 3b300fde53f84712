"""Divide a model: each process holds some rows of every matrix, and blocks are gathered as they are needed.

Vectors (norms, biases) are whole on each process: they are small, and stay in float32.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.overrides import TorchFunctionMode

from cleangpt.basics.errors import UserError
from cleangpt.machine.device import Compute
from cleangpt.models.build import build
from cleangpt.models.contract import LanguageModel, Treatment
from cleangpt.sharding.parts import rows_of


@dataclass
class Piece:
    """What a process holds of one parameter of the model."""

    name: str
    parameter: nn.Parameter  # of the model
    local: nn.Parameter  # its rows that lie here; of what is not divided, all
    rows: tuple[int, int]  # which these are
    is_divided: bool

    def take(self, values: Tensor) -> None:
        """Take these as the rows that lie here."""
        with torch.no_grad():
            self.local.copy_(values)


class Divided:
    """A model that is divided, and for its optimizer a model of what lies here."""

    def __init__(self, model: LanguageModel, mesh: DeviceMesh):
        self.model, self.mesh = model, mesh
        self.pieces = [_piece(name, parameter, mesh) for name, parameter in model.named_parameters()]
        self.of = {piece.name: piece for piece in self.pieces}

    @property
    def group(self) -> dist.ProcessGroup:
        """Return the processes that together hold one model."""
        return self.mesh.get_group(self.mesh.ndim - 1)

    @property
    def copies(self) -> int:
        """Count the groups of processes, each of which holds the model once."""
        return self.mesh.size() // self.parts

    @property
    def place(self) -> int:
        """Return the place of this process among those that together hold one model."""
        return dist.get_rank(self.group)

    @property
    def parts(self) -> int:
        """Count the processes that together hold one model."""
        return dist.get_world_size(self.group)

    @property
    def keeps(self) -> bool:
        """Tell whether this process writes snapshots: of groups that repeat each other the first one does."""
        return self.mesh.ndim == 1 or self.mesh.get_local_rank(0) == 0

    def filling(self) -> "Filling":
        return Filling()

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((piece.name, piece.local) for piece in self.pieces)

    def treatment(self, name: str, parameter: nn.Parameter) -> Treatment:
        return self.model.treatment(name, parameter)

    def gradients(self, pieces: "list[Piece]") -> list[Tensor]:
        """Collect the gradients of what lies here, and give them to it; one that nothing led to is 0."""
        found = []
        for piece in pieces:
            gradient = piece.parameter.grad
            here = gradient._local_tensor if isinstance(gradient, DTensor) else torch.zeros_like(piece.local)
            piece.local.grad = here
            found.append(here)
        return found

    def counts(self, name: str) -> bool:
        """Tell whether a sum over the processes that hold one model shall have what lies here of a parameter."""
        return self.of[name].is_divided or self.place == 0

    def norms(self, parts: Tensor) -> Tensor:
        """Compute norms from those of what lies here. All processes call this alike."""
        squares = parts.square()
        dist.all_reduce(squares, group=self.group)
        return squares.sqrt()

    def gathered(self, name: str, local: Tensor) -> Tensor:
        """Gather a tensor that is divided as a parameter is. All processes call this alike."""
        if not self.is_part(name, local):
            return local.detach()
        whole = self.of[name].parameter
        assert isinstance(whole, DTensor)
        made = DTensor.from_local(
            local.detach(), self.mesh, whole.placements, run_check=False, shape=whole.shape, stride=whole.stride()
        )
        return made.full_tensor()

    def is_part(self, name: str, value: Tensor) -> bool:
        """Tell whether a tensor is divided as a parameter is: it or its gradient, or what is remembered of it."""
        piece = self.of[name]
        return piece.is_divided and value.shape == piece.local.shape

    def whole_shape(self, name: str, value: Tensor) -> torch.Size:
        """Return the shape of the whole of which this is a part."""
        return self.of[name].parameter.shape if self.is_part(name, value) else value.shape

    def held(self, remembered: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Copy weights and what is remembered of them as far as this process keeps them, and say which rows these are.

        What all have whole, the first one keeps.
        """
        tensors: dict[str, Tensor] = {}
        places: dict[str, Any] = {}
        values = [(name, name, local.detach()) for name, local in self.named_parameters()]
        values += [(name, name.rpartition("/")[0], value) for name, value in remembered.items()]
        for name, parameter, value in values:
            if self.is_part(parameter, value):
                if len(value) == 0:
                    continue
                piece = self.of[parameter]
                places[name] = {"first": piece.rows[0], "shape": list(piece.parameter.shape)}
            elif self.of[parameter].is_divided and value.dim():
                raise UserError(
                    f"the optimizer says that it can be divided, and {name} is {tuple(value.shape)}, which is no part "
                    f"of {tuple(self.of[parameter].parameter.shape)}: use train.shard=none"
                )
            elif self.place > 0:
                continue
            tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return tensors, places

    def weights(self) -> dict[str, Tensor]:
        """Gather the weights to rank 0, one tensor after the other. All processes call this alike."""
        found = {}
        for name, local in self.named_parameters():
            whole = self.gathered(name, local)
            if dist.get_rank() == 0:
                found[name] = whole.to("cpu", copy=True).contiguous()
        return found

    @contextlib.contextmanager
    def judging(self, judge: Any) -> Iterator[None]:
        """Have a judge judge the whole model meanwhile."""
        if judge.model is not self.model:  # it does
            yield
            return
        with self.whole() as judge.model:
            try:
                yield
            finally:
                judge.model = self.model

    @contextlib.contextmanager
    def whole(self) -> Iterator[LanguageModel]:
        """Gather the model in float32, to be evaluated as any other. All begin this alike, and may then differ."""
        twin = build(self.model.config, "meta")
        tensors = {piece.name: self.gathered(piece.name, piece.local) for piece in self.pieces}
        twin.load_state_dict(tensors, assign=True)
        yield twin.requires_grad_(False).eval()


def _piece(name: str, parameter: nn.Parameter, mesh: DeviceMesh) -> Piece:
    if not isinstance(parameter, DTensor):
        return Piece(name, parameter, parameter, (0, parameter.shape[0]), is_divided=False)
    place, count = mesh.get_local_rank(mesh.ndim - 1), mesh.size(mesh.ndim - 1)
    first, end = rows_of(parameter.shape[0], place, count)
    local = nn.Parameter(parameter._local_tensor.detach(), requires_grad=parameter.requires_grad)
    assert len(local) == end - first, "torch divides otherwise than we think"
    return Piece(name, parameter, local, (first, end), is_divided=True)


def mesh_of(kind: str, group: int | None) -> DeviceMesh:
    """Lay out the processes: all of them divide a model, or groups of so many, which repeat each other."""
    world = dist.get_world_size()
    if group is not None and world % group:
        raise UserError(f"`train.shard_group` must divide the {world} processes, and {group} does not")
    if group is None or group == world:
        return init_device_mesh(kind, (world,), mesh_dim_names=("shard",))
    return init_device_mesh(kind, (world // group, group), mesh_dim_names=("repeat", "shard"))


def divide(model: LanguageModel, compute: Compute, mesh: DeviceMesh) -> Divided:
    """Divide a model among the processes of a mesh, and make room for one that is on the meta device."""
    vectors = {parameter for parameter in model.parameters() if parameter.dim() < 2}
    narrow = compute.dtype if compute.dtype != torch.float32 else None
    for block in model.compiled():
        policy = MixedPrecisionPolicy(param_dtype=narrow, reduce_dtype=torch.float32, cast_forward_inputs=False)
        fully_shard(block, mesh=mesh, mp_policy=policy, ignored_params=vectors & set(block.parameters()))
    fully_shard(model, mesh=mesh, ignored_params=vectors)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # losses are sums
            module.set_force_sum_reduction_for_comms(True)
    if any(parameter.is_meta for parameter in model.parameters()):
        model.to_empty(device=compute.device)
    return Divided(model, mesh)


DRAWS = {getattr(Tensor, name) for name in ("normal_", "uniform_", "random_", "bernoulli_", "exponential_")}


class Filling(TorchFunctionMode):
    """Whole tensors that are copied into parameters that are divided: each process keeps its rows of them.

    So a model draws its first weights as it would if it were whole, and takes those that are read.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        target = args[0] if args else None
        if isinstance(target, DTensor):
            if func is Tensor.copy_ and not isinstance(args[1], DTensor):
                _keep(target, args[1])
                return target
            if func in DRAWS:
                _keep(target, func(torch.empty(target.shape), *args[1:], **kwargs))
                return target
        return func(*args, **kwargs)


def _keep(target: DTensor, whole: Tensor) -> None:
    mesh = target.device_mesh
    place, count = mesh.get_local_rank(mesh.ndim - 1), mesh.size(mesh.ndim - 1)
    first, end = rows_of(target.shape[0], place, count)
    with torch.no_grad():
        target._local_tensor.copy_(whole[first:end])
