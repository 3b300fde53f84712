"""Look at what of a run lies on the disk, as it is there and not as it was meant to be: a full disk keeps nothing."""

from typing import NamedTuple

from cleangpt.basics.words import listed
from cleangpt.runs import weights
from cleangpt.train.loop import Trainer


class Kept(NamedTuple):
    """Names of what is there, as a person would say them, and of what should be there and is not."""

    there: list[str]
    lacking: list[str]
    goes_on: int | None  # the step from which the run can be resumed

    def sentence(self) -> str:
        are = "are" if len(self.there) > 1 else "is"
        there = f"there {are} {listed(self.there)}" if self.there else "nothing is there"
        return f"{listed(self.lacking)} could not be written; {there}"


def look(trainer: Trainer, ended: bool) -> Kept:
    """Look at what the disk has of a run at its present step. One that `ended` has final/ too."""
    run, state, tracker = trainer.run, trainer.state, trainer.tracker
    there, lacking = [], []
    snapshots = [int(folder.name.removeprefix("step_")) for folder in run.snapshot_folders()]
    if state.step not in snapshots:
        lacking.append(f"the snapshot of step {state.step}")
    if snapshots:
        there.append(f"the snapshot of step {snapshots[-1]}")
    expected = [(run.best, state.best_step)] if state.best is not None else []
    for folder, step in [*expected, *([(run.final, state.step)] if ended else [])]:
        found = weights.step(folder)
        if found is not None:
            there.append(f"{folder.name}/ (step {found})")
        if found != step:
            lacking.append(f"{folder.name}/ (step {step})")
    if lines := tracker.waiting():
        lacking.append(f"the last {lines} lines of metrics.jsonl" if lines > 1 else "the last line of metrics.jsonl")
    return Kept(there, lacking, snapshots[-1] if snapshots else None)
