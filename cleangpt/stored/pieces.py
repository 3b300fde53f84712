"""Read tensors that lie in one safetensors file, or in pieces in several, as far as they are needed.

A piece is some rows of a tensor. The header of its file says where they begin and which shape the whole has.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

from cleangpt.basics import untrusted
from cleangpt.basics.errors import UserError
from cleangpt.basics.shown import in_line
from cleangpt.stored import tensorfile

NAME = re.compile(r"shard_(\d{5})_of_(\d{5})\.safetensors")


def shard_name(place: int, count: int) -> str:
    """Name the file of the process at this place of so many."""
    return f"shard_{place + 1:05d}_of_{count:05d}.safetensors"


def shards(folder: Path, remedy: str = tensorfile.REMEDY) -> list[Path]:
    """List the files in which the pieces lie, in their order; none where nothing is in pieces."""
    found = {path.name for path in folder.glob("shard_*") if NAME.fullmatch(path.name)}
    if not found:
        return []
    wanted = [shard_name(place, int(min(found)[15:20])) for place in range(int(min(found)[15:20]))]
    if wrong := sorted(found.symmetric_difference(wanted)):
        verb = "lacks" if wrong[0] in wanted else "holds"
        raise UserError(f"{folder} {verb} {wrong[0]}, and its tensors lie in {len(wanted)} files{remedy}")
    return [folder / name for name in wanted]


def _place(said: Any, name: str) -> tuple[int, list[int]]:
    """Read where a piece begins, and which shape the whole has."""
    found: list[Any] = [said.get(key) if isinstance(said, dict) else None for key in ("first", "shape")]
    first, whole = found
    if not isinstance(whole, list) or not all(type(size) is int and size >= 0 for size in (first, *whole)):
        raise ValueError(f"its {in_line(name)} is no rows of anything")
    return first, whole


class Piece(NamedTuple):
    """Some rows of a tensor."""

    first: int
    end: int
    path: Path


class Stored:
    """The tensors of some files, each of whose rows is there exactly once.

    That they are in pieces is something that files of one snapshot say, and no others are asked.
    """

    def __init__(self, paths: list[Path], in_pieces: bool, remedy: str = tensorfile.REMEDY):
        self.paths, self.in_pieces, self.remedy = paths, in_pieces, remedy
        self.shapes: dict[str, torch.Size] = {}
        self.about: dict[str, Any] = {}  # the metadata of the first file
        self._kinds: dict[str, str] = {}
        self._pieces: dict[str, list[Piece]] = {}
        self._files: dict[Path, Any] = {}
        for path in paths:
            with tensorfile.reading(path, remedy):
                self._look_into(path)
        for name in self._pieces:
            self._refuse_gaps(name)

    def _look_into(self, path: Path) -> None:
        untrusted.opened(path).close()  # or else a pipe would be waited for
        file = self._files[path] = safe_open(path, framework="pt")
        about = untrusted.parsed_object((file.metadata() or {}).get("cleangpt", "{}"))
        places = about.pop("pieces", {}) if self.in_pieces else {}
        if not isinstance(places, dict):
            raise ValueError("it does not say where its rows belong")
        if path == self.paths[0]:
            self.about = about
        elif self.in_pieces and about.get("step") != self.about.get("step"):
            raise ValueError(f"it is of step {about.get('step')}, and {self.paths[0].name} of {self.about.get('step')}")
        for name in file.keys():  # noqa: SIM118 it is no dict
            stored = file.get_slice(name)
            shape, first = torch.Size(stored.get_shape()), 0
            rows = shape[0] if shape else 1
            if (place := places.get(name)) is not None:
                first, whole = _place(place, name)
                if list(shape[1:]) != whole[1:] or not whole or first + rows > whole[0]:
                    raise ValueError(f"its {in_line(name)} is no part of what it says it is")
                shape = torch.Size(whole)
            if self.shapes.setdefault(name, shape) != shape:
                raise ValueError(f"its {in_line(name)} is of another tensor than in the files before")
            if self._kinds.setdefault(name, stored.get_dtype()) != stored.get_dtype():
                raise ValueError(f"its {in_line(name)} has another dtype than in the files before")
            self._pieces.setdefault(name, []).append(Piece(first, first + rows, path))

    def _refuse_gaps(self, name: str) -> None:
        pieces, shape = sorted(self._pieces[name]), self.shapes[name]
        self._pieces[name] = pieces
        expected = 0
        for piece in pieces:
            if piece.first != expected:
                break
            expected = piece.end
        if len({piece.first for piece in pieces}) < len(pieces) or expected != (shape[0] if shape else 1):
            folder = self.paths[0].parent
            raise UserError(f"{folder} does not have each row of {in_line(name)} once{self.remedy}")

    def path_of(self, name: str) -> Path:
        """Return the file that the tensor begins in."""
        return self._pieces[name][0].path

    def rows(self, name: str, first: int = 0, end: int | None = None) -> Tensor:
        """Read some rows of a tensor, or all."""
        pieces, shape = self._pieces[name], self.shapes[name]
        if not shape:
            return self._read(pieces[0], name, ...)
        end = shape[0] if end is None else end
        found = [
            self._read(piece, name, slice(max(first, piece.first) - piece.first, min(end, piece.end) - piece.first))
            for piece in pieces
            if piece.first < end and first < piece.end
        ]
        if not found:
            return self._read(pieces[0], name, slice(0, 0))
        return found[0] if len(found) == 1 else torch.cat(found)

    def columns(self, name: str, first: int, end: int) -> Tensor:
        """Read some columns of a matrix that lies in one file."""
        return self._read(self._pieces[name][0], name, (slice(None), slice(first, end)))

    def _read(self, piece: Piece, name: str, part: Any) -> Tensor:
        with tensorfile.reading(piece.path, self.remedy):
            return self._files[piece.path].get_slice(name)[part]
