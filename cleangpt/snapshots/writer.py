"""Write files in the background, while training goes on."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue


class BackgroundWriter:
    """Writes in the background and in order, so that training waits only while tensors are copied.

    What can't be written (a full disk, a missing permission) is told by `complaints`, and training goes on.
    """

    WAITING = 2  # writes that may wait: each holds a copy of its tensors

    def __init__(self) -> None:
        self.complaints: SimpleQueue[str] = SimpleQueue()
        self._thread = ThreadPoolExecutor(1, "writer")
        self._jobs: deque[Future[None]] = deque()

    def submit(self, what: str, job: Callable[[], None]) -> None:
        self._wait_for_all_but(self.WAITING)
        self._jobs.append(self._thread.submit(self._write, what, job))

    def wait(self) -> None:
        """Wait until everything is on the disk."""
        self._wait_for_all_but(0)

    def close(self) -> None:
        self._thread.shutdown()

    def _wait_for_all_but(self, jobs: int) -> None:
        while len(self._jobs) > jobs:
            self._jobs.popleft().result()  # raises what is a mistake in the program

    def _write(self, what: str, job: Callable[[], None]) -> None:
        try:
            job()
        except OSError as error:
            self.complaints.put(f"{what} could not be written ({error.strerror or error})")
