"""Write, open and refuse a safetensors file. Nothing in it is code."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open

from cleangpt.basics import untrusted
from cleangpt.basics.errors import UserError

REMEDY = ": use another snapshot, best/ or final/"
# Types as safetensors calls them, from the widest to the narrowest, which is their order in a file.
TYPES = {torch.int64: "I64", torch.float64: "F64", torch.float32: "F32", torch.int32: "I32", torch.bfloat16: "BF16"}
TYPES |= {torch.float16: "F16", torch.uint8: "U8", torch.bool: "BOOL"}
FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

Tensors = dict[str, torch.Tensor]


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


@contextlib.contextmanager
def opened(path: Path, remedy: str = REMEDY) -> Iterator[Any]:
    """Open a safetensors file, to read of it what is needed."""
    with reading(path, remedy):
        untrusted.opened(path).close()  # or else a pipe would be waited for
        with safe_open(path, framework="pt") as file:
            yield file


@contextlib.contextmanager
def reading(path: Path, remedy: str = REMEDY) -> Iterator[None]:
    """Turn what is wrong with a safetensors file into a sentence."""
    try:
        with untrusted.reading(path, "weights", remedy):
            yield
    except SafetensorError as error:
        raise UserError(f"{path} can't be read as weights ({error}){remedy}") from None


def usable(tensor: torch.Tensor, name: str, path: Path | str) -> torch.Tensor:
    """Turn a tensor into weights that a model can compute with, in float32."""
    if tensor.dtype not in FLOATS:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise UserError(f"{path} has {name} in {kind}, and weights are in float32, float64, bfloat16 or float16")
    tensor = tensor.float()
    if not tensor.isfinite().all():
        raise UserError(f"{path} has {name} with numbers that are not finite: no model can compute with it")
    return tensor
