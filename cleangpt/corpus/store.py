"""Prepared data: a folder of token files that say what they are, and are read through memory maps.

    train.tokens  val.tokens  test.tokens    a header, the tokens, the end of each document
    tokenizer.json                           what the tokens mean
    prepared.json                            what they were made from

The header is the first 4096 bytes of a file: a magic word, then JSON with the type and number of the tokens, the
size of the vocabulary and the checksum of its tokenizer, the numbers of documents and of bytes of text, and the
checksum of what follows. The folder takes its name only when all of it is on the disk.

A folder of nanoGPT's (train.bin and val.bin of uint16 without a header, meta.json or none) is read as it is.
"""

import hashlib
import json
import os
import shutil
from array import array
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from cleangpt.basics import files, schema, untrusted
from cleangpt.basics.errors import ConfigError, UserError
from cleangpt.basics.schema import Section
from cleangpt.tokens import tokenizers

MAGIC = b"CleanGPT"
HEADER = 4096
SPLITS = ("train", "val", "test")
ABOUT, TOKENIZER = "prepared.json", "tokenizer.json"
BLOCK = 1 << 22
PREPARE = ": prepare it again with force=true"


class NotPrepared(UserError):
    """A folder has no prepared data."""


class TokenWriter:
    """A token file that grows; it is none before `close` has written its header."""

    def __init__(self, path: Path, dtype: np.dtype):
        self.path, self.dtype = path, dtype
        self.file = path.open("wb")
        self.file.write(bytes(HEADER))
        self.ends = (path.parent / f"{path.name}.ends").open("w+b")  # not kept in memory: there may be many
        self.hash = hashlib.sha256()
        self.tokens = self.documents = self.text_bytes = 0

    def add(self, tokens: bytes, ends: list[int], text_bytes: int) -> None:
        """Add tokens; `ends` says where among them documents end, `text_bytes` how much text they stand for."""
        self.ends.write(array("q", [self.tokens + end for end in ends]).tobytes())
        self._write(tokens)
        self.tokens += len(tokens) // self.dtype.itemsize
        self.documents += len(ends)
        self.text_bytes += text_bytes

    def _write(self, data: bytes) -> None:
        self.file.write(data)
        self.hash.update(data)

    def close(self, tokenizer_sha256: str, vocab_size: int) -> dict[str, Any]:
        """Write the ends of the documents, and the header, which it returns."""
        self._write(bytes(-self.file.tell() % 8))
        self.ends.seek(0)
        while block := self.ends.read(BLOCK):
            self._write(block)
        self.ends.close()
        Path(self.ends.name).unlink()
        header = {
            "format": 1,
            "dtype": self.dtype.name,
            "tokens": self.tokens,
            "documents": self.documents,
            "text_bytes": self.text_bytes,
            "vocab_size": vocab_size,
            "tokenizer_sha256": tokenizer_sha256,
            "sha256": self.hash.hexdigest(),
        }
        text = MAGIC + json.dumps(header).encode()
        self.file.seek(0)
        self.file.write(text.ljust(HEADER))
        self.file.close()
        files.sync(self.path)
        return header


class Header(Section):
    """The header of a token file."""

    format: Literal[1]
    dtype: Literal["uint8", "uint16", "uint32"]
    tokens: int = Field(ge=0, lt=1 << 48)
    documents: int = Field(ge=0, lt=1 << 48)
    text_bytes: int = Field(ge=0, lt=1 << 56)
    vocab_size: int = Field(ge=1, le=1 << 32)
    tokenizer_sha256: str
    sha256: str


class Tokens:
    """One split, mapped from its file. `ids` are the tokens, `ends` the places behind the last of each document."""

    def __init__(self, path: Path):
        self.path = path
        self.header = _header(path)
        count, dtype = self.header.tokens, np.dtype(self.header.dtype)
        self.ends_at = HEADER + -(-count * dtype.itemsize // 8) * 8
        if path.stat().st_size != self.ends_at + 8 * self.header.documents:
            raise UserError(f"{path} is not whole{PREPARE}")
        self.ids = np.memmap(path, dtype, "r", HEADER, (count,)) if count else np.empty(0, dtype)
        self.text_bytes: int | None = self.header.text_bytes
        self.vocab_size, self.may_exceed = self.header.vocab_size, self.header.vocab_size <= np.iinfo(dtype).max
        _refuse_wrong_ends(self.ends, count, path)

    @property
    def ends(self) -> np.ndarray:
        documents = self.header.documents
        return np.memmap(self.path, np.int64, "r", self.ends_at, (documents,)) if documents else np.empty(0, np.int64)

    @property
    def checksum(self) -> str:
        return self.header.sha256

    def checked(self, ids: Any) -> Any:
        """Refuse tokens that are not of the vocabulary. Who reads them asks: a file may be large."""
        if self.may_exceed and len(ids) and int(ids.max()) >= self.vocab_size:
            holds = f"holds token {int(ids.max())}, and its tokenizer has {self.vocab_size}"
            raise UserError(f"{self.path} {holds}{PREPARE}")
        return ids

    def is_intact(self) -> bool:
        """Read all of it and compare its checksum."""
        found = hashlib.sha256()
        with self.path.open("rb") as file:
            file.seek(HEADER)
            while block := file.read(BLOCK):
                found.update(block)
        return found.hexdigest() == self.checksum


class LegacyTokens:
    """A file of nanoGPT's: uint16 and nothing else."""

    def __init__(self, path: Path, vocab_size: int):
        size = path.stat().st_size
        if size % 2 or not size:
            raise UserError(f"{path} does not hold whole tokens of two bytes: is it a file of nanoGPT's?")
        self.ids = np.memmap(path, np.uint16, "r")
        self.text_bytes: int | None = None  # not known without decoding all of it
        largest = max(int(self.ids[start : start + BLOCK].max()) for start in range(0, len(self.ids), BLOCK))
        if largest >= vocab_size:
            raise UserError(f"{path} holds token {largest}, and its tokenizer has {vocab_size}: name another tokenizer")
        self.checksum = f"{path.name}: {len(self.ids)} tokens"

    def checked(self, ids: Any) -> Any:
        """Pass on these tokens: all were looked at when the file was opened."""
        return ids


class Prepared:
    """A folder of prepared data, opened."""

    def __init__(self, folder: Path, tokenizer_name: str | None = None):
        self.folder = folder
        self.preparation: dict[str, Any] | None = None  # the keys that it was made by, where it says so
        self.own: dict[str, Tokens] = {}  # splits in files of ours
        self.splits: dict[str, Tokens | LegacyTokens] = {}
        if (folder / ABOUT).exists():
            with untrusted.reading(folder / ABOUT, "what prepared data says of itself", PREPARE):
                self.preparation = untrusted.json_object(folder / ABOUT)["preparation"]
                if not isinstance(self.preparation, dict):
                    raise ValueError("its `preparation` is no group of keys")
            self.tokenizer = tokenizers.load(folder / TOKENIZER)
            self.own = {name: Tokens(path) for name, path in _found(folder, "tokens").items()}
            self.splits |= self.own
            checksum = files.sha256(folder / TOKENIZER)
            for name, tokens in self.own.items():
                stated = (tokens.header.tokenizer_sha256, tokens.header.vocab_size)
                if stated != (checksum, self.tokenizer.vocab_size):
                    raise UserError(
                        f"{folder / TOKENIZER} is not what {name}.tokens was written with: prepare it again"
                    )
        elif (folder / "train.bin").exists():
            self.tokenizer = _legacy_tokenizer(folder, tokenizer_name)
            size = self.tokenizer.vocab_size
            self.splits |= {name: LegacyTokens(path, size) for name, path in _found(folder, "bin").items()}
        else:
            raise NotPrepared(f"{folder} holds no prepared data")
        if missing := [name for name in ("train", "val") if name not in self.splits]:
            raise UserError(f"{folder} holds no {missing[0]} split: prepare it again")

    def checksums(self) -> dict[str, str]:
        return {name: tokens.checksum for name, tokens in self.splits.items()}


def _found(folder: Path, kind: str) -> dict[str, Path]:
    """Map the splits that a folder has to their files."""
    return {split: path for split in SPLITS if (path := folder / f"{split}.{kind}").exists()}


def replace(temporary: Path, folder: Path) -> None:
    """Give a folder that is whole its name; what had it before goes."""
    files.sync(temporary)
    old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
    if folder.exists():
        os.rename(folder, old)
    os.rename(temporary, folder)
    files.sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _header(path: Path) -> Header:
    with path.open("rb") as file:
        start = file.read(HEADER)
    if len(start) < HEADER or not start.startswith(MAGIC):
        raise UserError(f"{path} is no whole token file{PREPARE}")
    with untrusted.reading(path, "a token file", PREPARE):
        header = untrusted.parsed_object(start[len(MAGIC) :])
        if header["format"] != 1:
            raise ValueError(f"it has format {header['format']}, and this version reads 1")
    try:
        return schema.parse(header, Header)
    except ConfigError as error:
        raise UserError(f"{path} can't be read as a token file: in its header {error.mistakes[0]}{PREPARE}") from None


def _refuse_wrong_ends(ends: np.ndarray, count: int, path: Path) -> None:
    """Refuse documents that do not end one after the other, the last of them where the tokens do."""
    before, rises = 0, True
    for start in range(0, len(ends), BLOCK):
        block = np.concatenate([[before], ends[start : start + BLOCK]])
        before, rises = block[-1], rises and bool((np.diff(block) >= 0).all())
    if not rises or (len(ends) and before != count):
        raise UserError(f"{path} has documents that end where they can't{PREPARE}")


def _legacy_tokenizer(folder: Path, name: str | None) -> tokenizers.Tokenizer:
    """Read nanoGPT's tokenizer from meta.json, or take one by name. Never from meta.pkl: a pickle is code."""
    if (folder / "meta.json").exists():
        with untrusted.reading(folder / "meta.json", "what nanoGPT's tokens mean"):
            meta = untrusted.json_object(folder / "meta.json")
            itos = meta.get("itos")
            if isinstance(itos, dict):
                itos = [itos[key] for key in sorted(itos, key=int)]
            if itos is None and "stoi" in meta:
                itos = sorted(meta["stoi"], key=meta["stoi"].__getitem__)
        if itos is not None:
            return tokenizers.from_json({"kind": "characters", "tokens": itos}, folder / "meta.json")
        name = name if name not in ("characters", "bpe") else "gpt2"
    found = tokenizers.named(name or "gpt2")
    if found is None:
        raise UserError(
            f"{folder} has no meta.json that says what its tokens mean: write one as "
            '{"itos": ["\\n", " ", "!", …]}, or name a tokenizer, as in dataset.tokenizer=gpt2'
        )
    return found
