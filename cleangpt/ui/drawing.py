"""Curves as data: a column of each run, or of runs that differ by their seed as a mean with its band."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cleangpt.follow.curves import Curves, Line, Rows, line, part, smoothed, thinned
from cleangpt.follow.index import Entry
from cleangpt.report.collect import Run
from cleangpt.report.columns import Column
from cleangpt.report.estimate import POINTS, along, curve
from cleangpt.ui.asking import Curve
from cleangpt.ui.live import id_of

Found = dict[str, Any]


def names(curves: Curves, entries: Sequence[Entry]) -> list[str]:
    """Name all columns that any of these runs has."""
    return sorted({name for entry in entries for name in _rows(curves, entry).names()})


def lines(curves: Curves, entries: Sequence[Entry], asked: Curve) -> list[Found]:
    """Draw a line for each run that has this column."""
    found = []
    for entry in entries:
        whole = _line(curves, entry, asked)
        if whole is not None:
            shown = thinned(part(whole, asked.begin, asked.end), asked.points)
            drawn: Found = {"ids": [id_of(entry.path)], "seeds": 1, "x": _plain(shown.x), "y": _plain(shown.y)}
            if asked.smooth:  # over all that was logged, whatever is looked at
                smooth = thinned(part(smoothed(whole, asked.smooth), asked.begin, asked.end), asked.points)
                drawn["smooth"] = {"x": _plain(smooth.x), "y": _plain(smooth.y)}
            found.append(drawn)
    return found


def bands(curves: Curves, groups: Sequence[Sequence[Entry]], asked: Curve) -> list[Found]:
    """Draw the mean of each group of runs, and between which values all of them lie."""
    found = []
    for group in groups:
        held = [(entry, whole) for entry in group if (whole := _line(curves, entry, asked)) is not None]
        runs = []
        for entry, whole in held:
            cut = part(whole, asked.begin, asked.end)
            if np.isfinite(cut.y).any():
                runs.append(Run(entry.path, columns={"y": Column(cut.steps, cut.y), "x": Column(cut.steps, cut.x)}))
        drawn = curve(runs, "y", min(asked.points, POINTS)) if runs else None
        places = None if drawn is None else along(runs, "x", drawn.steps)
        if drawn is not None and places is not None:
            parts = {"x": places, "y": drawn.mean, "low": drawn.low, "high": drawn.high}
            band: Found = {"ids": [id_of(run.path) for run in runs], "seeds": len(runs)}
            band |= {name: _plain(values) for name, values in parts.items()}
            if asked.smooth:
                mean = smoothed(Line(drawn.steps, places, drawn.mean), asked.smooth, drawn.averaged)
                band["smooth"] = {"x": band["x"], "y": _plain(mean.y)}
            found.append(band)
    return found


def _rows(curves: Curves, entry: Entry) -> Rows:
    return curves.of(entry.path / "metrics.jsonl")


def _line(curves: Curves, entry: Entry, asked: Curve) -> Line | None:
    flops = entry.record.get("flops_per_token")
    return line(_rows(curves, entry), asked.key, asked.x, flops if type(flops) is int else None)


def _plain(values: np.ndarray) -> list[float | None]:
    """Write numbers for JSON, which has no NaN."""
    return [value if math.isfinite(value) else None for value in values.tolist()]
