"""A folder from which a model can be used anywhere: weights, configuration, tokenizer. Nothing in it is code."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from cleangpt.basics import files
from cleangpt.basics.errors import UserError
from cleangpt.basics.shown import in_line
from cleangpt.config.experiment import Config, Imported
from cleangpt.disk.rundir import WEIGHTS, write_config
from cleangpt.machine import distributed
from cleangpt.models.build import build, count_parameters
from cleangpt.models.contract import LanguageModel
from cleangpt.models.settings import ModelSettings
from cleangpt.stored import pieces, tensorfile
from cleangpt.stored.tensorfile import Tensors
from cleangpt.tokens import tokenizers
from cleangpt.tokens.tokenizers import Tokenizer

if TYPE_CHECKING:
    from cleangpt.sharding.divide import Divided

Shapes = dict[str, torch.Size]


class Source(Protocol):
    """Weights that are read as far as they are needed, in float32."""

    shapes: Shapes
    where: Path | str

    def rows(self, name: str, first: int = 0, end: int | None = None) -> Tensor: ...


class Weights(pieces.Stored):
    """The weights of a folder, which lie in one file or in pieces in several."""

    def __init__(self, folder: Path, name: str = WEIGHTS):
        one = folder / name
        divided = pieces.shards(folder) if name == WEIGHTS else []
        if divided and one.exists():
            raise UserError(f"{folder} holds weights twice, in {WEIGHTS} and in pieces{tensorfile.REMEDY}")
        super().__init__(divided or [one], in_pieces=bool(divided))
        self.where: Path | str = folder if divided else one
        if divided:  # beside what the optimizer remembers of them
            self.shapes = {name: shape for name, shape in self.shapes.items() if "/" not in name}

    def rows(self, name: str, first: int = 0, end: int | None = None) -> Tensor:
        return tensorfile.usable(super().rows(name, first, end), name, self.where)


def copy(model: LanguageModel) -> Tensors:
    """Copy the weights as they are now to the CPU: what is written later can't change meanwhile."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in model.state_dict().items()}


def save(
    folder: Path, tensors: Tensors, config: Config | Imported, tokenizer: Tokenizer, about: dict[str, Any]
) -> None:
    """Write or renew the folder. The weights change in one rename, and carry in themselves what they are."""
    folder.mkdir(exist_ok=True)
    write_config(folder / "config.json", config)
    files.write_json(folder / "tokenizer.json", tokenizer.to_json())
    metadata = {"cleangpt": json.dumps(about)}  # one entry, since several are written in any order
    files.replace(folder / WEIGHTS, lambda file: tensorfile.write(file, tensors, metadata))


def about(folder: Path) -> dict[str, Any]:
    """Read the metadata of the weights in a folder: their step and scores."""
    weights = Weights(folder)
    with tensorfile.reading(weights.paths[0]):
        if not isinstance(weights.about.get("step", 0), int):
            raise ValueError(f"its step is {in_line(weights.about['step'])}")
        return weights.about


def step(folder: Path) -> int | None:
    """Read the step of the weights that a folder holds, if it holds any."""
    try:
        return about(folder).get("step")
    except UserError:
        return None


def load_into(model: LanguageModel, folder: Path) -> None:
    """Load the weights of a folder, which have to fit exactly, on every rank."""
    put_into(model, lambda: Weights(folder))


def put_into(
    model: LanguageModel, opens: Callable[[], Source], divided: "Divided | None" = None, trimmed: tuple[str, ...] = ()
) -> None:
    """Load one tensor after the other: rank 0 reads for all, and of a model that is divided each process its rows.

    Of those that are `trimmed` there may be more rows than are wanted.
    """
    wanted = model.state_dict()
    found: list[Source] = []

    def look() -> None:
        found.append(opens())
        there = dict(found[0].shapes)
        for name in set(trimmed) & there.keys() & wanted.keys():
            there[name] = torch.Size([min(there[name][0], wanted[name].shape[0]), *there[name][1:]])
        refuse_misfit(there, shapes(wanted), f"{found[0].where} does not fit the model")

    def read() -> None:
        assert divided is not None
        look()
        for piece in divided.pieces:
            piece.take(found[0].rows(piece.name, *piece.rows))

    if divided is not None:
        distributed.alike(read)
        return
    distributed.from_main(look)

    def of(name: str, value: Tensor) -> Callable[[], Tensor]:
        return lambda: found[0].rows(name, 0, value.shape[0] if value.dim() else None)

    for name, value in wanted.items():
        value.copy_(distributed.tensor_from_main(of(name, value)))


def shapes(tensors: Tensors) -> Shapes:
    return {name: tensor.shape for name, tensor in tensors.items()}


def refuse_misfit(there: Shapes, wanted: Shapes, what: str) -> None:
    """Refuse tensors of other names or shapes than are wanted."""
    if wrong := sorted(name for name in there.keys() | wanted.keys() if there.get(name) != wanted.get(name)):
        raise UserError(f"{what}: see {', '.join(wrong[:3])}")


def refuse_others(model: LanguageModel, source: Source) -> None:
    """Refuse what does not hold the weights of this model, by its header."""
    refuse_misfit(source.shapes, shapes(model.state_dict()), f"{source.where} does not fit the model")


def read(folder: Path) -> Tensors:
    """Read the weights of a folder, in float32."""
    weights = Weights(folder)
    return {name: weights.rows(name) for name in weights.shapes}


def refuse_another_size(source: Source, model: ModelSettings) -> None:
    """Refuse a configuration that its weights don't fit, before anything is made of it: it may ask for any size."""
    stored, asked = sum(shape.numel() for shape in source.shapes.values()), count_parameters(model)
    if stored != asked:
        raise UserError(
            f"{source.where} does not fit the model: it holds {stored:,} numbers, and its config.json means {asked:,}"
        )


def load_model(folder: Path, config: Config | Imported, device: torch.device) -> LanguageModel:
    distributed.from_main(lambda: refuse_another_size(Weights(folder), config.model))
    model = build(config.model, device)
    load_into(model, folder)
    return model.eval()


def load_tokenizer(folder: Path) -> Tokenizer:
    return tokenizers.load(folder / "tokenizer.json")
