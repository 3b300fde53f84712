"""Kinds of files, by their names and first bytes: text, packed text, or something else, said with the way out."""

import bz2
import contextlib
import gzip
import lzma
import shlex
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cleangpt.basics.errors import UserError

PACKED = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
RECORDS = (".jsonl", ".ndjson", ".parquet")
FIRST = 4096  # bytes that are looked at

LEAVE_OUT = "leave it out, as with a pattern of names: dataset.source='folder/**/*.txt'"
# How other files begin, what they are, and what to do with them.
BEGINNINGS = (
    (b"\x1f\x8b", "packed by gzip", "give it a name that ends in .gz"),
    *((b"BZh%d1AY&SY" % level, "packed by bzip2", "give it a name that ends in .bz2") for level in range(1, 10)),
    (b"\xfd7zXZ\0", "packed by xz", "give it a name that ends in .xz"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd", "unpack it first: unzstd {}"),
    (b"PK\x03\x04", "a zip archive", "unpack it first: unzip {}"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it first: 7z x {}"),
    (b"PAR1\x15", "parquet", "give it a name that ends in .parquet"),
    (b"\xff\xfe\0\0", "text in UTF-32", "convert it first: iconv -f UTF-32 -t UTF-8 {} > utf8.txt"),
    (b"\0\0\xfe\xff", "text in UTF-32", "convert it first: iconv -f UTF-32 -t UTF-8 {} > utf8.txt"),
    (b"\xff\xfe", "text in UTF-16", "convert it first: iconv -f UTF-16 -t UTF-8 {} > utf8.txt"),
    (b"\xfe\xff", "text in UTF-16", "convert it first: iconv -f UTF-16 -t UTF-8 {} > utf8.txt"),
    (b"%PDF-", "a PDF", "extract its text first: pdftotext {}"),
    *((picture, "a picture", LEAVE_OUT) for picture in (b"\x89PNG", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")),
)


def suffix(path: Path) -> str:
    """Tell the kind of a file by its name: .jsonl of `a.jsonl.gz` too."""
    return (path.with_suffix("") if path.suffix in PACKED else path).suffix


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
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
        return "text in UTF-16", f"convert it first: iconv -f {name} -t UTF-8 {{}} > utf8.txt"
    if b"\0" in first and not _is_utf8(first):
        return "a binary file, and no text", LEAVE_OUT
    return None


def _is_utf8(first: bytes) -> bool:
    """Tell text in UTF-8, of which the last character may have been cut."""
    try:
        first.decode()
    except UnicodeDecodeError as error:
        return error.start >= len(first) - 3 and len(first) == FIRST
    return True
