"""A search with optuna: its trials are jobs, and what is worse than the median is stopped early.

Everything that is known of a search lies in optuna.db in the directory of the sweep. An interrupted search goes on
there: trials that had begun continue from their snapshots, and what was learned from others is not forgotten.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from cleangpt import tasks
from cleangpt.basics import verbs
from cleangpt.basics.errors import ConfigError, UserError
from cleangpt.basics.schema import parse
from cleangpt.corpus.store import NotPrepared
from cleangpt.sweeps import jobs
from cleangpt.sweeps.grid import Compose, Plan, given, job, values
from cleangpt.sweeps.jobs import DONE, Job, Outcome
from cleangpt.sweeps.settings import Sweeper

DIGITS = 6  # of a proposed number: enough for any of them, and a name can hold it


class Search(Plan):
    """Trials that optuna proposes, which is told how each went."""

    def __init__(self, chosen: Sweeper, arguments: Sequence[str], compose: Compose, folder: Path):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.optuna, self.chosen, self.compose = optuna, chosen, compose
        overrides = given(chosen.params, arguments)
        self.fixed = [values(override)[0] for override in overrides if not override.is_sweep_override()]
        space = {override.get_key_element(): override for override in overrides if override.is_sweep_override()}
        if not space:
            raise ConfigError(["a search needs values to choose from: add 'optimizer.lr=tag(log,interval(1e-4,1e-2))'"])
        self.space = {key: distribution(override, optuna.distributions) for key, override in space.items()}
        first = {key: d.low if hasattr(d, "low") else d.choices[0] for key, d in self.space.items()}
        self.example = self._job(0, first)
        self.direction = chosen.direction
        if self.direction == "auto":
            self.direction = "maximize" if chosen.metric.partition("/")[2] in self._more_is_better() else "minimize"
        self.study = self._study(folder)
        self.total = max(chosen.trials, len(self.study.trials))
        self.waiting = [self.example] * self.total
        self.trials: dict[int, Any] = {}
        self.reported: dict[int, set[int]] = {}
        ends = {"COMPLETE": "done before", "PRUNED": "pruned before", "FAIL": "failed before"}
        finished = [trial for trial in self.study.trials if trial.state.is_finished()]
        self.unfinished = [trial for trial in self.study.trials if not trial.state.is_finished()]
        before = [(self._job(trial.number, trial.params), ends[trial.state.name]) for trial in finished]
        self.before = [(one, Outcome(status, summary=jobs.summary(one))) for one, status in before]

    def _more_is_better(self) -> tuple[str, ...]:
        """List the scores of the task that are better when they are higher."""
        dataset, context = self.example.config["dataset"], self.example.config["model"]["block_size"]
        try:
            return tasks.make(parse(dataset, tasks.SETTINGS[dataset["name"]]), context).more_is_better
        except NotPrepared as error:
            raise UserError(f"{error}: prepare it first, by {verbs.shown('prepare')}") from None

    def next(self) -> Job | None:
        """Go on with a trial that had begun, or begin another."""
        known: set[int] = set()  # steps of which optuna has a value
        if self.unfinished:
            begun = self.unfinished.pop(0)
            trial, known = self.optuna.Trial(self.study, begun._trial_id), set(begun.intermediate_values)
        elif len(self.study.trials) < self.chosen.trials:
            trial = self.study.ask(self.space)
        else:
            return None
        self.trials[trial.number], self.reported[trial.number] = trial, known
        return self._job(trial.number, trial.params)

    def watched(self, job: Job, rows: list[dict[str, Any]]) -> bool:
        """Tell optuna what evaluations found, and ask whether the trial is worse than others at this step."""
        trial, seen, prunes = self.trials[job.number], self.reported[job.number], False
        for row in rows:
            value, step = row.get(self.chosen.metric), row["step"]
            if value is not None and step not in seen and step < job.steps():
                seen.add(step)
                trial.report(value, step)
                prunes = trial.should_prune()
        return prunes

    def ended(self, job: Job, outcome: Outcome) -> None:
        """Tell optuna how a trial ended. One that was stopped stays as it is, and goes on with the search."""
        state, trial = self.optuna.trial.TrialState, self.trials[job.number]
        value = outcome.summary.get(f"best/{self.chosen.metric}")
        if outcome.status in DONE and value is None:
            found = [name.removeprefix("best/") for name in outcome.summary if name.startswith("best/val/")]
            there = f"there are {', '.join(found)}" if found else "there was no evaluation with a finite loss"
            outcome.status = "failed"
            outcome.message = f"`hydra.sweeper.metric` {self.chosen.metric} is no value of an evaluation: {there}"
        if outcome.status in DONE:
            self.study.tell(trial, value)
        elif outcome.status in ("pruned", "failed"):
            self.study.tell(trial, state=state.PRUNED if outcome.status == "pruned" else state.FAIL)

    def report(self) -> list[str]:
        """Name the best trial."""
        if not any(trial.state.name == "COMPLETE" for trial in self.study.trials):
            return []
        best = self.study.best_trial
        words = " ".join(self._words(best.params)[len(self.fixed) :])
        return [f"Best {self.chosen.metric}: {best.value:.5g}, trial {best.number}: {words}"]

    def _job(self, number: int, params: dict[str, Any]) -> Job:
        return job(number, self._words(params), set(self.space), self.compose)

    def _words(self, params: dict[str, Any]) -> list[str]:
        return [*self.fixed, *(f"{key}={written(params[key])}" for key in self.space)]

    def _study(self, folder: Path) -> Any:
        """Begin the study of this directory, or continue it."""
        optuna, chosen = self.optuna, self.chosen
        place = folder / "optuna.db"
        storage = optuna.storages.RDBStorage(f"sqlite:///{place}")
        pruner = optuna.pruners.NopPruner()
        if chosen.pruner == "median":
            pruner = optuna.pruners.MedianPruner(chosen.startup_trials, chosen.warmup_steps)
        how = {"study_name": "search", "direction": self.direction, "load_if_exists": True}
        try:
            study = optuna.create_study(storage=storage, pruner=pruner, **how)
        except Exception as error:
            raise UserError(f"{place} can't be used ({error}): choose another hydra.sweep.dir") from error
        space = {key: repr(found) for key, found in self.space.items()}
        about = {**self.example.config, "search": {"metric": chosen.metric, "for": self.direction, "space": space}}
        if not study.trials:
            study.set_user_attr("about", about)
        elif changed := jobs.differences(study.user_attrs["about"], about):
            raise UserError(f"the search in {folder} is another one ({changed}): choose another hydra.sweep.dir")
        seed = (chosen.seed + len(study.trials)) % 2**32  # proposals go on, and don't begin anew
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if chosen.sampler == "random":
                study.sampler = optuna.samplers.RandomSampler(seed=seed)
            else:  # of trials that still run the worst is assumed, so that no two are alike
                alone = max(1, chosen.startup_trials)
                study.sampler = optuna.samplers.TPESampler(n_startup_trials=alone, constant_liar=True, seed=seed)
        return study


def distribution(override: Override, kinds: Any) -> Any:
    """Translate the values of one key into a distribution of optuna's."""
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        whole = isinstance(sweep.start, int) and isinstance(sweep.end, int)
        try:
            kind = kinds.IntDistribution if whole else kinds.FloatDistribution
            return kind(sweep.start, sweep.end, log="log" in sweep.tags)
        except ValueError as error:
            raise ConfigError([f"`{override.input_line}` can't be searched: {error}"]) from None
    if isinstance(sweep, RangeSweep):
        start, stop, step = sweep.start, sweep.stop, sweep.step
        if isinstance(start, int) and isinstance(stop, int) and isinstance(step, int):
            return kinds.IntDistribution(start, start + (stop - start - 1) // step * step, step=step)
    return kinds.CategoricalDistribution(list(override.sweep_string_iterator()))


def written(value: Any) -> str:
    """Write a value as a word of the command line."""
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else str(value)
