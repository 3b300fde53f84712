"""Progress of whatever takes longer than two seconds: it says what it is doing.

    with patience.doing("Drawing the pictures"):
        ...
    with patience.doing("Reading the runs", len(paths), "runs") as progress:
        ...
        progress.advance()

What is over sooner says nothing. A terminal shows one line that moves and is gone in the end; a pipe gets a plain line,
and another every five seconds where there is a count. Both are on standard error, since standard output may be data.
Of several processes only the first speaks. CLEANGPT_PATIENCE is the seconds, where they shall be others than two.
"""

import contextlib
import gc
import os
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator

from cleangpt.basics.shown import visible
from cleangpt.terminal import streams

BETWEEN_LINES = 5.0  # seconds, where nothing moves
BETWEEN_FRAMES = 0.2
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
BAR = 16  # characters


def after() -> float:
    """Read how many seconds of silence a person bears."""
    try:
        return float(os.environ.get("CLEANGPT_PATIENCE", 2.0))
    except ValueError:
        return 2.0


def duration(seconds: float) -> str:
    """Write so many seconds as 0:07, 12:34 or 1:02:05."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def size(count: int) -> str:
    """Write a number of bytes as a person says it."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"


class Voice:
    """The place where progress is said: standard error, by the first process."""

    @property
    def speaks(self) -> bool:
        return os.environ.get("RANK", "0") == "0"

    @property
    def draws(self) -> bool:
        """Tell whether a line may move here."""
        return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    @property
    def width(self) -> int:
        """Count the most characters of a line that moves."""
        return shutil.get_terminal_size().columns - 1

    def line(self, text: str) -> None:
        """Write a line that stays."""
        self._write(f"{visible(text)}\n")

    def log(self, text: str) -> None:
        """Write to a log, if there is one, while a line moves."""

    def draw(self, text: str) -> None:
        """Draw a line in the place of what was drawn before."""
        self._write(f"\r\033[K{visible(text)}")

    def _write(self, text: str) -> None:
        if "utf" not in (getattr(sys.stderr, "encoding", None) or "").lower():
            text = text.replace("…", "...").encode("ascii", "replace").decode()
        with contextlib.suppress(OSError, ValueError):  # nobody reads any more
            sys.stderr.write(text)
            sys.stderr.flush()


class Nobody(Voice):
    """A place where nothing is said."""

    @property
    def speaks(self) -> bool:
        return False


class Progress:
    """The progress of a work: what is being done, and how much of it."""

    _all: list["Progress"] = []  # noqa: RUF012  those under way; the innermost one speaks

    def __init__(self, what: str, total: int | None, unit: str, voice: Voice, wait: float, began: float):
        self.what, self.total, self.unit, self.voice = what, total, unit, voice
        self.wait, self.began, self.counted_since = wait, began, began
        self.done, self.drawn, self.said, self.last_line = 0, False, "", 0.0

    def advance(self, count: int = 1) -> None:
        """Note that so much more is done."""
        self.done = min(self.done + count, self.total or self.done + count)

    def turn_to(self, what: str, done: int, total: int | None, now: float) -> None:
        """Note how much is done of what; what is new begins now."""
        if what != self.what:
            self.what, self.counted_since = what, now
        self.done, self.total = done, total

    def look(self, now: float) -> None:
        """Say what is due by now."""
        if now - self.began < self.wait or Progress._all[-1:] not in ([], [self]):
            return
        draws = self.voice.draws
        silent = now - self.last_line
        counts = bool(self.total or self.done)
        if not self.said or (counts and silent >= BETWEEN_LINES) or (self.what != self.said and silent >= self.wait):
            self.said, self.last_line = self.what, now
            (self.voice.log if draws else self.voice.line)(self.words(now))
        if draws:
            self.drawn = True
            self.voice.draw(self.picture(now, self.voice.width))

    def words(self, now: float) -> str:
        """Write the progress as a line that stays."""
        if not self.total:
            return f"{self.what}: {self._counted(self.done)}" if self.done else f"{self.what} …"
        counted = f"{self.what}: {self._counted(self.done, bare=True)} of {self._counted(self.total)}"
        if not self.done:
            return counted
        left = (now - self.counted_since) / self.done * max(0, self.total - self.done)
        return f"{counted}, {duration(left)} left"

    def _counted(self, count: int, bare: bool = False) -> str:
        if self.unit == "bytes":
            return size(count)
        return f"{count:,}" if bare or not self.unit else f"{count:,} {self.unit}"

    def picture(self, now: float, width: int) -> str:
        """Draw the progress as one line of a terminal, which must not be wider."""
        if not self.total:
            frame = SPINNER[int((now - self.began) / BETWEEN_FRAMES) % len(SPINNER)]
            return f"{frame} {self.what} … {duration(now - self.began)}"[:width]
        full = min(BAR, BAR * self.done // self.total)
        bar = "━" * full + "╺" * (full < BAR) + " " * (BAR - full - 1)
        words = self.words(now)
        return (f"{bar} {words}" if len(bar) + 1 + len(words) <= width else words)[:width]


@contextlib.contextmanager
def doing(
    what: str,
    total: int | None = None,
    unit: str = "",
    voice: Voice | None = None,
    wait: float | None = None,
) -> Iterator[Progress]:
    """Say what is being done here, if it takes long."""
    voice = voice or Voice()
    progress = Progress(what, total, unit, voice, after() if wait is None else wait, time.monotonic())
    if not voice.speaks:
        yield progress
        return
    started()
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(progress, over), name="patience", daemon=True)
    Progress._all.append(progress)
    watcher.start()
    try:
        yield progress
    finally:
        over.set()
        watcher.join()
        Progress._all.remove(progress)
        if progress.drawn:
            voice.draw("")


def _watch(progress: Progress, over: threading.Event) -> None:
    wait = max(0.0, progress.began + progress.wait - time.monotonic())
    while not over.wait(min(wait, threading.TIMEOUT_MAX)):
        progress.look(time.monotonic())
        wait = BETWEEN_FRAMES


# --------------------------------------------------------------------------------------------------------------
# The start of a program

_teller: tuple[int, int] | None = None  # the process that speaks while this one loads libraries, and the pipe to it


def starting(what: str = "Starting") -> None:
    """Announce the start of this program, if it takes long, until `started` is called.

    From a cold disk some libraries take ten seconds and more.
    Another process says it. A thread of ours could not: the interpreter's lock is held while a library is loaded.
    """
    global _teller
    streams.fill()
    if _teller is not None or not (hasattr(os, "fork") and threading.active_count() == 1 and Voice().speaks):
        return
    watched, told = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(told)
        _speak_until_closed(watched, Progress(what, None, "", Voice(), after(), time.monotonic()))
    os.close(watched)
    _teller = child, told


def started() -> None:
    """End what `starting` announces: whoever goes on says himself what he does."""
    global _teller
    if _teller is not None:
        (child, told), _teller = _teller, None
        os.close(told)
        with contextlib.suppress(OSError):
            os.waitpid(child, 0)


def wipe() -> None:
    """Take away the line that moves."""
    started()
    for progress in Progress._all:
        if progress.drawn:
            progress.voice.draw("")


def load_torch() -> None:
    """Import torch, which is announced if it takes long."""
    if "torch" in sys.modules:
        return
    if _teller is None:
        starting("Loading torch")
    else:
        with contextlib.suppress(OSError):
            os.write(_teller[1], b"Loading torch\n")
    collects = gc.isenabled()
    gc.disable()  # a million objects are made that stay: no collection need look at them, now or later
    try:
        import torch  # noqa: F401
    finally:
        gc.freeze()
        if collects:
            gc.enable()
    started()


def _speak_until_closed(watched: int, progress: Progress) -> None:
    """Say what the other process does, until this pipe is closed or whoever held it is gone."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        wait, told = progress.wait, b""
        while not select.select([watched], [], [], min(wait, 1e6))[0] or (told := os.read(watched, 4096)):
            progress.look(time.monotonic())
            for words in told.decode().split("\n")[:-1]:
                progress.turn_to(words, 0, None, time.monotonic())
                progress.look(time.monotonic())
            wait, told = max(progress.began + progress.wait - time.monotonic(), BETWEEN_FRAMES), b""
        if progress.drawn:
            progress.voice.draw("")
    finally:
        os._exit(0)
