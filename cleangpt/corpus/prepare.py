"""Make token files of text: read in pieces, tokenized in parallel, written in order, in memory that does not grow."""

import contextlib
import itertools
import multiprocessing
import os
import shutil
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cleangpt.basics import files
from cleangpt.basics.errors import UserError
from cleangpt.corpus import store
from cleangpt.corpus.settings import PreparationSettings
from cleangpt.corpus.sources import Piece, Source, fetch
from cleangpt.machine import guard
from cleangpt.tokens import tokenizers
from cleangpt.tokens.tokenizers import Tokenizer

JOB = 1 << 20  # bytes of text that a worker gets at a time
LEARN_FROM = 1 << 28  # bytes of text that byte pairs are learned from, at most
WORTH_A_PROCESS = 8 << 20  # bytes: less is prepared sooner by this process alone

Progress = Callable[[str, int, int | None], None]  # what is done, bytes that were read, of how many
Say = Callable[[str], None]
T = TypeVar("T")


def prepare(
    settings: PreparationSettings, workers: int | str, force: bool, progress: Progress, say: Say = lambda words: None
) -> tuple[store.Prepared, bool]:
    """Find or make the data of these settings; True where it was made. `say` is told what of the text is left out."""
    folder = Path(settings.dir)
    if (there := _found(settings, force, progress)) is not None:
        return there, False
    temporary = _claim(folder)
    try:
        if (there := _found(settings, force, progress)) is not None:  # another process made it meanwhile
            return there, False
        with contextlib.closing(_Workers(workers)) as pool:
            _write(settings, temporary, pool, progress, say)
        store.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return store.Prepared(folder), True


def _found(settings: PreparationSettings, force: bool, progress: Progress) -> store.Prepared | None:
    """Open what is prepared already, unless it is to be made anew."""
    folder = Path(settings.dir)
    if (folder / "train.bin").exists():
        raise UserError(f"{folder} is a folder of nanoGPT's, which is read as it is: choose another dataset.dir")
    if not (folder / store.ABOUT).exists():
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f"{folder} holds other files: choose another dataset.dir, or empty it")
        return None
    if force:
        return None
    progress("checking what is there", 0, None)
    prepared = store.Prepared(folder)
    there = prepared.preparation or {}
    for key, wanted in settings.preparation().items():
        if there.get(key) != wanted:
            raise UserError(
                f"{folder} was prepared with dataset.{key}={there.get(key)}, not {wanted}: choose another "
                "dataset.dir, or prepare it anew with force=true"
            )
    for name, tokens in prepared.own.items():
        if not tokens.is_intact():
            raise UserError(f"{folder / name}.tokens is damaged: prepare it anew with force=true")
    return prepared


def _claim(folder: Path) -> Path:
    """Make a new folder beside `folder`, for this process alone. What a process that is gone left there is removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    stem = f".{folder.name}.preparing-"
    mine = folder.with_name(f"{stem}{os.getpid()}")
    shutil.rmtree(mine, ignore_errors=True)  # of a process that had this number
    mine.mkdir()
    for other in set(folder.parent.glob(f"{stem}*")) - {mine}:
        number = other.name.removeprefix(stem)
        if guard.is_there(int(number)):
            mine.rmdir()
            raise UserError(f"process {number} is preparing {folder} already: wait for it")
        shutil.rmtree(other)
    return mine


def _write(settings: PreparationSettings, temporary: Path, pool: "_Workers", progress: Progress, say: Say) -> None:
    """Write all files of prepared data into a folder."""
    sources = _sources(settings, progress)
    main = sources["train"]
    held_out = {"val": settings.val_fraction, "test": settings.test_fraction}
    fractions = {name: part for name, part in held_out.items() if part > 0 and name not in sources}
    by_position = main.by_position(settings.split)
    shares = [("train", 1 - sum(fractions.values())), *fractions.items()] if by_position else None
    key = str(settings.split_seed).encode()

    def pieces(what: str) -> Iterator[Piece]:
        totals = [source.total or 0 for source in sources.values()]
        total, before = sum(totals) if all(totals) else None, 0
        for name, source in sources.items():
            whole = "" if name == "train" and fractions else name
            split = whole
            for piece in source.pieces(shares if name == "train" else None, whole):
                if not whole and not by_position:
                    split = _draw(piece.text, key, fractions) if piece.begins else split
                    piece = Piece(piece.text, piece.begins, piece.ends, split, piece.where)
                yield piece
                progress(what, before + source.read, total)
            before += source.read

    pool.size_up(sum(source.total or 1 << 40 for source in sources.values()))
    several = any(source.several for source in sources.values())
    tokenizer = _tokenizer(settings, pieces, pool, several, progress)
    pool.use(tokenizer)
    files.write_json(temporary / store.TOKENIZER, tokenizer.to_json())
    dtype = tokenizers.smallest_type(tokenizer.vocab_size)
    end = np.array([tokenizer.end] if several else [], dtype)
    writers: dict[str, store.TokenWriter] = {}
    for parts in pool.map(partial(_encode, end), _jobs(pieces("tokenizing"))):
        for split, (tokens, ends, text_bytes) in parts.items():
            if split not in writers:
                writers[split] = store.TokenWriter(temporary / f"{split}.tokens", dtype)
                writers[split].add(end.tobytes(), [], 0)  # the first document too has something to begin behind
            writers[split].add(tokens, ends, text_bytes)
    for source in sources.values():
        for words in source.left_out():
            say(words)
    checksum = files.sha256(temporary / store.TOKENIZER)
    for name in ("train", "val", *fractions):
        if name not in writers:
            raise UserError(
                f"no text fell to {name}: raise dataset.{'val' if name == 'train' else name}_fraction, set "
                "dataset.split=position, or give more text"
            )
    headers = {split: writer.close(checksum, tokenizer.vocab_size) for split, writer in writers.items()}
    files.write_json(temporary / store.ABOUT, {"preparation": settings.preparation(), "splits": headers})


def _sources(settings: PreparationSettings, progress: Progress) -> dict[str, Source]:
    """Open what each split is read from; only `train` may be what others are held out of."""
    named = {"train": settings.source, "val": settings.val_source, "test": settings.test_source}
    if settings.source is None:
        raise UserError("`dataset.source` is missing: name a file, a folder, a glob, or a data set of Hugging Face")
    found = {}
    for split, location in named.items():
        if location is None:
            continue
        if location.startswith(("http://", "https://")):
            folder = Path(settings.dir)
            name = f"{folder.name}-{location.rstrip('/').rpartition('/')[2]}"
            location = str(fetch(location, folder.parent / "downloads", name, partial(progress, "downloading")))
        found[split] = Source(location, settings.field, settings.separator, settings.subset, settings.streaming)
    return found


def _draw(text: bytes, key: bytes, fractions: dict[str, float]) -> str:
    """Draw the split of a document, a function of its text: copies of one document are never on both sides."""
    place = int.from_bytes(blake2b(text, digest_size=8, key=key).digest(), "little") / 2**64
    for name, part in fractions.items():
        if place < part:
            return name
        place -= part
    return "train"


# --------------------------------------------------------------------------------------------------------------
# Tokenizers that are made from the text


def _tokenizer(
    settings: PreparationSettings,
    pieces: Callable[[str], Iterable[Piece]],
    pool: "_Workers",
    several: bool,
    progress: Progress,
) -> Tokenizer:
    """Make the tokenizer that is asked for, from the text where it takes that."""
    if settings.tokenizer == "characters":
        found: set[str] = set()
        for characters in pool.map(_characters, _jobs(pieces("collecting characters"))):
            found |= characters
        return tokenizers.characters_of(found, several)
    if settings.tokenizer == "bpe":

        def texts() -> Iterator[str]:
            left = LEARN_FROM
            for piece in pieces("learning byte pairs"):
                if left <= 0:
                    break
                if piece.split == "train":
                    left -= len(piece.text)
                    yield _decoded(piece)
            progress("merging byte pairs", 0, None)

        return tokenizers.train_bpe(texts(), settings.bpe_vocab_size)
    if settings.tokenizer == "bytes":
        return tokenizers.Bytes(several)
    tokenizer = tokenizers.named(settings.tokenizer)
    if tokenizer is None:
        raise UserError(
            f"`dataset.tokenizer` must be characters, bytes, bpe, gpt2, gpt2:<file> or a path of a tokenizer.json, "
            f"not {settings.tokenizer}"
        )
    if several and tokenizer.end is None:
        raise UserError(
            f"`dataset.tokenizer` is {settings.tokenizer}, which has no token that ends a document, and there are "
            f"several documents: add one named {tokenizers.END} to it"
        )
    return tokenizer


# --------------------------------------------------------------------------------------------------------------
# Work for other processes


def _jobs(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Gather pieces until there is work for a process."""
    job: list[Piece] = []
    size = 0
    for piece in pieces:
        job.append(piece)
        size += len(piece.text) + 64
        if size >= JOB:
            yield job
            job, size = [], 0
    if job:
        yield job


def _decoded(piece: Piece) -> str:
    try:
        return piece.text.decode()
    except UnicodeDecodeError as error:
        wrong = error.object[error.start : error.start + 1].hex()
        way = "convert it first, as with iconv -f LATIN1 -t UTF-8"
        raise UserError(f"{piece.where} is not UTF-8 (there is a byte 0x{wrong}): {way}") from None


def _characters(_: Any, job: list[Piece]) -> set[str]:
    text = "".join(_decoded(piece) for piece in job)
    return set(map(chr, np.flatnonzero(np.bincount(tokenizers.code_points(text)))))


def _encode(end: np.ndarray, tokenizer: Tokenizer, job: list[Piece]) -> dict[str, tuple[bytes, list[int], int]]:
    """Tokenize a job; by split, tokens, where documents end among them, and how many bytes of text they stand for."""
    found = {}
    for split in dict.fromkeys(piece.split for piece in job):
        pieces = [piece for piece in job if piece.split == split]
        arrays = [np.append(tokenizer.array(_decoded(piece)), end if piece.ends else end[:0]) for piece in pieces]
        places = itertools.accumulate(map(len, arrays))
        ends = [place for place, piece in zip(places, pieces, strict=True) if piece.ends]
        found[split] = (np.concatenate(arrays).tobytes(), ends, sum(len(piece.text) for piece in pieces))
    return found


_tokenizer_here: Tokenizer | None = None  # of a worker


def _begin(tokenizer: dict[str, Any] | None, parent: int) -> None:
    global _tokenizer_here
    guard.leave_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that reads is the one to stop
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _tokenizer_here = None if tokenizer is None else tokenizers.from_json(tokenizer, "the tokenizer")


def _work(function: Callable[[Any, list[Piece]], T], job: list[Piece]) -> T:
    return function(_tokenizer_here, job)


class _Workers:
    """Processes over which jobs are mapped, in order, with few under way at a time; none, where one is enough."""

    def __init__(self, workers: int | str):
        self.asked, self.count = workers, 1
        self.tokenizer: Tokenizer | None = None
        self.pool: ProcessPoolExecutor | None = None

    def size_up(self, total: int) -> None:
        if self.asked != "auto":
            self.count = int(self.asked)
        elif total > WORTH_A_PROCESS:
            self.count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def use(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.close()

    def map(self, function: Callable[[Any, list[Piece]], T], jobs: Iterator[list[Piece]]) -> Iterator[T]:
        """Call a function with the tokenizer, if there is one yet, and each job."""
        if self.count == 1:
            for job in jobs:
                yield function(self.tokenizer, job)
            return
        if self.pool is None:
            told = None if self.tokenizer is None else self.tokenizer.to_json()
            spawn = multiprocessing.get_context("spawn")
            self.pool = ProcessPoolExecutor(self.count, spawn, _begin, (told, os.getpid()))
        under_way: deque[Future[T]] = deque()
        try:
            for job in jobs:
                under_way.append(self.pool.submit(_work, function, job))
                if len(under_way) > 2 * self.count:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        except BrokenProcessPool:
            raise UserError("a process that tokenizes was killed, by want of memory perhaps: lower `workers`") from None

    def close(self) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)
            self.pool = None
