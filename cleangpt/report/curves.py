"""Curves of a quantity over a group's seeds: their mean, and a band from the lowest to the highest."""

from typing import NamedTuple

import numpy as np

from cleangpt.report.collect import Run

POINTS = 300  # of a drawn line; more than that are averaged in stretches
AXES = {"step": "optimizer step", "tokens": "tokens", "seconds": "minutes of wall time"}


class Curve(NamedTuple):
    steps: np.ndarray  # (n,) of single steps, or the middles of stretches
    mean: np.ndarray  # (n,) NaN where not every run has a value
    low: np.ndarray
    high: np.ndarray
    averaged: int  # logged values behind a point of a run; 1: nothing was averaged


def curve(runs: list[Run], name: str, points: int = POINTS) -> Curve | None:
    found = [run.columns[name] for run in runs if name in run.columns]
    if not found:
        return None
    steps = np.unique(np.concatenate([column.steps for column in found]))
    table = np.full((len(found), len(steps)), np.nan)
    for row, column in zip(table, found, strict=True):
        row[np.searchsorted(steps, column.steps)] = column.values
    averaged = -(-len(steps) // points)
    if averaged > 1:
        begins = np.arange(0, len(steps), averaged)
        known = np.isfinite(table)
        counts = np.add.reduceat(known, begins, axis=1)
        sums = np.add.reduceat(np.where(known, table, 0), begins, axis=1)
        table = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        steps = np.add.reduceat(steps, begins) / np.diff(np.append(begins, len(steps)))
    known = np.isfinite(table)
    everyone, someone = known.all(axis=0), known.any(axis=0)
    mean = np.where(everyone, np.where(known, table, 0).sum(axis=0) / len(found), np.nan)
    low = np.where(someone, np.where(known, table, np.inf).min(axis=0), np.nan)
    high = np.where(someone, np.where(known, table, -np.inf).max(axis=0), np.nan)
    return Curve(steps, mean, low, high, averaged)


def along(runs: list[Run], axis: str, steps: np.ndarray) -> np.ndarray | None:
    """Place these steps on an axis: by their tokens or minutes, in the mean over the runs."""
    if axis == "step":
        return steps
    found = [run.columns[axis] for run in runs if axis in run.columns]
    if not found:
        return None
    places = [np.interp(steps, column.steps, column.values, right=np.nan) for column in found]
    known = np.isfinite(places)
    sums = np.where(known, places, 0).sum(axis=0)
    mean = np.where(known.any(axis=0), sums / np.maximum(known.sum(axis=0), 1), np.nan)
    return mean / 60 if axis == "seconds" else mean
