"""Files that are written in the background, while training goes on."""

import queue
import threading
from collections.abc import Callable


class BackgroundWriter:
    """Writes in the background and in order, so that training waits only while tensors are copied.

    What can't be written (a full disk, a missing permission) is told by `complaints`, and training goes on.
    """

    WAITING = 2  # writes that may wait: each holds a copy of its tensors

    def __init__(self) -> None:
        self.complaints: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._jobs: queue.Queue[tuple[str, Callable[[], None]] | None] = queue.Queue(self.WAITING)
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None

    def submit(self, what: str, job: Callable[[], None]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
            self._thread.start()
        self._jobs.put((what, job))

    def wait(self) -> None:
        """Wait until everything is on the disk."""
        self._jobs.join()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (next_job := self._jobs.get()) is not None:
            what, job = next_job
            try:
                job()
            except OSError as error:
                reason = error.strerror or error
                self.complaints.put(f"{what} could not be written ({reason})")
            except Exception as error:  # a mistake in the program: whoever waits shall see it
                self._failure = error
            finally:
                self._jobs.task_done()
        self._jobs.task_done()
