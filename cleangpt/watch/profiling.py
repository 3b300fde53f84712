"""`profile=true`: a trace of a few steps for Perfetto, and tables of where their time went. Then training goes on.

What is recorded is steps only: no evaluation and no snapshot falls between the first and the last of them. The time of
a phase is read off the device's own timeline on a GPU, so nothing waits for it.
"""

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from rich.console import Console, RenderableType

from cleangpt.config.experiment import TrainConfig
from cleangpt.disk.rundir import RunDir
from cleangpt.machine.device import Compute
from cleangpt.terminal.narrow import Name, Table

WARM_UP, STEPS, OPERATIONS = 5, 3, 15


class Off:
    """The profiler of a training for which nobody asked for one."""

    def step(self, number: int) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def phase(self, name: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def close(self) -> None:
        pass


class Profiler:
    """Records a few steps, then writes profile/ and shows the tables. What fails is said once and costs no training."""

    def __init__(self, run: RunDir, train: TrainConfig, compute: Compute, say: Callable[[RenderableType], None]):
        self.folder, self.train, self.compute, self.say = run.profile, train, compute, say
        self.shown = f"{run.shown()}/{run.profile.name}"
        self.steps = range(0)  # which are recorded
        self.recorder: torch.profiler.profile | None = None
        self.spans: list[tuple[str, Any, Any]] = []  # a name, when it began and when it ended

    @contextlib.contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Make a step inside this, which is recorded if it is one of those that are to be."""
        if not self.steps:
            self.steps = window(number, self.train.steps, (self.train.eval_every, self.train.snapshot_every))
        if number == self.steps.start:
            self._try(self._begin)
        with self.phase("step"):
            yield
        if number == self.steps.stop - 1:
            self._try(self._end)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Record a part of a step, by name in the trace and in the table."""
        if self.recorder is None:
            yield
            return
        began = self._now()
        with torch.profiler.record_function(name):
            yield
        self.spans.append((name, began, self._now()))

    def close(self) -> None:
        """Stop recording: a run that ends while it is recorded has no profile."""
        if self.recorder is not None:
            self._try(self.recorder.stop)
            self.recorder = None

    def _begin(self) -> None:
        activities = [torch.profiler.ProfilerActivity.CPU]
        if self.compute.device.type == "cuda":
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        recorder = torch.profiler.profile(activities=activities)
        recorder.start()
        self.recorder = recorder

    def _end(self) -> None:
        if self.recorder is None:  # it could not begin
            return
        recorder, self.recorder = self.recorder, None
        recorder.stop()
        self.folder.mkdir(exist_ok=True)
        recorder.export_chrome_trace(str(self.folder / "trace.json"))
        with (self.folder / "table.txt").open("w", encoding="utf-8") as file:
            console = Console(file=file, width=240, highlight=False, soft_wrap=True)  # names are whole there
            for table in (self._phases(), self._operations(recorder)):
                console.print(table)
                self.say(table)
        self.say(f"Profile: {self.shown}/trace.json (open it at ui.perfetto.dev), {self.shown}/table.txt")

    def _phases(self) -> Table:
        seconds: dict[str, float] = defaultdict(float)
        for name, began, ended in self.spans:
            seconds[name] += self._between(began, ended) / len(self.steps)
        whole = seconds.pop("step")
        seconds["the rest"] = whole - sum(seconds.values())
        steps = f"steps {self.steps.start} to {self.steps.stop - 1}" if len(self.steps) > 1 else f"step {self.steps[0]}"
        table = _table(f"Where the time of a step goes ({steps}, {whole * 1000:.2f} ms each)", "phase")
        for name, value in seconds.items():
            table.add_row(name, f"{value * 1000:.2f}", f"{value / whole:.1%}")
        return table

    def _operations(self, recorder: torch.profiler.profile) -> Table:
        """List the operations that take longest, without those inside them; on a GPU, by what they have it do."""
        on_gpu = self.compute.device.type == "cuda"
        own = [
            (event.self_device_time_total if on_gpu else event.self_cpu_time_total, event.count, event.key)
            for event in recorder.key_averages()
            if event.device_type.name == "CPU"
        ]
        whole = sum(microseconds for microseconds, *_ in own) or 1.0
        place = "GPU" if on_gpu else "CPU"
        table = _table(f"Operations by their own {place} time in a step", "operation")
        table.add_column("calls", justify="right", no_wrap=True)
        for microseconds, calls, name in sorted(own, reverse=True)[:OPERATIONS]:
            each = microseconds / 1000 / len(self.steps)
            table.add_row(Name(name), f"{each:.2f}", f"{microseconds / whole:.1%}", f"{calls / len(self.steps):g}")
        return table

    def _now(self) -> Any:
        if self.compute.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _between(self, began: Any, ended: Any) -> float:
        """Compute the seconds between two times."""
        return ended - began if isinstance(began, float) else began.elapsed_time(ended) / 1000

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self.recorder = None
            self.say(f"the profile could not be made ({error}): training goes on")


def _table(title: str, first: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first, overflow="fold")
    for name in ("ms", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def window(first: int, last: int, breaks: tuple[int | None, ...]) -> range:
    """Choose the steps to record from `first` to `last`: some in a row that no break falls between, once warm."""
    start = first + WARM_UP if first + WARM_UP + STEPS - 1 <= last else max(first, last - STEPS + 1)
    for count in range(min(STEPS, last - start + 1), 0, -1):
        for begin in range(start, min(start + 100, last - count + 2)):
            inner = range(begin, begin + count - 1)  # a break comes after its step
            if not any(every and step % every == 0 for step in inner for every in breaks):
                return range(begin, begin + count)
    raise AssertionError("a single step has nothing between")
