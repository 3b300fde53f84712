"""Kinds of files, by their names and first bytes: text, packed text, or something else, said with the way out."""

import bz2
import contextlib
import gzip
import lzma
import shlex
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from cleangpt.basics.errors import UserError

PACKED: dict[str, Callable[[Any], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
RECORDS = (".jsonl", ".ndjson", ".parquet")
FIRST = 4096  # bytes that are looked at

LEAVE_OUT = "leave it out, as with a pattern of names: dataset.source='folder/**/*.txt'"
CONVERT = "convert it first: iconv -f {} -t UTF-8 {} > utf8.txt"
# How other files begin, what they are, and what to do with them.
BEGINNINGS = (
    (b"\x1f\x8b", "packed by gzip", "give it a name that ends in .gz"),
    *((b"BZh%d1AY&SY" % level, "packed by bzip2", "give it a name that ends in .bz2") for level in range(1, 10)),
    (b"\xfd7zXZ\0", "packed by xz", "give it a name that ends in .xz"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd", "unpack it first: unzstd {}"),
    (b"PK\x03\x04", "a zip archive", "unpack it first: unzip {}"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it first: 7z x {}"),
    (b"PAR1\x15", "parquet", "give it a name that ends in .parquet"),
    *((mark, "text in UTF-32", CONVERT.format("UTF-32", "{}")) for mark in (b"\xff\xfe\0\0", b"\0\0\xfe\xff")),
    *((mark, "text in UTF-16", CONVERT.format("UTF-16", "{}")) for mark in (b"\xff\xfe", b"\xfe\xff")),
    (b"%PDF-", "a PDF", "extract its text first: pdftotext {}"),
    *((picture, "a picture", LEAVE_OUT) for picture in (b"\x89PNG", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")),
)


def suffix(path: Path) -> str:
    """Tell the kind of a file by its name: .jsonl of `a.jsonl.gz` too."""
    return (path.with_suffix("") if path.suffix in PACKED else path).suffix


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Open a file of text, unpacked, and the file on the disk, whose place says how far it was read; refuse others."""
    with path.open("rb") as raw, PACKED[path.suffix](raw) if path.suffix in PACKED else raw as file:
        try:
            if what := _other(file.read(FIRST)):
                raise UserError(f"{path} is {what[0]}: {what[1].format(shlex.quote(str(path)))}")
            file.seek(0)
            yield file, raw
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            if path.suffix not in PACKED:
                raise
            name = PACKED[path.suffix].__module__
            raise UserError(f"{path} is no whole file of {name} ({error}): fetch or pack it again") from None


def _other(first: bytes) -> tuple[str, str] | None:
    """Say what a file with these first bytes is, and what to do, if it is no text in UTF-8."""
    for beginning, what, remedy in BEGINNINGS:
        if first.startswith(beginning):
            return what, remedy
    if first[257:262] == b"ustar":
        return "a tar archive", "unpack it first, and name the folder: tar xf {}"
    zeros = [first[parity::2].count(0) / max(1, len(first) // 2) for parity in (0, 1)]
    if max(zeros) > 0.3 and min(zeros) < 0.05:  # letters of Latin in two bytes, of which one is zero
        name = "UTF-16LE" if zeros[1] > zeros[0] else "UTF-16BE"
        return "text in UTF-16", CONVERT.format(name, "{}")
    if b"\0" in first:
        try:
            first.decode()
        except UnicodeDecodeError as error:
            if error.start < len(first) - 3 or len(first) < FIRST:  # else the last character has only been cut
                return "a binary file, and no text", LEAVE_OUT
    return None
