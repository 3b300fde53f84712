"""The page over many made-up runs: how long it takes to show them, and what a training beside it loses."""

import contextlib
import json
import math
import multiprocessing
import os
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cleangpt.basics import files, verbs
from cleangpt.basics.errors import UserError
from cleangpt.config.programs import BenchConfig
from cleangpt.disk import alive, migrations
from cleangpt.disk.rundir import RunDir
from cleangpt.machine.device import Compute
from cleangpt.measure import train, turns
from cleangpt.measure.turns import Here, Side
from cleangpt.tasks.contract import Task

ROWS = 10_000  # of each run
EVALUATED = 100  # rows from one evaluation to the next
POLLS = 2.0  # seconds between two questions of an open page
LOGS = 1.0  # seconds between two rows of the run that is trained
TRIES = 20
STARTS_WITHIN = 60.0
BESIDE = "beside the page"


def row(step: int) -> dict[str, float]:
    """Make up a row of metrics, of the usual length."""
    loss = 2 / math.sqrt(step) + 0.1 * math.sin(step)
    found = {"step": step, "train/loss": loss, "lr": 1e-3 / step, "weight_decay": 0.1, "grad_accum": 1, "batch": 256}
    found |= {"grad_norm": loss / 7, "epoch": step / 977, "tokens": 5000 * step, "tokens_per_second": 1e6 / (9 + loss)}
    found |= {"data_wait": loss / 1000, "memory_gb": 0.509657088, "clipped_share": 0.0, "seconds": 0.37 * step}
    return found if step % EVALUATED else {**found, "val/loss": loss, "val/accuracy": 1 / (1 + loss)}


def make_runs(folder: Path, count: int, config: dict[str, Any]) -> None:
    """Fill a folder with sweeps of a hundred runs each."""
    metrics = "".join(json.dumps(row(step)) + "\n" for step in range(1, ROWS + 1)).encode()
    end = {name: value for name, value in row(ROWS).items() if name.startswith(("val/", "train/"))}
    for number in range(count):
        run = RunDir(folder / f"sweep_{number // 100}" / f"{number % 100:04d}_seed={number}")
        run.path.mkdir(parents=True)
        files.write_json(run.config, migrations.stamped({**config, "seed": number}))
        files.write_json(
            run.run, {"started": f"2026-01-01T00:00:{number % 60:02d}+0000", "overrides": [], "changed": {}}
        )
        files.write_json(run.summary, {"status": "completed", "step": ROWS, **end})
        files.write_json(run.path / "job.json", {"number": number % 100})
        run.metrics.write_bytes(metrics)


class Server:
    """`cleangpt ui` as a user starts it."""

    def __init__(self, folder: Path):
        command = [*verbs.command("ui"), f"runs={folder}", "port=0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=verbs.environment(os.environ))
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        if not first:
            raise UserError("the page could not be opened: try `cleangpt ui` alone")
        self.address = first.split()[-1]

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.address + path, timeout=STARTS_WITHIN) as answer:
            return json.load(answer)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


@contextlib.contextmanager
def served(config: BenchConfig) -> Iterator[tuple[Server, dict[str, Any]]]:
    """Open the page over made-up runs, and measure what it takes to show them."""
    with tempfile.TemporaryDirectory(prefix="made-up-runs-") as made:
        hidden, folder = Path(made) / ".hidden", Path(made) / "runs"
        folder.mkdir()
        make_runs(hidden, config.runs, config.model_dump(mode="json"))
        server = Server(folder)
        try:
            server.get("/api/runs")
            time.sleep(POLLS)
            hidden.rename(folder / "all")
            listing, found = _timed(server, "/api/runs")
            if len(found["rows"]) != config.runs:
                raise UserError(f"{len(found['rows'])} of {config.runs} made-up runs were listed: please report this")
            asked = [f"/api/curves?key=train/loss&ids={one['id']}" for one in found["rows"][: TRIES + 1]]
            curves = [_timed(server, path)[0] for path in asked[1:]]
            again = [_timed(server, path)[0] for path in asked[1:]]
            live = folder / "all" / found["rows"][0]["name"].removeprefix("all/") / "metrics.jsonl"
            delays = [_delay(server, live, ROWS + number) for number in range(1, 1 + min(config.rounds, 5))]
            more = {"runs": config.runs, "rows": ROWS, "listed_seconds": listing}
            more |= {"curve_seconds": statistics.median(curves), "longest_curve_seconds": max(curves)}
            more |= {"curve_again_seconds": statistics.median(again), "new_row_seconds": max(delays)}
            yield server, {**more, "live": str(live)}
        finally:
            server.close()


def _timed(server: Server, path: str) -> tuple[float, Any]:
    began = time.perf_counter()
    found = server.get(path)
    return time.perf_counter() - began, found


def _delay(server: Server, live: Path, step: int) -> float:
    """Add a row, and ask as the page does until it is told."""
    version = server.get("/api/runs")["version"]
    with live.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row(step)) + "\n")
    began = time.perf_counter()
    while True:
        time.sleep(POLLS)
        found = server.get(f"/api/runs?since={version}")
        version = found["version"]
        if any(one["step"] == step for one in found["rows"]):
            return time.perf_counter() - began


# ---- a training beside it


def look(address: str, live: str, step: int, pipe: Any) -> None:
    """Ask what an open page asks, and log the rows that it follows, whenever that is on."""
    on, version, identity = False, "", None
    living = alive.Alive(RunDir(Path(live).parent), lambda: None)
    while True:
        if pipe.poll(None if not on else POLLS):
            on = pipe.recv()
            if on is None:
                living.close()
                return
            continue
        with open(live, "a", encoding="utf-8") as file:
            for _ in range(round(POLLS / LOGS)):
                step += 1
                file.write(json.dumps(row(step)) + "\n")
        with urllib.request.urlopen(f"{address}/api/runs?since={version}") as answer:
            found = json.load(answer)
        version = found["version"]
        for one in found["rows"]:
            identity = one["id"] if one["step"] == step else identity
        if identity is not None:
            for key in ("train/loss", "val/loss", "val/accuracy", "lr"):
                urllib.request.urlopen(f"{address}/api/curves?key={key}&ids={identity}").read()


class Beside(Here):
    """Training steps while somebody looks."""

    def __init__(self, call: Any, compute: Compute, pipe: Any):
        super().__init__(call, compute)
        self.pipe = pipe

    def turn(self, seconds: float) -> tuple[int, list[float]]:
        self.pipe.send(True)
        try:
            return super().turn(seconds)
        finally:
            self.pipe.send(False)


def measure(config: BenchConfig, task: Task, compute: Compute, warm_up: int) -> dict[str, Any]:
    """Measure the page, and let a training alone and the same one beside the page take turns."""
    with served(config) as (server, found):
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        asked = (server.address, found.pop("live"), ROWS + 10, theirs)
        looking = multiprocessing.get_context("spawn").Process(target=look, args=asked, daemon=True)
        looking.start()
        try:
            step = train.steps(config, task, compute)
            alone = Side(turns.OURS, lambda: step, compute.dtype)
            beside = Side(BESIDE, lambda: Beside(step, compute, ours), compute.dtype)
            turns.run([alone, beside], config.rounds, config.seconds, warm_up, compute)
        finally:
            with contextlib.suppress(OSError):
                ours.send(None)
            looking.join(5)
            looking.kill()
    sides = turns.found([alone, beside])
    loses = {name: 1 - 1 / value for name, value in sides[BESIDE]["ratio"].items()}
    return {"unit": "tokens a second", "sides": sides, "page": {**found, "training_loses": loses}}
