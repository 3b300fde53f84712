"""The loop around all jobs of a sweep: start them, watch them, stop them, say how they ended."""

import contextlib
import os
import shlex
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from omegaconf import OmegaConf, open_dict

from cleangpt.basics import files
from cleangpt.basics.errors import UserError
from cleangpt.basics.words import counted
from cleangpt.config import command_line, composition
from cleangpt.runs import alike
from cleangpt.runs.rundir import RunDir
from cleangpt.sweeps import jobs, settings
from cleangpt.sweeps.grid import Compose, Grid
from cleangpt.sweeps.jobs import DONE, Job, Outcome
from cleangpt.sweeps.table import Board
from cleangpt.terminal import patience

LOOK_EVERY = 0.2  # seconds
FAILED = 1
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Plan(Protocol):
    """Which jobs there are: those of a grid, or the trials of a search."""

    total: int
    before: list[tuple[Job, Outcome]]

    def next(self) -> Job | None: ...
    def watched(self, job: Job, rows: list[dict[str, Any]]) -> bool: ...
    def ended(self, job: Job, outcome: Outcome) -> None: ...
    def report(self) -> list[str]: ...


class Executor(Protocol):
    """Where jobs run: processes of this machine, or of a cluster. What `start` returns can poll, stop and kill."""

    slots: int

    def start(self, job: Job) -> Any: ...
    def ended(self, running: Any) -> None: ...


# ---- from Hydra to a plan


def sweep(loader: Any, config: Any, arguments: list[str]) -> int:
    """Run every combination of the values that were given, or a search among them; the exit status."""
    chosen = settings.sweeper(OmegaConf.to_container(config.hydra.sweeper, resolve=True))
    folder = Path(str(config.hydra.sweep.dir)).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with _alone_in(folder):
        if chosen.name == "grid":
            plan = Grid(chosen.params, arguments, composer(loader, config, folder))
            return run(plan, _executor(config, plan.waiting, folder), folder)
        from cleangpt.sweeps.search import Search

        plan = Search(chosen, arguments, composer(loader, config, folder), folder)
        return run(plan, _executor(config, [plan.example] * plan.total, folder), folder)


def composer(loader: Any, config: Any, sweep_folder: Path) -> Compose:
    """Make a function that composes jobs as Hydra would; all of them lie in one folder."""

    def compose(number: int, words: Sequence[str], name: str) -> tuple[dict[str, Any], Path]:
        composed = loader.load_sweep_config(config, list(words))
        with open_dict(composed):
            composed.hydra.job.num, composed.hydra.job.id = number, name
            folder = sweep_folder / str(composed.hydra.sweep.subdir)
            del composed["hydra"]
        return composition.plain(composed), folder

    return compose


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


def _executor(config: Any, waiting: list[Job], folder: Path) -> Executor:
    chosen = settings.launcher(OmegaConf.to_container(config.hydra.launcher, resolve=True))
    if isinstance(chosen, settings.Submitit):
        from cleangpt.sweeps.submitted import Cluster

        return Cluster(chosen, folder)
    from cleangpt.machine import device
    from cleangpt.sweeps import processes

    on_gpus = any(job.config["device"] in ("auto", "cuda") for job in waiting)
    gpus = processes.usable_gpus() if on_gpus and chosen.gpus is None else []
    asked = [job.config["processes"] for job in waiting if job.config["processes"] != "auto"]
    divided = processes.shares(chosen, len(waiting), max([1, *asked]), gpus, device.share_of_cores(1))
    return processes.LocalProcesses(divided)


# ---- the loop


def run(plan: Plan, executor: Executor, folder: Path) -> int:
    """Run all jobs of a plan; the exit status."""
    asked: list[int] = []
    earlier = {number: signal.signal(number, lambda number, _frame: asked.append(number)) for number in SIGNALS}
    patience.started()
    board = Board(plan.total)
    if not (folder / jobs.SWEEP).exists():
        _write(folder, plan.total, [])
    executor.say = board.say
    try:
        board.say(_introduction(plan, executor, folder))
        for job, outcome in plan.before:
            board.before(job, outcome)
        _work(plan, executor, board, asked)
    finally:
        board.close()
        for number, handler in earlier.items():
            signal.signal(number, handler)
    return _report(plan, board, folder, asked[0] if asked else 0)


def _work(plan: Plan, executor: Executor, board: Board, asked: list[int]) -> None:
    """Start and watch jobs until all have ended, or those that run have after a signal."""
    running: dict[int, _Run] = {}
    told = 0  # signals that were passed on
    try:
        while True:
            while not asked and len(running) < executor.slots and (job := plan.next()) is not None:
                watched = board.started(job)
                try:
                    jobs.prepare(job)
                    log_began = job.log.stat().st_size if job.log.exists() else 0
                    running[job.number] = _Run(job, executor.start(job), watched, log_began)
                except (UserError, OSError) as error:
                    _ended(job, Outcome("failed", str(error)), plan, board)
            if not running:
                return
            if len(asked) > told:
                _pass_on(asked, told > 0, list(running.values()), board)
                told = len(asked)
            time.sleep(LOOK_EVERY)
            for one in list(running.values()):
                status = one.processes.poll()
                stops = plan.watched(one.job, one.watched.new_rows())
                if status is None:
                    if stops and not one.pruned:
                        one.pruned = True
                        one.processes.stop()
                    continue
                outcome = jobs.outcome(one.job, status, one.log_began)
                if one.pruned and outcome.status == "stopped":
                    outcome.status = "pruned"
                executor.ended(one.processes)
                del running[one.job.number]
                _ended(one.job, outcome, plan, board)
    finally:
        for one in running.values():  # only where the sweep itself fails
            one.processes.kill()


def _ended(job: Job, outcome: Outcome, plan: Plan, board: Board) -> None:
    plan.ended(job, outcome)
    board.ended(job, outcome)


@dataclass
class _Run:
    """A job that runs."""

    job: Job
    processes: Any  # what the executor has started
    watched: jobs.Watched
    log_began: int  # bytes of its log that are of earlier parts
    pruned: bool = False


def _pass_on(asked: list[int], again: bool, running: list[_Run], board: Board) -> None:
    name = signal.Signals(asked[-1]).name
    if again:
        board.say(f"{name} again: killing {_jobs(len(running))}")
    else:
        board.say(f"{name}: waiting for {_jobs(len(running))} to save a snapshot (again: kill at once)")
    for one in running:
        (one.processes.kill if again else one.processes.stop)()


# ---- what is said


def _introduction(plan: Plan, executor: Executor, folder: Path) -> str:
    at_once = min(executor.slots, plan.total - len(plan.before))
    done = f", {len(plan.before)} of them done before" if plan.before else ""
    return f"Sweep of {_jobs(plan.total)}{done}, {at_once} at once, in {RunDir(folder).shown()}"


def _report(plan: Plan, board: Board, folder: Path, asked: int) -> int:
    shown = RunDir(folder).shown()
    rows = sorted(board.rows.values(), key=lambda row: row.job.number)
    counts = Counter("finished" if row.status in (*DONE, "done before") else row.status for row in rows)
    if waiting := plan.total - len(rows):
        counts["not started"] = waiting
    board.console.print(board.table())
    board.say(f"{_jobs(plan.total)}: {', '.join(f'{count} {word}' for word, count in counts.items())}. In {shown}")
    failed = [row for row in rows if row.status == "failed"]
    for row in failed:
        board.say(f"    {row.job.folder.name} failed: {row.outcome.message}")
    if failed:
        board.say(f"What a job said is in its train.log and {failed[0].job.log.name}.")
    for line in [*(plan.report() or board.best()), *_not_alike(rows)]:
        board.say(line)
    unfinished = bool(asked or failed or counts.get("stopped") or waiting)
    _write(folder, plan.total, rows)
    if counts.get("finished"):
        board.say(f"Compare them: {shlex.join(['python', 'eval/report.py', f'runs={_as_value(shown)}'])}")
    if unfinished:
        board.say(f"Continue with: {continuing(shown)}")
    return 128 + asked if asked else FAILED if unfinished else 0


def _not_alike(rows: list[Any]) -> list[str]:
    """Say what differs in how the jobs were computed: dtype, device, threads."""
    computed = {f"{row.job.number:04}": alike.throughout(jobs.machines(row.job)) for row in rows}
    sentence = alike.sentence({name: told for name, told in computed.items() if told}, "jobs")
    return [sentence] if sentence else []


def _write(folder: Path, total: int, rows: list[Any]) -> None:
    """Write sweep.json: what was run, of how many jobs, and how it ended, for programs and people."""
    told = [
        {
            "job": row.job.number,
            "folder": row.job.folder.name,
            "overrides": row.job.overrides,
            "status": row.outcome.summary.get("status", row.status) if row.status == "done before" else row.status,
            **({"message": row.outcome.message} if row.outcome.message else {}),
            **{key: value for key, value in row.outcome.summary.items() if key not in ("status", "error")},
        }
        for row in rows
    ]
    command = [Path(sys.argv[0]).name, *sys.argv[1:]]
    files.write_json(folder / jobs.SWEEP, {"command": command, "of": total, "jobs": told})


def continuing(shown: str) -> str:
    """Write the command that goes on with this sweep."""
    return shlex.join(
        ["python", *command_line.without(sys.argv, "hydra.sweep.dir"), f"hydra.sweep.dir={_as_value(shown)}"]
    )


def _as_value(path: str) -> str:
    """Write a path as a value of Hydra's, quoted where it has to be."""
    return command_line.quoted(Path(path)) if set(path) & set("=,'\"[]{}() \t$:") else path


def _jobs(number: int) -> str:
    return counted(number, "job")
