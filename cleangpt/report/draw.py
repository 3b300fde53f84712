"""Pictures of a comparison: curves with seeds as bands, the effect of each key, and of two keys together.

Each picture is made twice: as a PNG for a paper or a chat, and as SVG that takes its colours from the page around.
"""

import io
import re
import textwrap
from collections.abc import Callable, Iterable
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, NullFormatter

from cleangpt.report import compare
from cleangpt.report.columns import AXES
from cleangpt.report.compare import Comparison, Metric
from cleangpt.report.differences import MISSING, Key, order, show
from cleangpt.report.estimate import Estimate, along, curve
from cleangpt.report.words import show_value
from cleangpt.watch.plots import limits, new_figure, save_figure

COLOURS = ("#3b7fcc", "#d9701e", "#2a9d6f", "#b652a4", "#cf4444", "#7d6fd6", "#a08432", "#1f9fb5", "#dd7f9f", "#79838f")
HIGHLIGHTS = 6  # of more groups than there are colours, so many of the best have one
OTHERS = "#9aa1ab"
INK, GRID = "#1f2429", "#e6e8eb"  # in SVG these become the page's own
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a $ in a value is a $
    "axes.formatter.useoffset": False,  # 1.0001 is 1.0001, not 1e-4 and far away a 1
    "svg.hashsalt": "cleangpt",
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}
PLAIN = FuncFormatter(lambda value, _: f"{value:g}")  # not 10^-3, which is mathematics
BETWEEN = FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
KEYS_AT_MOST = 8  # with an effect plot of their own
PAIRS_AT_MOST = 6
BRIEF = 180  # seconds: what is over sooner is not told in minutes
UNITS = {"loss": "nats per token", "accuracy": "%", "bits_per_byte": "bits per byte"}


class Picture(NamedTuple):
    """A picture as it is shown: its title, what it says, and its files."""

    title: str
    caption: str
    svgs: list[str]
    png: Path


def draw(found: Comparison, folder: Path) -> list[Picture]:
    """Draw every quantity along its axes, the effect of each key, and keys in pairs."""
    with matplotlib.rc_context(STYLE):
        names = ["val/loss", "val/accuracy", *(metric.name for metric in found.metrics), "train/loss", *found.drawn]
        metrics = [metric for name in dict.fromkeys(names) if not (metric := found.metric_of(name)).at_end]
        keys = found.keys[:KEYS_AT_MOST]
        pictures = [_curves(found, metric, folder) for metric in metrics]
        pictures += [_effect(found, key, folder) for key in keys]
        pictures += [_pair(found, *pair, folder) for pair in list(combinations(keys, 2))[:PAIRS_AT_MOST]]
    return [picture for picture in pictures if picture is not None]


def colours(found: Comparison) -> list[str]:
    """Choose a colour for each group: in the order of the one number that was swept, or as many as can be told."""
    groups = found.groups
    one_key = len(found.keys) == 1 and len(groups) > 4
    if one_key and all(_is_number(group.values[found.keys[0].name]) for group in groups):
        return [to_hex(shade) for shade in matplotlib.colormaps["plasma"](np.linspace(0.15, 0.85, len(groups)))]
    if len(groups) <= len(COLOURS):
        return list(COLOURS[: len(groups)])
    best = {id(group): colour for group, colour in zip(found.ranking()[:HIGHLIGHTS], COLOURS, strict=False)}
    return [best.get(id(group), OTHERS) for group in groups]


# ---- curves


def _curves(found: Comparison, metric: Metric, folder: Path) -> Picture | None:
    """Draw a quantity along each axis."""
    drawn = curves(found, metric)
    if drawn is None:
        return None
    panels: list[Callable[[Axes], None]] = [partial(drawn.panel, x=x) for x in AXES]
    return _picture(metric.name, metric.name, drawn.caption, panels, folder, legend=True)


class Curves(NamedTuple):
    """A quantity of a comparison, to be drawn along one of AXES."""

    panel: Callable[..., None]
    caption: str


def curves(found: Comparison, metric: Metric) -> Curves | None:
    """Choose what is drawn of a quantity: the mean of a group's finished runs, and each other run alone."""
    lines = []
    for number, group in enumerate(found.groups):
        for runs in (group.finished, *([run] for run in group.runs if not run.is_finished)):
            if (line := curve(runs, metric.name)) is not None:
                lines.append((number, runs, line))
    if not lines:
        return None
    shades, scale = colours(found), metric.scale
    values = np.concatenate([line.mean[np.isfinite(line.mean)] for _, _, line in lines])
    low, high = (float(values.min()), float(values.max())) if len(values) else (1.0, 1.0)
    logarithmic = not metric.is_share and low > 0 and high / low > 20
    is_brief = all((run.total("seconds") or 0) < BRIEF for run in found.runs)

    def panel(axis: Axes, x: str) -> None:
        for number, runs, line in lines:
            places = along(runs, x, line.steps)
            if places is None:
                continue
            if x == "seconds" and is_brief:
                places = places * 60
            look: dict[str, Any] = {"color": shades[number], "gid": f"curve-{number}"}
            if not runs[0].is_finished:
                axis.plot(places, line.mean * scale, linewidth=1, linestyle=(0, (4, 2)), **look)
                last = np.flatnonzero(np.isfinite(line.mean))[-1:]
                if runs[0].status != "running" and len(last):
                    axis.plot(places[last], line.mean[last] * scale, "x", **look)
                continue
            if len(runs) > 1:
                axis.fill_between(places, line.low * scale, line.high * scale, alpha=0.18, linewidth=0, **look)
            if shades[number] == OTHERS:
                look |= {"zorder": 2}
            else:
                look |= {"zorder": 3, "label": found.groups[number].label}
            marker = "o" if len(places) == 1 else None
            axis.plot(places, line.mean * scale, marker=marker, linewidth=1.6, **look)
        if logarithmic:
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter(PLAIN)
            axis.yaxis.set_minor_formatter(BETWEEN if high / low < 1000 else NullFormatter())
        if metric.is_share:
            axis.set_ylim(-2, 102)
        elif room := limits(low, high):
            axis.set_ylim(*room)
        unit = UNITS.get(metric.name.rpartition("/")[2], metric.name)
        axis.set(xlabel=AXES[x].replace("minutes", "seconds" if is_brief else "minutes"), ylabel=unit)
        if 0 < axis.dataLim.x1 < np.inf:
            axis.set_xlim(0, 1.04 * axis.dataLim.x1)  # from the beginning, also of a single point
        if x == "tokens":
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))

    words = []
    if any(len(group.finished) > 1 for group in found.groups):
        words.append("Lines are means over seeds, bands reach from the lowest to the highest seed.")
    if (averaged := max(line.averaged for _, _, line in lines)) > 1:
        words.append(f"A point is the mean of up to {averaged} logged values, so single spikes are smoothed.")
    if not all(runs[0].is_finished for _, runs, _ in lines):
        words.append("Dashed: single runs that did not finish (× where they ended).")
    if len(found.groups) > len(COLOURS) and OTHERS in shades:
        words.append(f"In colour: the best {HIGHLIGHTS} of {len(found.groups)} by final {found.metric.name}.")
    return Curves(panel, " ".join(words))


# ---- effects


def _effect(found: Comparison, key: Key, folder: Path) -> Picture | None:
    """Draw the final value at each value of one key. Lines join settings that are alike in all other keys."""
    effect = compare.effect(found, key)
    if effect is None:
        return None
    metric, scale, lines = found.metric, found.metric.scale, effect.lines
    estimates = [estimate for line in lines.values() for _, estimate in line]
    ends = [end * scale for found in estimates for end in (found.mean, found.low, found.high) if end is not None]
    room = limits(min(ends), max(ends), metric.is_share)

    def panel(axis: Axes) -> None:
        place = _places(axis.xaxis, effect.values)
        for line in lines.values():
            x, heights = [place[value] for value, _ in line], [_height(estimate, scale) for _, estimate in line]
            if len(lines) > 1:
                look: dict[str, Any] = {"color": OTHERS, "linewidth": 0.9, "markersize": 3}
                if not effect.joined:
                    look = {"color": COLOURS[0], "linewidth": 0, "markersize": 5}
                axis.plot(x, heights, marker="o", alpha=0.8, **look)
                continue
            axis.plot(x, heights, color=COLOURS[0], linewidth=1.2, marker="o", markersize=6)
            for at, (_, found) in zip(x, line, strict=True):
                if found.low is not None and found.high is not None:
                    axis.plot([at, at], [found.low * scale, found.high * scale], color=COLOURS[0], linewidth=2)
        if effect.joined and len(lines) > 1 and effect.whole:
            means = np.mean([[_height(estimate, scale) for _, estimate in line] for line in lines.values()], axis=0)
            axis.plot([place[value] for value in effect.values], means, color=COLOURS[0], linewidth=2.2, marker="o")
        if room:
            axis.set_ylim(*room)
        axis.set(xlabel=key.name, ylabel=metric.label)

    return _picture(f"effect {key.name}", f"Effect of {key.name}", effect.caption, [panel], folder)


def _height(found: Estimate, scale: int) -> float:
    assert found.mean is not None, "an effect is of what has a value"
    return found.mean * scale


def _pair(found: Comparison, one: Key, other: Key, folder: Path) -> Picture | None:
    """Draw a heat map of two keys where most of their combinations were run, otherwise the points that were."""
    metric, scale = found.metric, found.metric.scale
    cells: dict[tuple[Any, Any], list[float]] = {}
    for group in found.groups:
        if (mean := found.final(group, metric).mean) is not None:
            cells.setdefault((group.values[one.name], group.values[other.name]), []).append(mean * scale)
    across, upward = (sorted({place[n] for place in cells}, key=order) for n in range(2))
    if len(across) < 2 or len(upward) < 2:
        return None
    means = {place: float(np.mean(values)) for place, values in cells.items()}
    room = limits(min(means.values()), max(means.values()))
    low, high = ((0, 100) if metric.is_share else room) if room else (None, None)
    colormap = matplotlib.colormaps["viridis" if metric.sign > 0 else "viridis_r"]
    filled = len(cells) >= 0.5 * len(across) * len(upward) and max(len(across), len(upward)) <= 24

    def heat(axis: Axes) -> Any:
        grid = np.full((len(upward), len(across)), np.nan)
        for (x, y), mean in means.items():
            grid[upward.index(y), across.index(x)] = mean
        axis.grid(False)
        image = axis.imshow(grid, cmap=colormap, origin="lower", aspect="auto", vmin=low, vmax=high)
        for (row, column), value in np.ndenumerate(grid):
            words, ink = MISSING, INK
            if np.isfinite(value):
                red, green, blue, _ = colormap(image.norm(value))
                words = show_value(value / scale, metric).removesuffix("%")
                ink = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
            size = 8 if len(across) <= 8 else 5
            axis.text(column, row, words, ha="center", va="center", fontsize=size, color=ink)
        _name_ticks(axis.xaxis, range(len(across)), across)
        axis.set_yticks(range(len(upward)), [show(value) for value in upward])
        return image

    def scatter(axis: Axes) -> Any:
        x_of, y_of = _places(axis.xaxis, across), _places(axis.yaxis, upward)
        x, y = [x_of[x] for x, _ in means], [y_of[y] for _, y in means]
        return axis.scatter(x, y, c=list(means.values()), cmap=colormap, vmin=low, vmax=high)

    def panel(axis: Axes) -> None:
        drawn = heat(axis) if filled else scatter(axis)
        axis.figure.colorbar(drawn, ax=axis, label=metric.label).outline.set_visible(False)
        axis.set(xlabel=one.name, ylabel=other.name)

    averaged = max(map(len, cells.values()))
    caption = "Means over seeds" + (f" and over up to {averaged} settings of the other keys." if averaged > 1 else ".")
    return _picture(f"pair {one.name} {other.name}", f"{one.name} and {other.name}", caption, [panel], folder)


# ---- axes


def _places(axis: XAxis | YAxis, values: list[Any]) -> dict[Any, float]:
    """Place values on an axis: numbers to scale, a logarithmic one where they span a lot, and names side by side."""
    if not all(map(_is_number, values)):
        _name_ticks(axis, range(len(values)), values)
        return {value: place for place, value in enumerate(values)}
    if min(values) > 0 and max(values) / min(values) >= 8:
        axis.axes.set(**{f"{axis.axis_name}scale": "log"})
        axis.set_major_formatter(PLAIN)
        axis.set_minor_formatter(NullFormatter())
    if len(values) <= 8:
        _name_ticks(axis, values, values)
        axis.set_ticks([], minor=True)
    return {value: value for value in values}


def _name_ticks(axis: XAxis | YAxis, places: Iterable[float], values: list[Any]) -> None:
    names = [show(value) for value in values]
    axis.set_ticks(list(places), names)
    if axis.axis_name == "x" and sum(map(len, names)) > 40:
        axis.set_tick_params(rotation=30 if len(names) < 12 else 90, labelsize=8)


def _is_number(value: Any) -> bool:
    return order(value)[0] == 0


# ---- files


LETTERS = 16  # of a legend, in an inch


def _picture(
    name: str, title: str, caption: str, panels: list[Callable[[Axes], None]], folder: Path, legend: bool = False
) -> Picture:
    """Draw the panels side by side as a PNG, and each of them as an SVG."""
    stem = re.sub(r"[^A-Za-z0-9.]+", "_", name)
    figure, axes = new_figure(5.2 * len(panels) if len(panels) > 1 else 6, 3.8, columns=len(panels))
    for axis, panel in zip(axes, panels, strict=True):
        panel(axis)
    figure.suptitle(title)
    handles, labels = axes[0].get_legend_handles_labels()
    if legend and len(handles) > 1:
        fits = int(figure.get_figwidth() * LETTERS)  # in a row
        labels = [textwrap.fill(label, fits - 8) for label in labels]
        columns = min(3, max(1, fits // (8 + max(len(line) for label in labels for line in label.splitlines()))))
        rows = -(-sum(label.count("\n") + 1 for label in labels) // columns)
        figure.set_size_inches(figure.get_figwidth(), 3.8 + 0.2 * rows)
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)
    png = save_figure(figure, folder / f"{stem}.png")
    svgs = []
    for number, panel in enumerate(panels):
        figure, (axis,) = new_figure(4.6, 3.3) if len(panels) > 1 else new_figure(5.4, 3.6)
        panel(axis)
        svgs.append(_svg(figure, f"{stem}-{number}"))
    return Picture(title, caption, svgs, png)


def _svg(figure: Figure, prefix: str) -> str:
    """Make an SVG element for a page: its colours follow the page, its names are its own, and it points nowhere."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = text.replace(INK, "var(--ink)").replace(GRID, "var(--line)")
    text = re.sub(r'<g id="(curve-\d+)">', r'<g class="curve \1">', text)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{prefix}-", text)
    return re.sub(r' width="[\d.]+pt" height="[\d.]+pt"', "", text, count=1)
