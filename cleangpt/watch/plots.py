"""Pictures of a run and of a score."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cleangpt.basics import files

BLUE, ORANGE, GREY = "#2f6db3", "#d9701e", "#8a8f98"
ROOM = 60  # characters that stand below a panel of slices without touching
SCHEDULE = {"lr": "learning rate", "weight_decay": "weight decay"}
SCHEDULE |= {"grad_accum": "micro-steps in a step", "batch": "sequences in a step"}


def new_figure(width: float, height: float, columns: int = 1, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """Make a picture with so many panels, row by row."""
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="#e6e8eb", linewidth=0.7)
        axis.set_axisbelow(True)
    return figure, axes


def save_figure(figure: Figure, path: Path) -> Path:
    """Put a picture in its place at once: whoever looks sees the old one or the new one."""
    path.parent.mkdir(exist_ok=True)
    files.replace(path, lambda file: figure.savefig(file, format="png"))
    return path


def limits(low: float, high: float, is_share: bool = False) -> tuple[float, float] | None:
    """Widen an axis whose values all are the same, but for rounding, beyond that rounding. None where they differ.

    Shares are in percent.
    """
    if not high - low <= 1e-6 * max(abs(low), abs(high)):
        return None
    if is_share:
        return (-2.0, 102.0)
    return (min(0.9 * low, 1.1 * low), max(0.9 * high, 1.1 * high)) if low else (0.0, 1.0)


def _column(rows: list[dict[str, Any]], key: str) -> tuple[list[int], list[float]]:
    found = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
    return [step for step, _ in found], [value for _, value in found]


def run_plots(rows: list[dict[str, Any]], folder: Path) -> list[Path]:
    """Draw loss.png, accuracy.png where there is one, and schedule.png, from the rows of metrics.jsonl."""
    made = []
    values = [value for key in ("train/loss", "val/loss") for value in _column(rows, key)[1]]
    if values:
        figure, (axis,) = new_figure(7, 4)
        axis.plot(*_column(rows, "train/loss"), color=GREY, linewidth=1, label="training step")
        steps, losses = _column(rows, "val/loss")
        axis.plot(steps, losses, color=BLUE, linewidth=2, marker="o", markersize=3, label="validation")
        if min(values) > 0 and max(values) / min(values) > 20:
            axis.set_yscale("log")
        axis.set(title="Loss", xlabel="optimizer step", ylabel="nats per token")
        axis.legend(frameon=False)
        made.append(save_figure(figure, folder / "loss.png"))
    steps, accuracy = _column(rows, "val/accuracy")
    if steps:
        figure, (axis,) = new_figure(7, 4)
        axis.plot(
            steps, np.array(accuracy) * 100, color=BLUE, linewidth=2, marker="o", markersize=3, label="validation"
        )
        title = "Exact match on validation"
        seen, known = _column(rows, "train/accuracy")
        if seen:
            axis.plot(seen, np.array(known) * 100, color=GREY, linewidth=2, label="training samples")
            axis.legend(frameon=False)
            title = "Exact match"
        axis.set(title=title, xlabel="optimizer step", ylabel="%", ylim=(-2, 102))
        made.append(save_figure(figure, folder / "accuracy.png"))
    names = {key: title for key, title in SCHEDULE.items() if any(key in row for row in rows)}
    if names:
        figure, axes = new_figure(9, 5, columns=2, rows=-(-len(names) // 2))
        for axis, (key, title) in zip(axes, names.items(), strict=False):
            axis.plot(*_column(rows, key), color=ORANGE, linewidth=2)
            axis.set(title=title, xlabel="optimizer step")
            axis.set_ylim(bottom=0)
        for axis in axes[len(names) :]:
            axis.remove()
        made.append(save_figure(figure, folder / "schedule.png"))
    return made


def points(path: Path, panels: dict[str, list[tuple[str, dict[str, Any]]]], title: str) -> Path:
    """Draw a panel for each slicing: the accuracy of each slice with its interval."""
    figure, axes = new_figure(4 * len(panels), 4, columns=len(panels))
    for axis, (name, slices) in zip(axes, panels.items(), strict=True):
        slices = [(label, row) for label, row in slices if row["problems"]]
        heights = np.array([row["accuracy"] for _, row in slices]) * 100
        low, high = np.array([row["interval"] for _, row in slices]).T * 100
        places = np.arange(len(slices))
        spread = [np.maximum(heights - low, 0), np.maximum(high - heights, 0)]
        axis.errorbar(places, heights, spread, fmt="o", color=BLUE, ecolor=GREY, capsize=4, markersize=7)
        every = -(-sum(len(label) + 1 for label, _ in slices) // ROOM) or 1
        ticks = [label for label, _ in slices][::every]
        axis.set_xticks(places[::every], ticks, fontsize=8 if len(slices) < 12 else 6)
        axis.set_xlim(-0.6, len(slices) - 0.4)
        axis.set(xlabel=name, ylabel="%")
        axis.ticklabel_format(axis="y", useOffset=False)
    figure.suptitle(title)
    return save_figure(figure, path)


def bars(path: Path, labels: list[str], heights: list[float], xlabel: str, ylabel: str, title: str) -> Path:
    """Draw a bar for each value."""
    figure, (axis,) = new_figure(max(5.0, 0.7 * len(labels) + 1), 4)
    axis.bar(labels, heights, color=BLUE, width=0.7)
    axis.set_ylim(bottom=0.9 * min(heights))
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axis.tick_params(axis="x", labelsize=8)
    return save_figure(figure, path)


def heat_map(
    path: Path,
    cells: dict[tuple[int, int], float],
    rows: str,
    columns: str,
    title: str,
    ends: tuple[int | None, int | None] = (None, None),  # the last row and column that were trained on
) -> Path:
    """Draw accuracies by two whole numbers, with the percentages written into the picture."""
    places = np.array(list(cells))
    first, last = np.minimum(places.min(axis=0), 1), places.max(axis=0)
    grid = np.full(last - first + 1, np.nan)
    for place, value in cells.items():
        grid[tuple(place - first)] = value
    size = max(3.6, 0.62 * max(grid.shape) + 1.6)
    figure, (axis,) = new_figure(size + 0.8, size)
    axis.grid(False)
    image = axis.imshow(grid * 100, cmap="viridis", vmin=0, vmax=100, origin="lower")
    figure.colorbar(image, ax=axis, label="%")
    for (row, column), value in np.ndenumerate(grid):
        if not np.isnan(value):
            shade = "black" if value > 0.6 else "white"
            axis.text(column, row, f"{value * 100:.4g}", ha="center", va="center", fontsize=7, color=shade)
    if ends[0] is not None and ends[1] is not None and (last > ends).any():
        row, column = ends[0] - first[0] + 0.5, ends[1] - first[1] + 0.5
        axis.plot([-0.5, column, column], [row, row, -0.5], color="red", linewidth=2)
        title += " (trained within the line)"
    axis.set_xticks(range(grid.shape[1]), map(str, range(first[1], last[1] + 1)))
    axis.set_yticks(range(grid.shape[0]), map(str, range(first[0], last[0] + 1)))
    axis.set(title=title, xlabel=columns, ylabel=rows)
    return save_figure(figure, path)
