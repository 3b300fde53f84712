"""Pictures of a run and of several, that are shown or saved."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np

from cleangpt.basics.errors import UserError
from cleangpt.basics.words import listed
from cleangpt.library.shown import Picture
from cleangpt.report import draw
from cleangpt.report.columns import AXES
from cleangpt.report.compare import Comparison
from cleangpt.watch.plots import new_figure


def of_run(rows: list[dict[str, Any]], names: Sequence[str], x: str) -> Picture:
    """Draw columns of the metrics of one run."""
    _refuse_unknown(x)
    figure, (axis,) = new_figure(7, 4)
    for name in names:
        found = [(row[x], row[name]) for row in rows if row.get(name) is not None and row.get(x) is not None]
        if not found:
            known = sorted({key for row in rows for key in row} - {"step", "seconds"})
            raise UserError(f"`{name}` is no column of metrics.jsonl: there are {listed(known) or 'none'}")
        axis.plot(
            *zip(*found, strict=True), linewidth=1.6, marker="o" if len(found) < 60 else None, markersize=3, label=name
        )
    values = np.array([row[name] for name in names for row in rows if row.get(name) is not None])
    if len(values) and values.min() > 0 and values.max() / values.min() > 20:
        axis.set_yscale("log")
    axis.set(xlabel=x, ylabel=names[0] if len(names) == 1 else "")
    if len(names) > 1:
        axis.legend(frameon=False)
    return Picture(figure)


def of_comparison(found: Comparison, name: str, x: str) -> Picture:
    """Draw a quantity of several runs: a line for each setting, with its seeds as a band."""
    _refuse_unknown(x)
    drawn = draw.curves(found, found.metric_of(name))
    if drawn is None:
        raise UserError(f"`{name}` was logged by none of these runs: name a column of their metrics.jsonl")
    with matplotlib.rc_context(draw.STYLE):
        figure, (axis,) = new_figure(7, 4)
        drawn.panel(axis, x=x)
        axis.set_title(name)
        if len(axis.get_legend_handles_labels()[0]) > 1:
            axis.legend(frameon=False, fontsize=8)
    return Picture(figure)


def _refuse_unknown(x: str) -> None:
    if x not in AXES:
        raise UserError(f"`x` is {x}: curves are drawn along {listed(list(AXES))}")
