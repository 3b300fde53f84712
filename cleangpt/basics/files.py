"""Files that are whole or not there: written under another name, synced, then renamed.

A folder may be somebody else's, with links in it that lead anywhere: what is written here follows none of them.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from cleangpt.basics import untrusted

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

LEFT = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{16}\.tmp")  # what a killed writer leaves
FULL = (errno.ENOSPC, errno.EDQUOT)
# Where folders can be opened like files, one that was opened stays the same, whatever becomes of its name.
HAS_HANDLES = {os.open, os.rename, os.unlink} <= os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
LOCK = ".lock"  # in a folder that can't be locked itself
LONG = 3600.0  # seconds without a byte, after which nobody writes there any more


def sync(path: Path) -> None:
    """Have the disk hold what was written to a file or a folder."""
    if path.is_dir() and not HAS_HANDLES:
        return
    handle = os.open(path, os.O_RDONLY if HAS_HANDLES else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Put a new file in the place of `path` at once; a reader sees the old one or the new one.

    It is new under a name that nobody can guess, in the folder that was opened, and the umask says who may read it.
    """
    remove_leftovers(path.parent, of=path.name, idle=LONG)
    temporary = f".{path.name}.{secrets.token_hex(8)}.tmp"
    if not HAS_HANDLES:
        _replace(str(path.with_name(temporary)), str(path), path, write, None)
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        _replace(temporary, path.name, path, write, folder)
        os.fsync(folder)
    finally:
        os.close(folder)


def _replace(temporary: str, name: str, path: Path, write: Callable[[BinaryIO], Any], folder: int | None) -> None:
    """Write a file and rename it: within a folder that is open, or where names are whole paths."""
    try:
        handle = os.open(temporary, NEW, 0o666, dir_fd=folder)
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(handle)
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException as error:
        if isinstance(error, OSError) and error.errno in FULL:
            error.filename = str(path)  # the name that a person knows
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


def full_disk(error: Exception) -> str | None:
    """Say what could not be written, where that is all that went wrong."""
    if isinstance(error, OSError) and error.errno in FULL:
        return f"{error.filename or 'a file'} could not be written ({error.strerror}): make room first\n"
    return None


def remove_leftovers(folder: Path, of: str | None = None, idle: float | None = None) -> None:
    """Remove what killed writers left in a folder: of one file or of all, at once or where nothing came for long."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            left = LEFT.fullmatch(entry.name)
            if left is None or of not in (None, left["name"]) or not entry.is_file(follow_symlinks=False):
                continue
            if idle is None or time.time() - entry.stat(follow_symlinks=False).st_mtime > idle:
                os.unlink(entry.path)


def write_text(path: Path, text: str) -> None:
    replace(path, lambda file: file.write(text.encode()))


def write_json(path: Path, data: Any) -> None:
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def append_text(path: Path) -> TextIO:
    """Open a text to go on with, whatever is written there."""
    return open(path, "a", encoding="utf-8", errors="backslashreplace", opener=_no_link)


def append_bytes(path: Path) -> Any:
    """Open a file to go on with, without a buffer."""
    return open(path, "ab", buffering=0, opener=_no_link)


def _no_link(path: str, flags: int) -> int:
    flags |= getattr(os, "O_NOFOLLOW", 0)
    handle = os.open(path, flags, 0o666)
    if os.fstat(handle).st_nlink > 1:  # another folder has this file too: from here on there are two
        os.close(handle)
        with open(path, "rb") as shared:
            replace(Path(path), lambda file: shutil.copyfileobj(shared, file))
        handle = os.open(path, flags, 0o666)
    return handle


def read_json(path: Path) -> Any:
    return untrusted.parsed(path.read_bytes())


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lock(folder: Path) -> int | None:
    """Take a folder for this process, until it closes the handle or ends; None where another process has it."""
    if not HAS_HANDLES or fcntl is None:
        return _lock_file(folder / LOCK)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:
        pass  # a file system that has no locks
    return handle


def _lock_file(path: Path) -> int | None:
    """Take a file for this process, where a folder can't be taken."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    with contextlib.suppress(ImportError):
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
        except OSError:
            os.close(handle)
            return None
    return handle
