"""Sources of text: files, folders, globs, JSON lines, parquet, an address, or a data set of Hugging Face.

Whatever the source, it is read in pieces of a bounded size. A document longer than a piece is cut in front of
white space that follows a letter, where no tokenizer of byte pairs joins two tokens.
"""

import codecs
import glob
import json
import os
import re
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

from cleangpt.basics import extras, files
from cleangpt.basics.errors import UserError
from cleangpt.corpus.kinds import RECORDS, opened, suffix

PIECE = 1 << 20  # bytes of a document that are read at a time
TEXT, EMPTY, MISSING = "text", "empty", "missing"  # what a record has
FILES_NAMED = 5  # of those with such records
ENOUGH = 1000  # records without one text: there will be none
FEW = 20  # files, each a document: too few to hold some of them out
STREAM_ABOVE = 5 << 30  # bytes of a Hugging Face data set


Shares = list[tuple[str, float]]  # splits, and which part of a file is theirs


@dataclass(frozen=True)
class Piece:
    """A document, or a part of a long one."""

    text: bytes  # UTF-8
    begins: bool  # a document
    ends: bool
    split: str  # "": by what the document is
    where: str  # it was read


class Source:
    """Documents from one place.

    `read` counts the bytes that were read of `total`, where that is known; `records` those of each file by what they
    are: a text, or why not.
    """

    def __init__(self, location: str, field: str, separator: str | None, subset: str | None, stream: bool | str):
        self.location, self.field, self.subset, self.stream = location, field, subset, stream
        self.separator = separator.encode() if separator else None
        self.paths = None if location.startswith("hf:") else _paths(location)
        if self.paths is None and not location.startswith("hf:"):
            self.location = f"hf:{location}"
        self.holds_records = self.paths is None or any(suffix(path) in RECORDS for path in self.paths)
        self.several = self.holds_records or separator is not None or len(self.paths or ()) > 1
        self.total = None if self.paths is None else sum(path.stat().st_size for path in self.paths)
        self.read = 0
        self.records: dict[str, Counter[str]] = defaultdict(Counter)
        self.there: list[str] = []  # fields of the first record that lacks ours

    def by_position(self, choice: str) -> bool:
        """Decide whether each file is cut where its last part begins, instead of holding out some documents."""
        if choice == "position" and self.holds_records:
            raise UserError(f"`dataset.split` must be auto or documents for records, and {self.location} holds records")
        many = self.holds_records or self.separator is not None or len(self.paths or ()) >= FEW
        return choice == "position" or (choice == "auto" and not many)

    def pieces(self, shares: Shares | None = None, split: str = "") -> Iterator[Piece]:
        """Read all of it, as this split. `shares` cut each file by position: [("train", 0.9), ("val", 0.1)]."""
        self.read, self.records, self.there = 0, defaultdict(Counter), []
        if self.paths is None:
            yield from self._hub(split)
        for path in self.paths or ():
            if path.suffix == ".parquet":
                yield from self._parquet(path, split)
            elif suffix(path) in RECORDS:
                yield from self._json_lines(path, split)
            else:
                yield from self._text(path, shares or [(split, 1.0)])
        self._insist_on_texts(at_least=1)

    # ---- text

    def _text(self, path: Path, shares: Shares) -> Iterator[Piece]:
        with opened(path) as (file, raw):
            size, start, share, before = file.seek(0, os.SEEK_END), 0, 0.0, self.read
            file.seek(0)
            if file.read(3) == b"\xef\xbb\xbf":
                start = 3  # a mark of byte order is no text
            for name, part in shares:
                share += part
                last = name == shares[-1][0]
                end = size if last else max(start, _boundary(file, int(size * share)))
                file.seek(start)
                for piece in self._cut(file, end - start, name, str(path)):
                    self.read = max(self.read, before + raw.tell())
                    yield piece
                start = end
            self.read = before + path.stat().st_size

    def _cut(self, file: IO[bytes], left: int, split: str, where: str) -> Iterator[Piece]:
        """Read the next `left` bytes of a file as documents, and long documents as pieces."""
        held, begins = b"", True
        while left:
            block = file.read(min(PIECE, left))
            left -= len(block)
            held += block
            if self.separator:
                *whole, held = held.split(self.separator)
                for part in whole:
                    part = part.rstrip(b"\r\n") if not begins else part.strip(b"\r\n")
                    if part or not begins:
                        yield Piece(part, begins, True, split, where)
                    begins = True
                if begins:
                    held = held.lstrip(b"\r\n")
            if len(held) >= PIECE and left:
                room = len(self.separator or b"")
                at = safe_cut(held[: len(held) - room])
                yield Piece(held[:at], begins, False, split, where)
                held, begins = held[at:], False
        held = held.rstrip(b"\r\n") if self.separator else held
        if held or not begins:
            yield Piece(held, begins, True, split, where)

    # ---- records

    def _json_lines(self, path: Path, split: str) -> Iterator[Piece]:
        before = self.read
        with opened(path) as (file, raw):
            for number, line in enumerate(file, 1):
                self.read = before + raw.tell()
                if line.strip():
                    try:
                        record = json.loads(line)
                    except (ValueError, RecursionError):
                        raise UserError(f"{path}, line {number}, is no JSON: mend or leave out that line") from None
                    yield from self._record(record, split, str(path))

    def _parquet(self, path: Path, split: str) -> Iterator[Piece]:
        try:
            import pyarrow.parquet  # type: ignore[import-untyped]  # it has no types
        except ModuleNotFoundError:
            raise _needs_extra(str(path)) from None

        try:
            file = pyarrow.parquet.ParquetFile(path)
        except pyarrow.ArrowInvalid as error:
            raise UserError(f"{path} is no parquet file ({str(error).rstrip('.')}): fetch or write it again") from None
        with file:
            if self.field not in file.schema_arrow.names:
                raise self._no_field(str(path), file.schema_arrow.names)
            before, rows = self.read, 0
            for batch in file.iter_batches(columns=[self.field], batch_size=256):
                rows += len(batch)
                self.read = before + path.stat().st_size * rows // file.metadata.num_rows
                for text in batch.column(0).to_pylist():
                    yield from self._document(text, split, str(path))

    def _hub(self, split: str) -> Iterator[Piece]:
        name, revision, part = parse_hub(self.location)
        rows = _load(name, self.subset, revision, part, self.stream)
        if rows.column_names and self.field not in rows.column_names:
            raise self._no_field(name, rows.column_names)
        try:
            for batch in rows.iter(batch_size=256):
                for text in batch[self.field]:
                    yield from self._document(text, split, name)
        except OSError as error:  # a connection that breaks while it streams
            raise _unreachable(name, error) from None

    def _document(self, text: Any, split: str, where: str) -> Iterator[Piece]:
        kind = EMPTY if text is None or text == "" else TEXT if isinstance(text, str) else type(text).__name__
        self._count(kind, where)
        if kind != TEXT:
            return
        data = text.encode("utf-8", "surrogatepass")
        begins = True
        while len(data) > 2 * PIECE:
            at = safe_cut(data[:PIECE])
            yield Piece(data[:at], begins, False, split, where)
            data, begins = data[at:], False
        yield Piece(data, begins, True, split, where)

    def _record(self, record: Any, split: str, where: str) -> Iterator[Piece]:
        if isinstance(record, dict) and self.field in record:
            yield from self._document(record[self.field], split, where)
        else:
            self.there = self.there or (list(record) if isinstance(record, dict) else [])
            self._count(MISSING, where)

    def _count(self, kind: str, where: str) -> None:
        self.records[where][kind] += 1
        if kind != TEXT and sum(self.records[where].values()) % ENOUGH == 0:
            self._insist_on_texts(at_least=ENOUGH)

    def _insist_on_texts(self, at_least: int) -> None:
        """Refuse many records, or all, of which none has a text."""
        counts = sum(self.records.values(), Counter())
        if counts[TEXT] or counts.total() < at_least:
            return
        where, (kind, _) = next(iter(self.records)), counts.most_common(1)[0]
        if kind == MISSING:
            raise self._no_field(where, self.there)
        if kind == EMPTY:
            which = f"{'the first' if at_least == ENOUGH else 'all'} {counts.total():,} records of {where}"
            raise UserError(f"`{self.field}` is null or empty in {which}: name another dataset.field")
        raise UserError(f"`{self.field}` in {where} is no text but {kind}: name another dataset.field")

    def left_out(self) -> list[str]:
        """Say which records had no text, of the last time that all was read."""
        lacking = {where: counts for where, counts in self.records.items() if counts.total() > counts[TEXT]}
        said = []
        for where, counts in list(lacking.items())[:FILES_NAMED]:
            why = [(EMPTY, "whose text is null or empty"), (MISSING, f"without the field {self.field!r}")]
            others = sorted(counts.keys() - {TEXT, EMPTY, MISSING})
            why += [(kind, f"whose text is no text but {kind}") for kind in others]
            told = ", ".join(f"{counts[kind]:,} {words}" for kind, words in why if counts[kind])
            out = counts.total() - counts[TEXT]
            said.append(f"{where}: {out:,} of its {counts.total():,} records are left out: {told}.")
        if len(lacking) > FILES_NAMED:
            counts = sum(self.records.values(), Counter())
            out = counts.total() - counts[TEXT]
            more = len(lacking) - FILES_NAMED
            said.append(f"{more} more files have such records: in all, {out:,} of {counts.total():,} are left out.")
        return said

    def _no_field(self, where: str, there: list[str]) -> UserError:
        return UserError(f"{where} has no field {self.field!r}: set dataset.field to one of {', '.join(there) or '…'}")


def safe_cut(data: bytes) -> int:
    """Find where to cut: before the last line or word that follows a visible character, never inside a character."""
    for white in (b"\n", b" "):
        at = data.rfind(white)
        while at > len(data) // 2:
            if 0x20 < data[at - 1] < 0x7F:
                return at
            at = data.rfind(white, 0, at)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(data[-4:])
    held, _ = decoder.getstate()  # the beginning of a character that is not whole
    return len(data) - len(held) or len(data)


def _boundary(file: IO[bytes], at: int) -> int:
    """Find the first place from here on where a character begins."""
    file.seek(at)
    for byte in file.read(4):
        if byte & 0xC0 != 0x80:
            break
        at += 1
    return at


# --------------------------------------------------------------------------------------------------------------
# Names of places


def parse_hub(location: str) -> tuple[str, str | None, str]:
    """Take hf:owner/name[@revision][:split] apart."""
    name, _, part = location.removeprefix("hf:").partition(":")
    name, _, revision = name.partition("@")
    return name, revision or None, part or "train"


def _paths(location: str) -> list[Path] | None:
    """List the files that a location names, or None where it names a data set of Hugging Face."""
    path = Path(location).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        if not found:
            raise UserError(f"`dataset.source` is {location}, and there is no file in that folder")
        return found
    if glob.has_magic(location):
        found = sorted(Path(p) for p in glob.glob(os.path.expanduser(location), recursive=True) if Path(p).is_file())
        if not found:
            raise UserError(f"`dataset.source` is {location}, and no file fits it")
        return found
    if re.fullmatch(r"[\w-]+(/[\w.-]+)?(@[\w./-]+)?(:\w+)?", location) and suffix(path) not in (".txt", *RECORDS):
        return None
    raise UserError(f"`dataset.source` is {location}, and there is no such file: name a file, a folder or a glob")


def fetch(
    url: str, downloads: Path, name: str, progress: Callable[[int, int | None], None] = lambda read, total: None
) -> Path:
    """Fetch the file at an address, kept for the next time. It has its name only when it is whole."""
    path = downloads / name
    if path.exists():
        return path
    downloads.mkdir(parents=True, exist_ok=True)

    def download(file: BinaryIO) -> None:
        with urllib.request.urlopen(url, timeout=30) as answer:
            announced = answer.headers.get("Content-Length")
            while part := answer.read(1 << 16):
                file.write(part)
                progress(file.tell(), int(announced) if announced is not None else None)
        if announced is not None and file.tell() != int(announced):
            raise OSError(f"only {file.tell()} of {announced} bytes came")

    try:
        files.replace(path, download)
    except (OSError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"{url} can't be fetched ({reason}): fetch it where there is a network, and give dataset.source=<the file>"
        ) from None
    return path


def _load(name: str, subset: str | None, revision: str | None, part: str, stream: bool | str) -> Any:
    if not Path(name).exists() and not _reachable():
        os.environ["HF_HUB_OFFLINE"] = "1"  # look into the cache at once, instead of trying again and again
    try:
        import datasets
    except ModuleNotFoundError:
        raise _needs_extra(name) from None

    try:
        if stream == "auto":
            info = datasets.load_dataset_builder(name, subset, revision=revision).info
            stream = max(info.download_size or 0, info.dataset_size or 0) > STREAM_ABOVE
        return datasets.load_dataset(name, subset, split=part, revision=revision, streaming=stream)
    except (OSError, RuntimeError) as error:  # ConnectionError, and what the hub's client raises without a network
        raise _unreachable(name, error) from None
    except ValueError as error:  # an unknown subset or split
        raise UserError(f"{name} can't be read: {' '.join(str(error).split())}") from None


def _needs_extra(what: str) -> UserError:
    return UserError(f"{what} is read by the package datasets: install it by `{extras.command('hub')}`")


def _reachable() -> bool:
    """Try whether the hub answers at all."""
    try:
        urllib.request.urlopen(os.environ.get("HF_ENDPOINT", "https://huggingface.co"), timeout=10).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _unreachable(name: str, error: Exception) -> UserError:
    first = str(error).strip().splitlines()[0] if str(error).strip() else ""
    return UserError(
        f"the data set {name} can't be read from the Hugging Face hub ({type(error).__name__}: {first[:150]}): where "
        f"there is a network, fetch its files from https://huggingface.co/datasets/{name}, and give "
        "dataset.source=<the folder>"
    )
