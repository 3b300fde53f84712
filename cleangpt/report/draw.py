"""Pictures of a comparison: curves with seeds as bands, the effect of each key, and of two keys together.

Each picture is made twice: as a PNG for a paper or a chat, and as SVG that takes its colours from the page around.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.ticker import EngFormatter, FuncFormatter, NullFormatter

from cleangpt.report.compare import Comparison, Metric
from cleangpt.report.curves import AXES, along, curve
from cleangpt.report.differences import MISSING, Key, order, show
from cleangpt.report.words import show_value
from cleangpt.watch.plots import limits, new_figure, save_figure

COLOURS = ("#3b7fcc", "#d9701e", "#2a9d6f", "#b652a4", "#cf4444", "#7d6fd6", "#a08432", "#1f9fb5", "#dd7f9f", "#79838f")
HIGHLIGHTS = 6  # of more groups than there are colours, so many of the best have one
OTHERS = "#9aa1ab"
INK, GRID = "#1f2429", "#e6e8eb"  # in SVG these become the page's own
STYLE = {
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


@dataclass
class Picture:
    name: str  # of its file
    title: str
    caption: str
    svgs: list[str]
    png: Path


def draw(found: Comparison, folder: Path) -> list[Picture]:
    with matplotlib.rc_context(STYLE):
        names = ["val/loss", "val/accuracy", *(metric.name for metric in found.metrics), "train/loss"]
        names = [name for name in dict.fromkeys([*names, *found.drawn]) if not name.startswith("test/")]
        pictures = [_curves(found, found.metric_of(name), folder) for name in names]
        pictures += [_effect(found, key, folder) for key in found.keys[:KEYS_AT_MOST]]
        pairs = list(combinations(found.keys[:KEYS_AT_MOST], 2))[:PAIRS_AT_MOST]
        pictures += [_pair(found, one, other, folder) for one, other in pairs]
    return [picture for picture in pictures if picture is not None]


def colours(found: Comparison) -> dict[int, str]:
    """Choose a colour by id of a group: in the order of the one number that was swept, or as many as can be told."""
    groups = found.groups
    one_key = len(found.keys) == 1 and len(groups) > 4
    if one_key and all(_is_number(group.values[found.keys[0].name]) for group in groups):
        shades = matplotlib.colormaps["plasma"](np.linspace(0.15, 0.85, len(groups)))
        return {id(group): matplotlib.colors.to_hex(shade) for group, shade in zip(groups, shades, strict=True)}
    if len(groups) <= len(COLOURS):
        return {id(group): colour for group, colour in zip(groups, COLOURS, strict=False)}
    best = {id(group): colour for group, colour in zip(found.ranking()[:HIGHLIGHTS], COLOURS, strict=False)}
    return {id(group): best.get(id(group), OTHERS) for group in groups}


# ---- curves


def _curves(found: Comparison, metric: Metric, folder: Path) -> Picture | None:
    lines = {id(group): curve(group.finished, metric.name) for group in found.groups}
    alone = [(group, run, curve([run], metric.name)) for group in found.groups for run in group.runs]
    alone = [(group, run, line) for group, run, line in alone if line is not None and not run.is_finished]
    drawn = [line for line in [*lines.values(), *(line for _, _, line in alone)] if line is not None]
    if not drawn:
        return None
    colour, scale = colours(found), 100 if metric.is_share else 1
    values = np.concatenate([line.mean[np.isfinite(line.mean)] for line in drawn])
    low, high = (values.min(), values.max()) if len(values) else (1, 1)
    logarithmic = not metric.is_share and low > 0 and high / low > 20

    is_brief = all((run.total("seconds") or 0) < BRIEF for run in found.runs)

    def reached(runs: list[Any], x: str, steps: Any) -> Any:
        places = along(runs, x, steps)
        return places * 60 if x == "seconds" and is_brief and places is not None else places

    def panel(axis: Any, x: str) -> None:
        for number, group in enumerate(found.groups):
            look = {"color": colour[id(group)], "gid": f"curve-{number}"}
            line = lines[id(group)]
            if line is not None and (places := reached(group.finished, x, line.steps)) is not None:
                if len(group.finished) > 1:
                    axis.fill_between(places, line.low * scale, line.high * scale, alpha=0.18, linewidth=0, **look)
                look_of_mean = {"linewidth": 1.6, "zorder": 2 if colour[id(group)] == OTHERS else 3, **look}
                marker = "o" if len(places) == 1 else None
                axis.plot(places, line.mean * scale, marker=marker, label=group.label, **look_of_mean)
            for owner, run, single in alone:
                if owner is group and (places := reached([run], x, single.steps)) is not None:
                    axis.plot(places, single.mean * scale, linewidth=1, linestyle=(0, (4, 2)), **look)
                    last = np.flatnonzero(np.isfinite(single.mean))[-1:]
                    if run.status != "unfinished" and len(last):
                        axis.plot(places[last], single.mean[last] * scale, "x", **look)
        if logarithmic:
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter(PLAIN)
            axis.yaxis.set_minor_formatter(BETWEEN if high / low < 1000 else NullFormatter())
        if metric.is_share:
            axis.set_ylim(-2, 102)
        elif room := limits(low, high):
            axis.set_ylim(*room)
        axis.set(xlabel=AXES[x].replace("minutes", "seconds" if is_brief else "minutes"), ylabel=_unit(metric))
        if 0 < axis.dataLim.x1 < np.inf:
            axis.set_xlim(0, 1.04 * axis.dataLim.x1)  # from the beginning, also of a single point
        if x == "tokens":
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))

    words = []
    if any(len(group.finished) > 1 for group in found.groups):
        words.append("Lines are means over seeds, bands reach from the lowest to the highest seed.")
    averaged = max(line.averaged for line in drawn)
    if averaged > 1:
        words.append(f"A point is the mean of up to {averaged} logged values, so single spikes are smoothed.")
    if alone:
        words.append("Dashed: single runs that did not finish (× where they ended).")
    if len(found.groups) > len(COLOURS) and OTHERS in colour.values():
        words.append(f"In colour: the best {HIGHLIGHTS} of {len(found.groups)} by final {found.metric.name}.")
    return _picture(metric.name, metric.name, " ".join(words), [lambda a, x=x: panel(a, x) for x in AXES], folder, True)


# ---- effects


def _effect(found: Comparison, key: Key, folder: Path) -> Picture | None:
    """Draw the final value at each value of one key. Lines join settings that are alike in all other keys."""
    metric = found.metric
    scored = [(group, found.final(group, metric)) for group in found.groups]
    scored = [(group, estimate) for group, estimate in scored if estimate.mean is not None]
    values = sorted({group.values[key.name]: None for group, _ in scored}, key=order)
    if len(values) < 2:
        return None
    scale = 100 if metric.is_share else 1
    others = [other.name for other in found.keys if other is not key]
    alike: dict[tuple[Any, ...], list[tuple[Any, Any]]] = {}
    for group, estimate in scored:
        alike.setdefault(tuple(group.values[name] for name in others), []).append((group.values[key.name], estimate))
    whole = all(len(pairs) == len(values) for pairs in alike.values())
    ends = [end * scale for _, found in scored for end in (found.mean, found.low, found.high) if end is not None]
    room = limits(min(ends), max(ends), metric.is_share)
    joined = len(scored) >= 1.5 * len(alike)  # a random search has hardly two settings that differ in one key

    def panel(axis: Any) -> None:
        place = _places(axis.xaxis, values)
        for pairs in alike.values():
            pairs = sorted(pairs, key=lambda pair: order(pair[0]))
            x, heights = [place[value] for value, _ in pairs], [estimate.mean * scale for _, estimate in pairs]
            if len(alike) > 1:
                line = {"color": OTHERS, "linewidth": 0.9} if joined else {"color": COLOURS[0], "linewidth": 0}
                axis.plot(x, heights, marker="o", markersize=3 if joined else 5, alpha=0.8, **line)
            else:
                axis.plot(x, heights, color=COLOURS[0], linewidth=1.2, marker="o", markersize=6)
                known = [(at, estimate) for at, (_, estimate) in zip(x, pairs, strict=True) if estimate.sd is not None]
                for at, estimate in known:
                    axis.plot([at, at], [estimate.low * scale, estimate.high * scale], color=COLOURS[0], linewidth=2)
        if joined and len(alike) > 1 and whole:
            means = [np.mean([dict(pairs)[value].mean for pairs in alike.values()]) * scale for value in values]
            axis.plot([place[value] for value in values], means, color=COLOURS[0], linewidth=2.2, marker="o")
        if room:
            axis.set_ylim(*room)
        axis.set(xlabel=key.name, ylabel=f"final {metric.name}{' (%)' if metric.is_share else ''}")

    if len(alike) == 1:
        caption = "Points are means over seeds, bars their 95% intervals."
    elif not joined:
        caption = "A point is a setting, which differs from the others in other keys too."
    elif whole:
        caption = "Grey lines join settings that are alike in all other keys; blue is their mean."
    else:
        caption = (
            "Grey lines join settings that are alike in all other keys. "
            "Not every setting was run at every value, so there is no fair mean."
        )
    return _picture(f"effect {key.name}", f"Effect of {key.name}", caption, [panel], folder)


def _pair(found: Comparison, one: Key, other: Key, folder: Path) -> Picture | None:
    """Draw a heat map of two keys where most of their combinations were run, otherwise the points that were."""
    metric = found.metric
    scale = 100 if metric.is_share else 1
    cells: dict[tuple[Any, Any], list[float]] = {}
    for group in found.groups:
        mean = found.final(group, metric).mean
        if mean is not None:
            cells.setdefault((group.values[one.name], group.values[other.name]), []).append(mean * scale)
    across = sorted({x for x, _ in cells}, key=order)
    upward = sorted({y for _, y in cells}, key=order)
    if len(across) < 2 or len(upward) < 2:
        return None
    label = f"final {metric.name}{' (%)' if metric.is_share else ''}"
    colormap = matplotlib.colormaps["viridis" if metric.sign > 0 else "viridis_r"]
    means = [np.mean(found) for found in cells.values()]
    room = limits(min(means), max(means))
    low, high = ((0, 100) if metric.is_share else room) if room else (None, None)
    filled = len(cells) >= 0.5 * len(across) * len(upward) and max(len(across), len(upward)) <= 24

    def heat(axis: Any) -> None:
        grid = np.full((len(upward), len(across)), np.nan)
        for (x, y), means in cells.items():
            grid[upward.index(y), across.index(x)] = np.mean(means)
        axis.grid(False)
        image = axis.imshow(grid, cmap=colormap, origin="lower", aspect="auto", vmin=low, vmax=high)
        bar = axis.figure.colorbar(image, ax=axis, label=label)
        bar.outline.set_visible(False)
        size = 8 if len(across) <= 8 else 5
        for (row, column), value in np.ndenumerate(grid):
            red, green, blue, _ = colormap(image.norm(value)) if np.isfinite(value) else (1, 1, 1, 1)
            ink = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
            words = show_value(value / scale, metric).removesuffix("%") if np.isfinite(value) else MISSING
            axis.text(
                column, row, words, ha="center", va="center", fontsize=size, color=ink if words != MISSING else INK
            )
        _name_ticks(axis.xaxis, range(len(across)), across)
        axis.set_yticks(range(len(upward)), [show(value) for value in upward])
        axis.set(xlabel=one.name, ylabel=other.name)

    def scatter(axis: Any) -> None:
        x_of, y_of = _places(axis.xaxis, across), _places(axis.yaxis, upward)
        points = [(x_of[x], y_of[y], np.mean(means)) for (x, y), means in cells.items()]
        x, y, colour = zip(*points, strict=True)
        drawn = axis.scatter(x, y, c=colour, cmap=colormap, vmin=low, vmax=high)
        axis.figure.colorbar(drawn, ax=axis, label=label).outline.set_visible(False)
        axis.set(xlabel=one.name, ylabel=other.name)

    averaged = max(len(means) for means in cells.values())
    caption = "Means over seeds" + (f" and over up to {averaged} settings of the other keys." if averaged > 1 else ".")
    title = f"{one.name} and {other.name}"
    return _picture(f"pair {one.name} {other.name}", title, caption, [heat if filled else scatter], folder)


# ---- axes


def _places(axis: Any, values: list[Any]) -> dict[Any, float]:
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


def _name_ticks(axis: Any, places: Any, values: list[Any]) -> None:
    names = [show(value) for value in values]
    axis.set_ticks(list(places), names)
    if axis.axis_name == "x" and sum(map(len, names)) > 40:
        axis.set_tick_params(rotation=30 if len(names) < 12 else 90, labelsize=8)


def _unit(metric: Metric) -> str:
    units = {"loss": "nats per token", "accuracy": "%", "bits_per_byte": "bits per byte"}
    return units.get(metric.name.rpartition("/")[2], metric.name)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# ---- files


def _picture(
    name: str, title: str, caption: str, panels: list[Callable[[Any], None]], folder: Path, legend: bool = False
) -> Picture:
    stem = re.sub(r"[^A-Za-z0-9.]+", "_", name)
    figure, axes = new_figure(5.2 * len(panels) if len(panels) > 1 else 6, 3.8, columns=len(panels))
    for axis, panel in zip(axes, panels, strict=True):
        panel(axis)
    figure.suptitle(title)
    handles, labels = axes[0].get_legend_handles_labels()
    if legend and len(handles) > 1:
        shown = [pair for pair in zip(handles, labels, strict=True) if pair[0].get_color() != OTHERS]
        rows = -(-len(shown) // 3)
        figure.set_size_inches(figure.get_figwidth(), 3.8 + 0.2 * rows)
        figure.legend(*zip(*shown, strict=True), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    png = save_figure(figure, folder / f"{stem}.png")
    svgs = []
    for number, panel in enumerate(panels):
        figure, (axis,) = new_figure(4.6, 3.3) if len(panels) > 1 else new_figure(5.4, 3.6)
        panel(axis)
        svgs.append(_svg(figure, f"{stem}-{number}"))
    return Picture(stem, title, caption, svgs, png)


def _svg(figure: Any, prefix: str) -> str:
    """Make an SVG element for a page: its colours follow the page, its names are its own, and it points nowhere."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = text.replace(INK, "var(--ink)").replace(GRID, "var(--line)")
    text = re.sub(r'<g id="(curve-\d+)">', r'<g class="curve \1">', text)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{prefix}-", text)
    return re.sub(r' width="[\d.]+pt" height="[\d.]+pt"', "", text, count=1)
