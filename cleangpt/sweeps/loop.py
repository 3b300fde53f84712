"""The loop around all jobs of a sweep: start them, watch them, stop them, say how they ended."""

import contextlib
import os
import shlex
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, open_dict

from cleangpt.basics import files, verbs
from cleangpt.basics.errors import UserError
from cleangpt.basics.words import counted
from cleangpt.config import command_line, composition
from cleangpt.disk import alike
from cleangpt.disk.rundir import RunDir
from cleangpt.sweeps import jobs, settings
from cleangpt.sweeps.grid import Grid, Plan
from cleangpt.sweeps.jobs import DONE, Job, Outcome
from cleangpt.sweeps.table import Board, Row
from cleangpt.terminal import patience

LOOK_EVERY = 0.2  # seconds
FAILED = 1


class Started(Protocol):
    """The processes of a job that runs."""

    def poll(self) -> int | None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


class Executor(Protocol):
    """Where jobs run: processes of this machine, or of a cluster."""

    slots: int
    say: Callable[[str], None]

    def start(self, job: Job) -> Started: ...
    def ended(self, running: Any) -> None: ...


# ---- from Hydra to a plan


def sweep(loader: ConfigLoader, config: DictConfig, arguments: list[str]) -> int:
    """Run every combination of the values that were given, or a search among them, and return the exit status."""
    chosen = settings.sweeper(composition.plain(config.hydra.sweeper))
    folder = Path(str(config.hydra.sweep.dir)).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with _alone_in(folder):
        plan: Plan

        def compose(number: int, words: Sequence[str], name: str) -> tuple[dict[str, Any], Path]:
            """Compose a job as Hydra would, and say where it lies: all jobs lie in one folder."""
            composed = loader.load_sweep_config(config, list(words))
            with open_dict(composed):
                composed.hydra.job.num, composed.hydra.job.id = number, name
                place = folder / str(composed.hydra.sweep.subdir)
                del composed["hydra"]
            return composition.plain(composed), place

        if chosen.name == "grid":
            plan = Grid(chosen.params, arguments, compose)
        else:
            from cleangpt.sweeps.search import Search

            plan = Search(chosen, arguments, compose, folder)
        return run(plan, _executor(config, plan.waiting, folder), folder)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Have the directory of a sweep for this process: no two sweeps write to one."""
    handle = files.lock(folder)
    if handle is None:
        shown = RunDir(folder).shown()
        raise UserError(f"another process runs the sweep in {shown}: wait until it has ended, or stop it")
    try:
        yield
    finally:
        os.close(handle)


def _executor(config: DictConfig, waiting: list[Job], folder: Path) -> Executor:
    chosen = settings.launcher(composition.plain(config.hydra.launcher))
    if isinstance(chosen, settings.Submitit):
        from cleangpt.sweeps.submitted import Cluster

        return Cluster(chosen, folder)
    from cleangpt.machine import cores
    from cleangpt.sweeps import kept, processes

    on_gpus = any(job.config["device"] in ("auto", "cuda") for job in waiting)
    gpus = processes.usable_gpus() if on_gpus and chosen.gpus is None else []
    asked = [job.config["processes"] for job in waiting if job.config["processes"] != "auto"]
    divided = processes.shares(chosen, len(waiting), max([1, *asked]), gpus, cores.share(1))
    computes_here = not gpus and chosen.gpus is None
    keep = kept.works_here() and computes_here if chosen.keep == "auto" else chosen.keep
    return processes.LocalProcesses(divided, keep and len(waiting) > 1)


# ---- the loop


def run(plan: Plan, executor: Executor, folder: Path) -> int:
    """Run all jobs of a plan, and return the exit status."""
    asked: list[int] = []
    earlier = {number: signal.signal(number, lambda number, _frame: asked.append(number)) for number in jobs.SIGNALS}
    patience.started()
    board = Board(plan.total)
    if not (folder / jobs.SWEEP).exists():
        _write(folder, plan.total, [])
    executor.say = board.say
    try:
        count, done = counted(plan.total, "job"), f", {len(plan.before)} of them done before" if plan.before else ""
        at_once = min(executor.slots, plan.total - len(plan.before))
        board.say(f"Sweep of {count}{done}, {at_once} at once, in {RunDir(folder).shown()}")
        for job, outcome in plan.before:
            board.before(job, outcome)
        _work(plan, executor, board, asked)
    finally:
        board.close()
        for number, handler in earlier.items():
            signal.signal(number, handler)
    return _report(plan, board, folder, asked[0] if asked else 0)


@dataclass
class _Run:
    """A job that runs."""

    job: Job
    processes: Started
    watched: jobs.Watched
    log_began: int  # bytes of its log that are of earlier parts
    pruned: bool = False


def _work(plan: Plan, executor: Executor, board: Board, asked: list[int]) -> None:
    """Start and watch jobs until all have ended, or those that run have after a signal."""

    def ended(job: Job, outcome: Outcome) -> None:
        plan.ended(job, outcome)
        board.ended(job, outcome)

    running: list[_Run] = []
    told = 0  # signals that were passed on
    try:
        while True:
            while not asked and len(running) < executor.slots and (job := plan.next()) is not None:
                watched = board.started(job)
                try:
                    jobs.prepare(job)
                    log_began = job.log.stat().st_size if job.log.exists() else 0
                    running.append(_Run(job, executor.start(job), watched, log_began))
                except (UserError, OSError) as error:
                    ended(job, Outcome("failed", str(error)))
            if not running:
                return
            if len(asked) > told:
                _pass_on(asked[-1], told > 0, running, board)
                told = len(asked)
            time.sleep(LOOK_EVERY)
            for one in list(running):
                status = one.processes.poll()
                stops = plan.watched(one.job, one.watched.new_rows())
                if status is not None:
                    outcome = jobs.outcome(one.job, status, one.log_began)
                    if one.pruned and outcome.status == "stopped":
                        outcome.status = "pruned"
                    executor.ended(one.processes)
                    running.remove(one)
                    ended(one.job, outcome)
                elif stops and not one.pruned:
                    one.pruned = True
                    one.processes.stop()
    finally:
        for one in running:  # only where the sweep itself fails
            one.processes.kill()


def _pass_on(number: int, again: bool, running: list[_Run], board: Board) -> None:
    name, count = signal.Signals(number).name, counted(len(running), "job")
    if again:
        board.say(f"{name} again: killing {count}")
    else:
        board.say(f"{name}: waiting for {count} to save a snapshot (again: kill at once)")
    for one in running:
        (one.processes.kill if again else one.processes.stop)()


# ---- what is said


def _report(plan: Plan, board: Board, folder: Path, asked: int) -> int:
    shown = RunDir(folder).shown()
    rows = sorted(board.rows.values(), key=lambda row: row.job.number)
    counts = Counter("finished" if row.status in (*DONE, "done before") else row.status for row in rows)
    if waiting := plan.total - len(rows):
        counts["not started"] = waiting
    board.console.print(board.table())
    ends = ", ".join(f"{count} {word}" for word, count in counts.items())
    board.say(f"{counted(plan.total, 'job')}: {ends}. In {shown}")
    failed = [row for row in rows if row.status == "failed"]
    for row in failed:
        board.say(f"    {row.job.folder.name} failed: {row.outcome.message}")
    if failed:
        board.say(f"What a job said is in its train.log and {failed[0].job.log.name}.")
    computed = {}
    for row in rows:
        with contextlib.suppress(AttributeError, TypeError):  # a record that is none
            record = jobs.told(row.job.run.run)
            parts = [record, *record.get("resumed", [])]
            computed[f"{row.job.number:04}"] = alike.throughout(part.get("machine", {}) for part in parts)
    not_alike = alike.sentence({name: told for name, told in computed.items() if told}, "jobs")
    for line in [*(plan.report() or board.best()), *filter(None, [not_alike])]:
        board.say(line)
    unfinished = bool(asked or failed or counts.get("stopped") or waiting)
    _write(folder, plan.total, rows)
    if counts.get("finished"):
        board.say(f"Compare them: {verbs.shown('report')} {shlex.quote(f'runs={_as_value(shown)}')}")
    if unfinished:
        board.say(f"Continue with: {continuing(shown)}")
    return 128 + asked if asked else FAILED if unfinished else 0


def _write(folder: Path, total: int, rows: list[Row]) -> None:
    """Write sweep.json: what was run, of how many jobs, and how it ended, for programs and people."""
    told = []
    for row in rows:
        summary, message = row.outcome.summary, row.outcome.message
        status = summary.get("status", row.status) if row.status == "done before" else row.status
        about = {"job": row.job.number, "folder": row.job.folder.name, "overrides": row.job.overrides, "status": status}
        about |= {"message": message} if message else {}
        told.append({**about, **{key: value for key, value in summary.items() if key not in ("status", "error")}})
    files.write_json(folder / jobs.SWEEP, {"command": verbs.typed("train"), "of": total, "jobs": told})


def continuing(shown: str) -> str:
    """Write the command that goes on with this sweep."""
    words = command_line.without(sys.argv[1:], "hydra.sweep.dir")
    return f"{verbs.shown('train')} {shlex.join([*words, f'hydra.sweep.dir={_as_value(shown)}'])}"


def _as_value(path: str) -> str:
    """Write a path as a value of Hydra's, quoted where it has to be."""
    return command_line.quoted(Path(path)) if set(path) & set("=,'\"[]{}() \t$:") else path
