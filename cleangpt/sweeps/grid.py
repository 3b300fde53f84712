"""The jobs of a sweep over given values: all of them are known before the first one starts."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override

from cleangpt.basics.errors import UserError
from cleangpt.config.command_line import hydra_parser
from cleangpt.sweeps import jobs, naming
from cleangpt.sweeps.jobs import Job, Outcome

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
        keys = naming.differing(words)
        made = []
        for number, line in enumerate(words):
            label = naming.label(line, keys)
            config, folder = compose(number, line, naming.name(number, label))
            made.append(Job(number, tuple(line), label, folder, config))
        complaints = [complaint for job in made if (complaint := jobs.conflict(job))]
        if complaints:
            raise UserError(complaints[0] + (f" ({len(complaints) - 1} more differ)" if complaints[1:] else ""))
        self.total = len(made)
        done = {job.number: Outcome("done before", summary=jobs.summary(job)) for job in made if jobs.is_done(job)}
        self.before = [(job, done[job.number]) for job in made if job.number in done]
        self.waiting = [job for job in made if job.number not in done]
