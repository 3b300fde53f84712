"""Tokenizers, which are stored as JSON with prepared data and beside the weights, never as a pickle.

Each kind has `vocab_size`, the id `end` of the token that ends a document (or None), `encode` and `decode`, and
`array`, which is `encode` for much text: the ids in the smallest type that holds the vocabulary. Where a token may be
a part of a character, `bytes_of` tells its bytes.
"""

import base64
import contextlib
import json
import typing
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from cleangpt.basics import untrusted
from cleangpt.basics.errors import UserError
from cleangpt.basics.shown import in_line

END = "<|endoftext|>"
MOST_HOLES = 1_000_000  # numbers below that of the last token that have none
ENDS = (END, "</s>", "<|end_of_text|>", "<eos>")  # what other people's tokenizers call it


def smallest_type(vocab_size: int) -> np.dtype:
    """Choose the smallest unsigned integer that holds every id of a vocabulary."""
    return next(np.dtype(t) for t in ("uint8", "uint16", "uint32") if vocab_size <= 1 << 8 * np.dtype(t).itemsize)


def code_points(text: str) -> np.ndarray:
    """Number each character as Unicode does."""
    if text.isascii():
        return np.frombuffer(text.encode(), np.uint8)
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


class Characters:
    """One token for each of a list of characters; `end` and `pad` may be among them, and may be longer words."""

    kind = "characters"

    def __init__(self, tokens: list[str], end: str | None = None, pad: str | None = None):
        self.tokens, self.end_token, self.pad_token = tokens, end, pad
        self.ids = {token: i for i, token in enumerate(tokens)}
        if not 0 < len(self.ids) == len(tokens):
            raise ValueError("a token is there twice" if tokens else "it has no tokens")
        "".join(tokens).encode()  # halves of characters are none
        self.end = None if end is None else self.ids[end]
        self.pad = None if pad is None else self.ids[pad]
        self.vocab_size = len(tokens)
        self._table: np.ndarray | None = None

    def encode(self, text: str) -> list[int]:
        try:
            return [self.ids[character] for character in text]
        except KeyError:
            raise self._unknown(text) from None

    def array(self, text: str) -> np.ndarray:
        if self._table is None:
            self._table = np.zeros(0x110000, smallest_type(self.vocab_size))  # by code point
            self._known = np.zeros(0x110000, bool)
            for token, i in self.ids.items():
                if len(token) == 1:
                    self._table[ord(token)], self._known[ord(token)] = i, True
        codes = code_points(text)
        if not self._known[codes].all():
            raise self._unknown(text)
        return self._table[codes]

    def _unknown(self, text: str) -> UserError:
        unknown = sorted(set(text) - set(self.ids))
        shown = ", ".join(repr(character) for character in unknown[:5])
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        known = "".join(token for token in self.tokens if len(token) == 1).strip()
        known = known if len(known) <= 100 else f"{known[:100]}…"
        return UserError(f"the model's vocabulary has no {shown}{more}: it knows {known!r}")

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.tokens[i] for i in ids)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "tokens": self.tokens, "end": self.end_token, "pad": self.pad_token}


class Bytes:
    """The 256 bytes of UTF-8, and a token that ends a document where there are several."""

    kind = "bytes"

    def __init__(self, with_end: bool = True):
        self.end = 256 if with_end else None
        self.vocab_size = 257 if with_end else 256

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def array(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode(), np.uint8).astype(smallest_type(self.vocab_size))

    def bytes_of(self, token: int) -> bytes:
        return END.encode() if token == self.end else bytes([token])

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(map(self.bytes_of, ids)).decode(errors="replace")

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "with_end": self.end is not None}


class Tiktoken:
    """Byte pairs as tiktoken has them: a pattern that cuts text into words, and tokens in the order of their merges."""

    kind = "tiktoken"

    def __init__(self, pattern: str, tokens: list[str], special: dict[str, int]):
        import tiktoken

        self.pattern, self.tokens, self.special = pattern, tokens, special
        ranks = {base64.b64decode(token): i for i, token in enumerate(tokens)}
        if lacking := {bytes([byte]) for byte in range(256)} - set(ranks):
            raise ValueError(f"it has no token for the byte {min(lacking)!r}")
        if len(ranks) < len(tokens) or min(special.values(), default=len(tokens)) < len(tokens):
            raise ValueError("two of its tokens are one")
        self.encoding = tiktoken.Encoding("stored", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)
        self.vocab_size = _refuse_holes(self.encoding.n_vocab, len(tokens) + len(special))
        self.end = next((special[name] for name in ENDS if name in special), None)

    def encode(self, text: str) -> list[int]:
        with _speaking(text):
            return self.encoding.encode_ordinary(text)

    def array(self, text: str) -> np.ndarray:
        with _speaking(text):
            ids = self.encoding.encode_to_numpy(text, disallowed_special=())
        return ids.astype(smallest_type(self.vocab_size))

    def bytes_of(self, token: int) -> bytes:
        with contextlib.suppress(KeyError):  # between special tokens there may be ids without one
            return self.encoding.decode_single_token_bytes(token)
        return b""

    def decode(self, ids: Sequence[int]) -> str:
        try:
            return self.encoding.decode(list(ids))
        except KeyError:
            return b"".join(map(self.bytes_of, ids)).decode(errors="replace")

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "pattern": self.pattern, "tokens": self.tokens, "special": self.special}


class HuggingFace:
    """Whatever a tokenizer.json of the `tokenizers` library describes."""

    kind = "tokenizers"

    def __init__(self, tokenizer: dict[str, Any], end: str | None = None):
        import tokenizers

        self.data, self.end_token = tokenizer, end
        try:
            with untrusted.rust():
                self.tokenizer = tokenizers.Tokenizer.from_str(json.dumps(tokenizer))
        except Exception as error:  # the library raises bare Exceptions
            raise ValueError(f"the tokenizers library does not read it ({error})") from None
        self.tokenizer.encode_special_tokens = True  # text that spells a special token is text
        vocabulary = self.tokenizer.get_vocab(with_added_tokens=True)
        if not vocabulary:
            raise ValueError("it has no tokens")
        self.vocab_size = _refuse_holes(max(vocabulary.values()) + 1, len(vocabulary))
        ends = ENDS if end is None else (end,)
        self.end = next((vocabulary[name] for name in ends if name in vocabulary), None)
        unknown = tokenizer["model"].get("unk_token")
        falls_back = tokenizer["model"].get("byte_fallback", False)
        self.unknown = None if unknown is None or falls_back else vocabulary.get(unknown)

    def encode(self, text: str) -> list[int]:
        with _speaking(text):
            found = self.tokenizer.encode(text, add_special_tokens=False)
        if self.unknown is not None and self.unknown in found.ids:
            places = [place for i, place in zip(found.ids, found.offsets, strict=True) if i == self.unknown]
            shown = ", ".join(sorted({repr(text[a:b]) for a, b in places})[:5])
            raise UserError(f"the tokenizer's vocabulary has no {shown}")
        return found.ids

    def array(self, text: str) -> np.ndarray:
        return np.array(self.encode(text), smallest_type(self.vocab_size))

    def decode(self, ids: Sequence[int]) -> str:
        with _speaking(f"tokens {list(ids[:8])}"):
            return self.tokenizer.decode(list(ids), skip_special_tokens=False)

    def to_json(self) -> dict[str, Any]:
        end = {} if self.end_token is None else {"end": self.end_token}
        return {"kind": self.kind, "tokenizer": self.data, **end}


def _refuse_holes(vocab_size: int, tokens: int) -> int:
    """Return the size of a vocabulary, unless most numbers have no token: libraries walk over all of them."""
    if vocab_size > tokens + MOST_HOLES:
        raise ValueError(f"it has {tokens:,} tokens, and one of them is number {vocab_size - 1:,}")
    return vocab_size


@contextlib.contextmanager
def _speaking(text: str) -> Iterator[None]:
    """Turn whatever a library raises, as on a vocabulary that lacks a part of the text, into a UserError."""
    try:
        with untrusted.rust():
            yield
    except Exception as error:  # the libraries raise bare Exceptions
        raise UserError(f"the tokenizer can't write {text[:40]!r}: {error}") from None


Tokenizer = Characters | Bytes | Tiktoken | HuggingFace
KINDS: dict[str, type[Tokenizer]] = {kind.kind: kind for kind in (Characters, Bytes, Tiktoken, HuggingFace)}


# --------------------------------------------------------------------------------------------------------------
# Where tokenizers come from


def from_json(data: dict[str, Any], path: Path | str) -> Tokenizer:
    """Make a tokenizer from what `to_json` gave, or from a tokenizer.json of the `tokenizers` library."""
    data = dict(data)
    kind = data.pop("kind", None)
    with untrusted.reading(path, "a tokenizer"):
        if kind is None and "model" in data:
            return HuggingFace(data)
        if kind in KINDS:
            return _made(KINDS[kind], data)
    raise UserError(f"{path} holds a tokenizer of kind {in_line(kind)}: this version reads {', '.join(KINDS)}")


def _made(kind: type[Tokenizer], data: dict[str, Any]) -> Tokenizer:
    """Make a tokenizer of this kind, if its values are of the types that it asks for."""
    hints = typing.get_type_hints(kind.__init__)
    for name in hints.keys() & data.keys():
        try:
            TypeAdapter(hints[name]).validate_python(data[name], strict=True)
        except ValidationError:
            raise ValueError(f"its `{name}` is not what it should be") from None
    return kind(**data)


def load(path: Path) -> Tokenizer:
    with untrusted.reading(path, "a tokenizer"):
        data = untrusted.json_object(path)
    return from_json(data, path)


def named(name: str) -> Tokenizer | None:
    """Make the tokenizer of this name, where it takes no text to be made from: None for the others."""
    if name == "bytes":
        return Bytes()
    if name == "gpt2" or name.startswith("gpt2:"):
        return gpt2(name.removeprefix("gpt2").removeprefix(":") or None)
    if name.endswith(".json"):
        return load(Path(name))
    return None


def gpt2(file: str | None = None) -> Tiktoken:
    """Read GPT-2's vocabulary from a local file of ranks, or as tiktoken finds or fetches it.

    `r50k_base` is the same vocabulary as `gpt2` in one file that tiktoken caches.
    """
    from tiktoken_ext import openai_public

    try:
        if file is None:
            ranks = openai_public.r50k_base()["mergeable_ranks"]
        else:
            lines = [line.split() for line in Path(file).read_bytes().splitlines() if line]
            ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    except Exception as error:  # requests' own exceptions among them
        what = f"can't be read from {file}" if file else "can't be fetched"
        raise UserError(
            f"GPT-2's vocabulary, which is dataset.tokenizer=gpt2, {what} ({type(error).__name__}): choose "
            "dataset.tokenizer=characters, bytes or bpe, which need no network, or fetch "
            "https://openaipublic.blob.core.windows.net/encodings/r50k_base.tiktoken where there is one and use "
            "dataset.tokenizer=gpt2:<path of r50k_base.tiktoken>, or set TIKTOKEN_CACHE_DIR to a cache that holds it"
        ) from None
    if sorted(ranks.values()) != list(range(50256)):
        raise UserError(f"{file or 'the cached file'} does not hold GPT-2's 50,256 merges: fetch it again")
    tokens = [base64.b64encode(token).decode() for token in sorted(ranks, key=ranks.__getitem__)]
    return Tiktoken(openai_public.r50k_pat_str, tokens, {END: 50256})


def characters_of(found: Iterable[str], with_end: bool) -> Characters:
    """Make a token of each character that was found, and one that ends a document where there are several."""
    tokens = sorted(set(found))
    return Characters([*tokens, END] if with_end else tokens, end=END if with_end else None)


def train_bpe(texts: Iterable[str], vocab_size: int) -> HuggingFace:
    """Learn byte pairs from text: every byte is a token, so that nothing is ever unknown."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return HuggingFace(json.loads(tokenizer.to_str()))
