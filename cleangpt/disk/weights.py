"""A folder from which a model can be used anywhere: weights, configuration, tokenizer. Nothing in it is code."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from cleangpt.basics import files, untrusted
from cleangpt.basics.errors import UserError
from cleangpt.basics.shown import in_line
from cleangpt.config.experiment import Config, Imported
from cleangpt.disk.rundir import write_config
from cleangpt.machine import distributed
from cleangpt.models.build import build, count_parameters
from cleangpt.models.contract import LanguageModel
from cleangpt.models.settings import ModelSettings
from cleangpt.tokens import tokenizers
from cleangpt.tokens.tokenizers import Tokenizer

WEIGHTS = "model.safetensors"
REMEDY = ": use another snapshot, best/ or final/"
# Types as safetensors calls them, from the widest to the narrowest, which is their order in a file.
TYPES = {torch.int64: "I64", torch.float64: "F64", torch.float32: "F32", torch.int32: "I32", torch.bfloat16: "BF16"}
TYPES |= {torch.float16: "F16", torch.uint8: "U8", torch.bool: "BOOL"}

Tensors = dict[str, torch.Tensor]


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
    files.replace(folder / WEIGHTS, lambda file: write(file, tensors, metadata))


def write(file: BinaryIO, tensors: Tensors, metadata: dict[str, str] | None = None) -> None:
    """Write tensors of the CPU as safetensors, byte for byte what the library would write.

    The library writes to a path, for the owner alone, or makes a second copy of all tensors in memory.
    """
    kinds = list(TYPES)
    names = sorted(tensors, key=lambda name: (kinds.index(tensors[name].dtype), name))
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    begin = 0
    for name in names:
        tensor = tensors[name]
        end = begin + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in names:
        file.write(tensors[name].reshape(-1).view(torch.uint8).numpy().data)


def about(folder: Path) -> dict[str, Any]:
    """Read the metadata of a weights file: its step and scores."""
    with opened(folder / WEIGHTS) as file:
        found = untrusted.parsed_object((file.metadata() or {}).get("cleangpt", "{}"))
        if not isinstance(found.get("step", 0), int):
            raise ValueError(f"its step is {in_line(found['step'])}")
        return found


def step(folder: Path) -> int | None:
    """Read the step of the weights that a folder holds, if it holds any."""
    try:
        return about(folder).get("step")
    except UserError:
        return None


def load_into(model: LanguageModel, path: Path) -> None:
    """Load a safetensors file, which has to fit exactly, on every rank."""
    put_into(model, lambda: read(path), path)


def put_into(model: LanguageModel, reads: Callable[[], Tensors], where: Path | str) -> None:
    """Load the tensors that rank 0 reads on every rank."""
    tensors = distributed.tensors_from_main(reads)
    refuse_misfit(shapes(tensors), shapes(model.state_dict()), f"{where} does not fit the model")
    model.load_state_dict(tensors)


def shapes(tensors: Tensors) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def refuse_misfit(there: dict[str, torch.Size], wanted: dict[str, torch.Size], what: str) -> None:
    """Refuse tensors of other names or shapes than are wanted."""
    if wrong := sorted(name for name in there.keys() | wanted.keys() if there.get(name) != wanted.get(name)):
        raise UserError(f"{what}: see {', '.join(wrong[:3])}")


def refuse_others(model: LanguageModel, path: Path) -> None:
    """Refuse a file that does not hold weights of this model, by its header."""
    refuse_misfit(_stored_shapes(path), shapes(model.state_dict()), f"{path} does not fit the model")


def _stored_shapes(path: Path) -> dict[str, torch.Size]:
    with opened(path) as file:
        return {name: torch.Size(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 it is no dict


def read(path: Path) -> Tensors:
    """Read the weights of a safetensors file, in float32."""
    with reading(path):
        return {name: usable(tensor, name, path) for name, tensor in load_file(path).items()}


@contextlib.contextmanager
def opened(path: Path, remedy: str = REMEDY) -> Iterator[Any]:
    """Open a safetensors file, to read of it what is needed."""
    with reading(path, remedy), safe_open(path, framework="pt") as file:
        yield file


@contextlib.contextmanager
def reading(path: Path, remedy: str = REMEDY) -> Iterator[None]:
    """Turn what is wrong with a safetensors file into a sentence."""
    try:
        with untrusted.reading(path, "weights", remedy):
            yield
    except SafetensorError as error:
        raise UserError(f"{path} can't be read as weights ({error}){remedy}") from None


def usable(tensor: torch.Tensor, name: str, path: Path) -> torch.Tensor:
    """Turn a tensor into weights that a model can compute with, in float32."""
    if tensor.dtype not in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        kind = str(tensor.dtype).removeprefix("torch.")
        raise UserError(f"{path} has {name} in {kind}, and weights are in float32, float64, bfloat16 or float16")
    tensor = tensor.float()
    if not tensor.isfinite().all():
        raise UserError(f"{path} has {name} with numbers that are not finite: no model can compute with it")
    return tensor


def refuse_another_size(path: Path, model: ModelSettings) -> None:
    """Refuse a configuration that its weights don't fit, before anything is made of it: it may ask for any size."""
    stored, asked = sum(shape.numel() for shape in _stored_shapes(path).values()), count_parameters(model)
    if stored != asked:
        raise UserError(
            f"{path} does not fit the model: it holds {stored:,} numbers, and its config.json means {asked:,}"
        )


def load_model(folder: Path, config: Config | Imported, device: torch.device) -> LanguageModel:
    distributed.from_main(lambda: refuse_another_size(folder / WEIGHTS, config.model))
    model = build(config.model, device)
    load_into(model, folder / WEIGHTS)
    return model.eval()


def load_tokenizer(folder: Path) -> Tokenizer:
    return tokenizers.load(folder / "tokenizer.json")
