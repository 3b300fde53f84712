"""Go on from a snapshot, with any number of processes, whether one or several wrote it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic import TypeAdapter
from torch import Tensor

from cleangpt.basics import untrusted
from cleangpt.disk import weights
from cleangpt.disk.rundir import WEIGHTS, RunDir, read_config
from cleangpt.machine import distributed
from cleangpt.models.contract import LanguageModel
from cleangpt.optimizers import optim
from cleangpt.snapshots.saving import duplicate, remembered
from cleangpt.snapshots.snapshot import BEST, OPTIMIZER, STATE
from cleangpt.snapshots.state import State
from cleangpt.stored import pieces
from cleangpt.stored.pieces import Stored
from cleangpt.stored.tensorfile import Tensors

if TYPE_CHECKING:
    from cleangpt.sharding.divide import Divided


def restore(folder: Path, model: LanguageModel, optimizer: optim.Optimizer, divided: "Divided | None" = None) -> State:
    """Put weights and optimizer back, and return the rest. Rank 0 reads for all, unless the model is divided."""
    weights.put_into(model, lambda: weights.Weights(folder), divided)
    held = model if divided is None else divided
    kept = remembered(held, optimizer)
    # Optimizers of torch make their state in their first step: those have none yet, and take what is there.
    bare = {name: p for name, p in held.named_parameters() if p.requires_grad and not optimizer.state.get(p)}
    found: list[Stored] = []

    def put(name: str, tensor: Tensor) -> None:
        parameter, _, key = name.rpartition("/")
        if name in kept:
            kept[name].copy_(tensor)
        else:
            own = optimizer.state.setdefault(bare[parameter], {})
            own[key] = tensor.to(bare[parameter].device, copy=True) if tensor.dim() else tensor

    def look() -> list[str]:
        found.append(_opened(folder, kept, bare, divided))
        return sorted(found[0].shapes)

    def of(name: str) -> Callable[[], Tensor]:
        return lambda: found[0].rows(name)

    def read() -> None:
        assert divided is not None
        for name in look():
            piece, shape = divided.of[name.rpartition("/")[0]], found[0].shapes[name]
            is_part = piece.is_divided and shape == piece.parameter.shape
            put(name, found[0].rows(name, *(piece.rows if is_part else ())))

    with torch.no_grad():
        if divided is not None:
            distributed.alike(read)
        else:
            for name in distributed.from_main(look):
                put(name, distributed.tensor_from_main(of(name)))
    return distributed.from_main(lambda: _read_state(folder))


def _opened(folder: Path, kept: Tensors, bare: Mapping[str, Tensor], divided: "Divided | None") -> Stored:
    """Open what the optimizer remembered, and refuse what does not fit it."""

    def whole(name: str, value: Tensor) -> torch.Size:
        return value.shape if divided is None else divided.whole_shape(name, value)

    shards = pieces.shards(folder)
    stored = Stored(shards or [folder / OPTIMIZER], in_pieces=bool(shards))
    if shards:  # beside weights
        stored.shapes = {name: shape for name, shape in stored.shapes.items() if "/" in name}
    wanted = {name: whole(name.rpartition("/")[0], value) for name, value in kept.items()}
    for name in stored.shapes.keys() - kept.keys():
        parameter = name.rpartition("/")[0]
        if parameter in bare and stored.shapes[name] in (whole(parameter, bare[parameter]), torch.Size()):
            wanted[name] = stored.shapes[name]
    weights.refuse_misfit(stored.shapes, wanted, f"{stored.paths[0]} does not fit the optimizer")
    return stored


def _read_state(folder: Path) -> State:
    with untrusted.reading(folder / STATE, "the state of a training"):
        stored = json.dumps(untrusted.json_object(folder / STATE))
        state = TypeAdapter(State).validate_json(stored, strict=True)
        if state.step < 0 or folder.name != f"step_{state.step:08d}":
            raise ValueError(f"it is of step {state.step}")
        return state


def restore_best(folder: Path, run: RunDir, model: LanguageModel) -> None:
    """Put best/ back to what it was at this snapshot: the run may have gone on before it was interrupted."""
    if (folder / BEST).exists():
        weights.refuse_others(model, weights.Weights(folder, BEST))
        read_config(folder / "config.json")
        weights.load_tokenizer(folder)
        run.best.mkdir(exist_ok=True)
        duplicate(folder / BEST, run.best / WEIGHTS)
        for name in ("config.json", "tokenizer.json"):
            duplicate(folder / name, run.best / name)
