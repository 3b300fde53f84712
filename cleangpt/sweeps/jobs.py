"""A job of a sweep: what it is, what lies of it on the disk, and how it ended."""

import contextlib
import json
import re
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cleangpt.basics import files, untrusted
from cleangpt.basics.errors import UserError
from cleangpt.basics.schema import leaves
from cleangpt.disk import migrations
from cleangpt.disk.rundir import RunDir, read_row
from cleangpt.machine import signals

ABOUT, SWEEP = "job.json", "sweep.json"  # in the folder of a job, and of all
DONE = ("completed", "early_stopped")
SIGNALS = signals.ASKING
STOPPING = {status for number in SIGNALS for status in (128 + number, -number)}
# Where a job computes and what it shows may change when a sweep goes on; what it computes may not.
MAY_CHANGE = ("device", "processes", "resume", "logger", "train.shard", "train.shard_group")


@dataclass(frozen=True)
class Job:
    """One training of a sweep."""

    number: int
    overrides: tuple[str, ...]  # words that make its configuration
    label: str  # what differs from other jobs
    folder: Path
    config: dict[str, Any]  # as composed, before what is null in it is filled in

    @property
    def run(self) -> RunDir:
        return RunDir(self.folder)

    @property
    def log(self) -> Path:
        """Name the file with what the processes of the job wrote to stdout and stderr."""
        return self.folder / "job.log"

    @property
    def about(self) -> Path:
        return self.folder / ABOUT

    def steps(self) -> int:
        return self.config["train"]["steps"]


@dataclass
class Outcome:
    """The end of a job, or of what an earlier part of the sweep did of it."""

    status: str  # completed, early_stopped, stopped, pruned or failed
    message: str = ""  # why it failed
    summary: dict[str, Any] = field(default_factory=dict)


def prepare(job: Job) -> None:
    """Have the folder of a job hold what the job is; refuse one that holds another."""
    if complaint := conflict(job):
        raise UserError(complaint)
    job.folder.mkdir(parents=True, exist_ok=True)
    if not job.about.exists():
        stored = migrations.stamped(job.config)
        files.write_json(job.about, {"number": job.number, "overrides": job.overrides, "config": stored})


def conflict(job: Job) -> str | None:
    """Say why this job can't lie in its folder, if another one does."""
    why, here = None, job.folder.name
    if not job.folder.exists():
        # Sweeps have `0003_…`: another name behind the same number is another job.
        same = sorted(path.parent.name for path in job.folder.parent.glob(f"{job.number:04}_*/{ABOUT}"))
        if same and here.startswith(f"{job.number:04}"):
            why = f"job {job.number} is {same[0]} there and {here} here"
    else:
        try:
            stored = migrations.to_today(files.read_json(job.about)["config"])
            if changed := differences(stored, job.config):
                why = f"{here} has another configuration ({changed})"
        except FileNotFoundError:
            if job.run.holds_a_run():
                why = f"{here} holds a run that is no job of a sweep"
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            why = f"{here}/{ABOUT} can't be read ({error})"
    shown = RunDir(job.folder.parent).shown()
    return why and f"the sweep in {shown} can't be continued by this command: {why}: choose another hydra.sweep.dir"


def differences(stored: dict[str, Any], config: dict[str, Any]) -> str:
    """Say in what a configuration differs from a stored one, as far as that changes what is computed."""
    old, new = leaves(stored), leaves(json.loads(json.dumps(config)))
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    changed = [key for key in changed if not {key, key.split(".")[0]} & set(MAY_CHANGE)]
    shown = [f"{key}: {old.get(key)} there, {new.get(key)} here" for key in changed[:3]]
    return "; ".join(shown) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")


def number_in(folder: Path) -> int | None:
    """Read the number of the job whose folder this is, if it is one's: in older sweeps it is the folder's name."""
    number = told(folder / ABOUT).get("number", int(folder.name) if folder.name.isdecimal() else None)
    return number if isinstance(number, int) else None


def count_in(folder: Path) -> int:
    """Read how many jobs the sweep in this folder has, as far as it says so."""
    count = told(folder / SWEEP).get("of")
    return count if isinstance(count, int) else 0


def told(path: Path) -> dict[str, Any]:
    """Read a JSON object, as far as there is one."""
    with contextlib.suppress(OSError, ValueError):
        return untrusted.json_object(path)
    return {}


def summary(job: Job) -> dict[str, Any]:
    return told(job.run.summary)


def is_done(job: Job) -> bool:
    return summary(job).get("status") in DONE


class Watched:
    """The metrics of a job as they are written: what is new in the file, also after a resume has replaced it."""

    def __init__(self, path: Path):
        self.path, self.position, self.inode = path, 0, 0
        self.last: dict[str, Any] = {}  # newest value of each name

    def new_rows(self) -> list[dict[str, Any]]:
        """Read the lines that were written since the last time."""
        try:
            with self.path.open("rb") as file:
                status = self.path.stat()
                if status.st_ino != self.inode or status.st_size < self.position:
                    self.position, self.inode = 0, status.st_ino
                file.seek(self.position)
                text = file.read()
        except OSError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self.position += len(whole)
        rows = [row for row in map(read_row, whole.split(b"\n")) if row is not None]
        for row in rows:
            self.last |= row
        return rows


def outcome(job: Job, status: int, log_began: int) -> Outcome:
    """Tell how a job ended, from the exit status of its processes and what they left."""
    found = summary(job)
    if status == 0 and found.get("status") in DONE:
        return Outcome(found["status"], summary=found)
    if status in STOPPING:
        return Outcome("stopped", summary=found)
    return Outcome("failed", _why(job, status, found, log_began), found)


def _why(job: Job, status: int, found: dict[str, Any], log_began: int) -> str:
    """Find the words with which a job failed: those of its summary, or the last ones that it wrote."""
    if found.get("status") == "failed" and found.get("error") and status == 1:
        return str(found["error"])
    if status < 0:
        return f"killed by {signal.Signals(-status).name}{': out of memory?' if -status == signal.SIGKILL else ''}"
    lines = []
    with contextlib.suppress(OSError), job.log.open("rb") as file:
        file.seek(log_began)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    own = [line for line in lines if line and not re.match(r"[EWI]\d{4} |[=-]{5,}", line)]  # torchrun's are no help
    return own[-1] if own else f"ended with status {status} and said nothing"
