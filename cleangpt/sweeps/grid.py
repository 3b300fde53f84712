"""The jobs of a sweep over given values: all of them are known before the first one starts."""

import hashlib
import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override

from cleangpt.basics.errors import UserError
from cleangpt.config.command_line import hydra_parser, split
from cleangpt.sweeps import jobs
from cleangpt.sweeps.jobs import Job, Outcome

LONGEST = 120  # characters of the name of a folder; file systems take 255 bytes
# A number, a job's words and what is told of it make its configuration and the folder that it lies in.
Compose = Callable[[int, Sequence[str], str], tuple[dict[str, Any], Path]]


def given(params: dict[str, Any] | None, arguments: Sequence[str]) -> list[Override]:
    """Join the overrides of a preset and of the command line, which wins where both have a key."""
    lines = [f"{key}={value}" for key, value in (params or {}).items()] + list(arguments)
    parsed = hydra_parser().parse_overrides(lines)
    return list({override.get_key_element(): override for override in parsed}.values())


def values(override: Override) -> list[str]:
    """Write an override as words, one for each of its values."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


# ---- names of jobs, short and clean, by what differs between them: 0003_model=llama,optimizer.lr=3e-4,seed=1


def differing(jobs: Sequence[Sequence[str]]) -> set[str]:
    """Find the keys whose values are not the same in all jobs. A job is its words, `key=value`."""
    values: dict[str, set[str]] = {}
    for words in jobs:
        for word in words:
            key, value = split(word)
            values.setdefault(key, set()).add(value)
    return {key for key, found in values.items() if len(found) > 1}


def label(words: Sequence[str], keys: set[str]) -> str:
    """Write what of a job differs from others: `model=llama,seed=1`."""
    return ",".join(word.lstrip("+~") for word in words if split(word)[0] in keys)


def name(number: int, told: str) -> str:
    """Name the folder of a job: its number, and what differs as far as a file system, a shell and a person like it."""
    clean = re.sub(r"['\"\[\]{}()]", "", told)
    clean = re.sub(r"[^A-Za-z0-9._=,+-]+", "-", clean).strip("-")
    whole = f"{number:04}_{clean}" if clean else f"{number:04}"
    if len(whole) <= LONGEST:
        return whole
    digest = hashlib.sha256(told.encode()).hexdigest()[:8]
    return f"{whole[: LONGEST - 9].rstrip(',.-')}-{digest}"


def job(number: int, words: Sequence[str], keys: set[str], compose: Compose) -> Job:
    """Make a job of its words, of which these keys differ between jobs."""
    told = label(words, keys)
    config, folder = compose(number, words, name(number, told))
    return Job(number, tuple(words), told, folder, config)


# ---- plans


class Plan:
    """The jobs that there are: those of a grid, or the trials of a search."""

    total: int
    before: list[tuple[Job, Outcome]]  # what an earlier part of the sweep has done
    waiting: list[Job]  # what is still to run, or jobs like it

    def next(self) -> Job | None:
        """Give a job that is still to run."""
        return self.waiting.pop(0) if self.waiting else None

    def watched(self, job: Job, rows: list[dict[str, Any]]) -> bool:
        """Decide whether to stop a job for what it has shown so far."""
        return False

    def ended(self, job: Job, outcome: Outcome) -> None:
        """Take note of how a job ended."""

    def report(self) -> list[str]:
        """Say what belongs to the end, besides the table."""
        return []


class Grid(Plan):
    """Every combination of the values."""

    def __init__(self, params: dict[str, Any] | None, arguments: Sequence[str], compose: Compose):
        words = list(itertools.product(*map(values, given(params, arguments))))
        keys = differing(words)
        made = [job(number, line, keys, compose) for number, line in enumerate(words)]
        complaints = [complaint for one in made if (complaint := jobs.conflict(one))]
        if complaints:
            raise UserError(complaints[0] + (f" ({len(complaints) - 1} more differ)" if complaints[1:] else ""))
        self.total = len(made)
        self.before = [(one, Outcome("done before", summary=jobs.summary(one))) for one in made if jobs.is_done(one)]
        done = {one.number for one, _ in self.before}
        self.waiting = [one for one in made if one.number not in done]
