"""Plots that are renewed while training goes on.

A process of its own draws, at the lowest priority. A thread would keep taking the interpreter's lock away from a
training that needs it for every operation: while one drew, steps of 30 ms took 70 to 85. One process draws at a time,
so that drawing never piles up.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from cleangpt.basics import verbs
from cleangpt.disk.rundir import RunDir, read_metrics


class Drawer:
    """Draws plots/ from metrics.jsonl. `say` gets one sentence when that fails."""

    def __init__(self, run: RunDir, say: Callable[[str], None]):
        self.run, self.say, self.failed = run, say, False
        self.process: subprocess.Popen[str] | None = None

    def renew(self) -> None:
        """Begin to draw what there is by now, unless it is still being drawn, or could not be."""
        if self.process is not None:
            if self.process.poll() is None:
                return
            _, told = self.process.communicate()
            if self.process.returncode:
                self._complain(told.strip().rpartition("\n")[2])
            self.process = None
        if self.failed:
            return
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cleangpt.watch.drawing", str(self.run.path)],
                env={**verbs.environment(os.environ), "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C is for the training
            )
        except OSError as error:
            self._complain(error)

    def finish(self) -> None:
        """Draw what is there, here and now."""
        self.close()
        try:
            draw(self.run)
        except Exception as error:
            self._complain(error)

    def close(self) -> None:
        """Leave off. What is being drawn is not lost: a plot is put in its place whole, or not at all."""
        if self.process is not None:
            self.process.terminate()
            self.process.communicate()
            self.process = None

    def _complain(self, why: object) -> None:
        if not self.failed:
            self.failed = True
            self.say(f"the plots could not be drawn ({why})")


def draw(run: RunDir) -> list[Path]:
    """Draw the plots of a run in this process."""
    from cleangpt.watch.plots import run_plots

    return run_plots(read_metrics(run.metrics), run.plots)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # in order, so that nothing half-made stays behind
    if hasattr(os, "nice"):
        os.nice(19)
    draw(RunDir(Path(sys.argv[1])))
