"""Loggers that get the rows of metrics.jsonl too: TensorBoard, Weights & Biases, a CSV table.

Each is asked for by a file of conf/logger/. One that is not installed or fails warns once, and the training goes on
without it. After a resume each continues the same run, from the step that the snapshot holds.
"""

import csv
import math
import os
import uuid
from collections.abc import Callable
from typing import Any, Protocol

from cleangpt.basics import extras, files
from cleangpt.basics.shown import cell, write_csv
from cleangpt.config.experiment import Config
from cleangpt.disk.rundir import RunDir, read_metrics


class Logger(Protocol):
    """A place that gets rows as they are logged, and the summary of the run."""

    def row(self, row: dict[str, Any]) -> None: ...
    def finish(self, summary: dict[str, Any]) -> None: ...


def numbers(row: dict[str, Any]) -> dict[str, float]:
    return {key: value for key, value in row.items() if key != "step" and isinstance(value, int | float)}


class TensorBoard:
    """Event files in tensorboard/, from which everything behind the snapshot is purged."""

    def __init__(self, run: RunDir, config: Config, step: int):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(run.path / "tensorboard"), purge_step=step + 1)

    def row(self, row: dict[str, Any]) -> None:
        for key, value in numbers(row).items():
            self.writer.add_scalar(key, value, row["step"])

    def finish(self, summary: dict[str, Any]) -> None:
        self.writer.close()


class Wandb:
    """A run of wandb, offline unless there is a key. Its id lies in the run directory, so a resume continues it."""

    def __init__(self, run: RunDir, config: Config, step: int):
        import wandb

        kept = run.path / "wandb_id.json"
        if not kept.exists():
            files.write_json(kept, uuid.uuid4().hex[:8])
        # A key is looked for and not asked for, and the server is not asked about it: that would take its time.
        mode: Any = os.environ.get("WANDB_MODE")
        mode = mode or ("online" if wandb.login(prompt=False, verify=False) else "offline")
        self.run = wandb.init(
            project=config.logger.project,
            name=run.path.name,
            id=files.read_json(kept),
            resume="allow",
            dir=str(run.path),
            config=config.model_dump(mode="json"),
            mode=mode,
        )

    def row(self, row: dict[str, Any]) -> None:
        self.run.log(numbers(row), step=row["step"])

    def finish(self, summary: dict[str, Any]) -> None:
        self.run.summary.update(summary)
        self.run.finish(exit_code=1 if summary.get("status") == "failed" else 0)


class Csv:
    """metrics.csv, written anew as a whole whenever a column is new, so that its head is always right."""

    def __init__(self, run: RunDir, config: Config, step: int):
        self.path = run.path / "metrics.csv"
        self.rows = [row for row in read_metrics(run.metrics) if row["step"] <= step]
        self._write_all()

    def row(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if set(row) <= set(self.columns):
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow([cell(row.get(name)) for name in self.columns])
        else:
            self._write_all()

    def _write_all(self) -> None:
        with self.path.open("w", newline="", encoding="utf-8") as file:
            self.columns = write_csv(file, self.rows, "\r\n")

    def finish(self, summary: dict[str, Any]) -> None:
        self.rows.clear()


LOGGERS: dict[str, Callable[[RunDir, Config, int], Logger]] = {"tensorboard": TensorBoard, "wandb": Wandb, "csv": Csv}


class Loggers:
    """The loggers that were asked for. `say` gets one sentence on each that fails."""

    def __init__(self, run: RunDir, config: Config, step: int, say: Callable[[str], None]):
        self.say = say
        self.active: dict[str, Logger] = {}
        for name, make in LOGGERS.items():
            if getattr(config.logger, name) and (made := self._try(name, make, run, config, step)):
                self.active[name] = made

    def row(self, row: dict[str, Any]) -> None:
        """Pass a row on, without what is not finite."""
        finite = {k: v for k, v in row.items() if not isinstance(v, float) or math.isfinite(v)}
        for name, logger in list(self.active.items()):
            self._try(name, logger.row, finite)

    def finish(self, summary: dict[str, Any]) -> None:
        for name, logger in list(self.active.items()):
            self._try(name, logger.finish, summary)

    def _try(self, name: str, action: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return action(*arguments)
        except Exception as error:
            self.active.pop(name, None)
            hint = f": install it by `{extras.command(name)}`" if isinstance(error, ImportError) else ""
            self.say(f"logger {name} is left out ({error}){hint}")
