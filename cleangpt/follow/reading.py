"""A file of lines that grows, read as far as it is new; one that was written anew is read from its beginning."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from cleangpt.basics import untrusted

KNOWN = 64  # bytes before what is new that have to be as they were


@dataclass
class Reading:
    """How far a file was read."""

    to: int = 0  # bytes
    inode: int = 0
    known: bytes = b""  # the last ones of these

    def begin(self, file: BinaryIO) -> int:
        """Go to where the file is new, and return its size; whether it was written anew, `to` says."""
        found = os.fstat(file.fileno())
        file.seek(max(0, self.to - len(self.known)))
        if found.st_size < self.to or found.st_ino != self.inode or file.read(len(self.known)) != self.known:
            self.to, self.inode, self.known = 0, found.st_ino, b""
            file.seek(0)
        return found.st_size

    def skip(self, file: BinaryIO, place: int) -> None:
        """Leave out what comes before a place, and the line that it lies in."""
        if place:
            self.to = place
            file.seek(place)
            self.to += len(file.readline(untrusted.MOST_OF_LINE))

    def lines(self, file: BinaryIO, size: int) -> Iterator[bytes]:
        """Yield the whole lines up to a size; one without an end is still being written."""
        end = _last_end(file, self.to, size)
        file.seek(self.to)
        yield from untrusted.lines(file, end - self.to)
        if end > self.to:
            self.to = end
            file.seek(max(0, end - KNOWN))
            self.known = file.read(min(KNOWN, end))


def _last_end(file: BinaryIO, begin: int, size: int) -> int:
    """Find where the last whole line between two places ends."""
    while size > begin:
        block = max(begin, size - untrusted.BLOCK)
        file.seek(block)
        if place := file.read(size - block).rfind(b"\n") + 1:
            return block + place
        size = block
    return begin
