"""Draw the pictures of the studies, and say their numbers, from the runs that their commands left.

python docs/study_pictures.py    # those whose runs are in outputs/sweeps; the others stay as they are
"""

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import cleangpt  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
SWEEPS = ROOT / "outputs" / "sweeps"
COLOURS = ("#3f72af", "#d9711c", "#4f9d69", "#a8518a", "#7a7f87", "#c9a227", "#5b4b8a", "#c44e52")
SHARE = {"val/accuracy": 100.0}


def finished(*folders: str) -> list[cleangpt.Run]:
    paths = [SWEEPS / folder for folder in folders if (SWEEPS / folder).is_dir()]
    return [run for path in paths for run in cleangpt.runs(str(path)) if run.status == "completed"]


def by(runs: Iterable[cleangpt.Run], key: Callable[[cleangpt.Run], Any]) -> dict[Any, list[cleangpt.Run]]:
    found = defaultdict(list)
    for run in runs:
        found[key(run)].append(run)
    return dict(sorted(found.items()))


def column(run: cleangpt.Run, name: str) -> tuple[list[int], list[float]]:
    rows = [row for row in run.rows if row.get(name) is not None]
    return [row["step"] for row in rows], [SHARE.get(name.replace("train/", "val/"), 1.0) * row[name] for row in rows]


def arrival(run: cleangpt.Run, name: str, bound: float) -> int | None:
    """The first step at which a column has arrived at a bound."""
    return next((row["step"] for row in run.rows if (row.get(name) or 0) >= bound), None)


def spread(values: list[float | int | None], digits: int = 0) -> str:
    """Write the median and the range; who never arrived is counted apart."""
    there = [value for value in values if value is not None]
    missing = f", {len(values) - len(there)} of {len(values)} never" if len(there) < len(values) else ""
    if not there:
        return f"none of {len(values)}"
    low, mid, high = (f"{value:,.{digits}f}" for value in (min(there), median(there), max(there)))
    return f"{mid} ({low} to {high}{missing})"


# ---- reversed answers

ORDERS = {False: ("plain", COLOURS[0]), True: ("reversed", COLOURS[1])}


def backwards() -> None:
    runs = {
        title: finished(f"backwards/{name}") for title, name in (("all sums", "all"), ("sums without carries", "none"))
    }
    if not all(runs.values()):
        return
    figure, axes = _figure(2, sharey=True)
    for axis, (title, found) in zip(axes, runs.items(), strict=True):
        for order, same in by(found, lambda run: run.config.dataset.reversed).items():
            name, colour = ORDERS[order]
            for number, run in enumerate(same):
                axis.plot(
                    *column(run, "val/accuracy"), color=colour, lw=1.3, alpha=0.8, label=name if not number else None
                )
            print(
                f"backwards, {title}, {name}: 99% at step", spread([arrival(run, "val/accuracy", 0.99) for run in same])
            )
        axis.set(title=title, xlabel="optimizer step", ylim=(-2, 102))
    axes[0].set_ylabel("exact match on validation, %")
    axes[0].legend(frameon=False)
    _save(figure, "backwards.png")
    _digits(runs["all sums"])


def _digits(runs: list[cleangpt.Run]) -> None:
    """Draw which digit is right when, given the right tokens before it: the median over the seeds."""
    figure, axes = _figure(2, height=2.7)
    for axis, (order, same) in zip(axes, by(runs, lambda run: run.config.dataset.reversed).items(), strict=True):
        tables = [_positions(run) for run in same]
        steps = sorted(set.intersection(*(set(table) for table in tables)))
        places = list(tables[0][steps[0]])[:-1]  # but the end
        shares = [[100 * median(table[step][place] for table in tables) for step in steps] for place in places]
        picture = axis.pcolormesh(
            range(len(steps) + 1), range(len(places) + 1), shares, vmin=0, vmax=100, cmap="viridis"
        )
        axis.set_xticks([n + 0.5 for n in range(0, len(steps), 2)], [str(step) for step in steps[::2]], rotation=60)
        axis.set_yticks([n + 0.5 for n in range(len(places))], [_power(place) for place in places])
        axis.set(title=ORDERS[order][0], xlabel="optimizer step")
        axis.invert_yaxis()
    axes[0].set_ylabel("digits, in the order of writing")
    figure.colorbar(picture, ax=axes, label="right, given those before, %")
    _save(figure, "backwards_digits.png")


def _power(place: str) -> str:
    return {"10^0": "units", "10^1": "tens", "10^2": "hundreds", "10^3": "thousands"}[place]


def _positions(run: cleangpt.Run) -> dict[int, dict[str, float]]:
    """Score every snapshot, once: step -> place -> share of right digits."""
    path = run.path / "positions.json"
    if not path.exists():
        found = {}
        for snapshot in sorted((run.path / "snapshots").glob("step_*")):
            score = cleangpt.Run.load(snapshot).score(limit=2000)
            step = int(snapshot.name.removeprefix("step_"))
            found[step] = {row["position"]: row["accuracy"] for row in score["by_position"]}
        path.write_text(json.dumps(found), encoding="utf-8")
    return {int(step): shares for step, shares in json.loads(path.read_text(encoding="utf-8")).items()}


# ---- grokking


def grokking() -> None:
    shares = by(finished("grokking/shares"), lambda run: round(100 * (0.9 - run.config.dataset.test_fraction)))
    decays = by(finished("grokking/decay"), lambda run: run.config.optimizer.weight_decay)
    if not (shares and decays):
        return
    of_shares = {f"{share}% of the pairs": same for share, same in shares.items()}
    of_decays = {f"weight decay {decay:g}": same for decay, same in decays.items()}
    for name, same in (of_shares | of_decays).items():
        known, half, understood = (
            spread([arrival(run, name, bound) for run in same])
            for name, bound in (("train/accuracy", 0.99), ("val/accuracy", 0.5), ("val/accuracy", 0.99))
        )
        last = spread([100 * run.summary["val/accuracy"] for run in same], 1)
        print(
            f"grokking, {name}, {len(same)} seeds: training 99% at step {known}; validation 50% at {half}; "
            f"99% at {understood}; at the end {last}%"
        )
    figure, axes = _figure(3)
    _learned(axes[0], of_shares)
    _learned(axes[1], of_decays)
    for colour, (name, same) in zip(COLOURS, of_decays.items(), strict=False):
        for run in same:
            axes[2].plot(*_norms(run), color=colour, lw=1.1, label=name if run is same[0] else None)
    axes[0].set(title="share of the pairs, weight decay 1", ylabel="exact match, %")
    axes[1].set(title="weight decay, 40% of the pairs")
    axes[2].set(title="norm of all weights, 40% of the pairs", xlabel="optimizer step", xscale="log")
    axes[2].legend(frameon=False, fontsize=8)
    _save(figure, "grokking.png")


def _norms(run: cleangpt.Run) -> tuple[list[int], list[float]]:
    names = {name for row in run.rows for name in row if name.startswith("weight_norm/")}
    rows = [row for row in run.rows if names <= set(row)]
    return [row["step"] for row in rows], [sum(row[name] ** 2 for name in names) ** 0.5 for row in rows]


def _learned(axis: Any, groups: dict[str, list[cleangpt.Run]]) -> None:
    for colour, (name, same) in zip(COLOURS, groups.items(), strict=False):
        for run in same:
            axis.plot(*column(run, "train/accuracy"), color=colour, lw=0.9, ls=":")
            axis.plot(*column(run, "val/accuracy"), color=colour, lw=1.2, label=name if run is same[0] else None)
    axis.set(xlabel="optimizer step", xscale="log", ylim=(-2, 102))
    axis.legend(frameon=False, fontsize=8, title="dotted: training", title_fontsize=8)


# ---- schedules

ARMS = {
    "one": "1 micro-step, 1,200 steps",
    "late": "1, then up to 8, 703 steps",
    "growing": "1 growing to 7, 300 steps",
    "four": "4, 300 steps",
    "shrinking": "7 shrinking to 1, 300 steps",
    "eight": "8, 150 steps",
    "flat_growing": "1 growing to 7, constant lr",
    "flat_four": "4, constant lr",
}
RATES = (0.0025, 0.005, 0.01, 0.02)
TASKS = {"adder": "three-digit sums", "shakespeare": "Shakespeare"}


def schedules() -> None:
    figure, axes = _figure(2, height=3.8)
    for axis, (task, title) in zip(axes, TASKS.items(), strict=True):
        for colour, (arm, name) in zip(COLOURS, ARMS.items(), strict=True):
            rates = by(finished(f"schedules/{task}_{arm}"), lambda run: run.config.optimizer.lr)
            if rates:
                _arm(axis, f"{task}, {name}", name, colour, rates)
        axis.set(title=title, xlabel="learning rate", xscale="log", yscale="log" if task == "adder" else "linear")
        axis.set_xticks(RATES, [f"{rate:g}" for rate in RATES], minor=False)
        axis.minorticks_off()
    axes[0].set_ylabel("validation loss at the end")
    axes[1].legend(frameon=False, fontsize=7.5)
    if axes[0].lines and axes[1].lines:
        _save(figure, "schedules.png")
    for task in TASKS:
        for kind in ("constant", "fading"):
            runs = finished(f"schedules/{task}_decay_{kind}")
            for (rate, decay), same in by(runs, _rate_and_decay).items():
                loss = spread([run.summary["val/loss"] for run in same], 4)
                print(f"{task}, lr {rate:g}, weight decay {decay:g} {kind}: loss {loss}, right {_right(same)}")


def _arm(axis: Any, told: str, name: str, colour: str, rates: dict[float, list[cleangpt.Run]]) -> None:
    """Draw the loss of one schedule over learning rates, and say what it reached at its best one."""
    losses = {rate: sorted(run.summary["val/loss"] for run in same) for rate, same in rates.items()}
    best = min(losses, key=lambda rate: median(losses[rate]))
    axis.plot(list(losses), [median(some) for some in losses.values()], "o-", ms=4, lw=1.3, color=colour, label=name)
    low, high = [some[0] for some in losses.values()], [some[-1] for some in losses.values()]
    axis.fill_between(list(losses), low, high, color=colour, alpha=0.1, lw=0)
    tokens = {run.summary["tokens"] for same in rates.values() for run in same}
    print(f"{told}: tokens {tokens}, best lr {best:g}, loss {spread(losses[best], 4)}, right {_right(rates[best])}")
    for rate, some in losses.items():
        print(f"    lr {rate:g}: {spread(some, 4)}, right {_right(rates[rate])}")


def _right(runs: list[cleangpt.Run]) -> str:
    return (
        f"{spread([100 * run.summary['val/accuracy'] for run in runs], 1)}%"
        if "val/accuracy" in runs[0].summary
        else "-"
    )


def _rate_and_decay(run: cleangpt.Run) -> tuple[float, float]:
    return run.config.optimizer.lr, run.config.optimizer.weight_decay


# ---- pictures


def _figure(columns: int, height: float = 3.2, **given: Any) -> tuple[Any, Any]:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, columns, figsize=(4.6 * columns, height), layout="constrained", **given)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="#e6e8eb", lw=0.7)
        axis.set_axisbelow(True)
    return figure, axes


def _save(figure: Any, name: str) -> None:
    from PIL import Image

    path = PICTURES / name
    figure.savefig(path, dpi=110, facecolor="white")
    Image.open(path).convert("RGB").quantize(128, dither=0).save(path, optimize=True)


def draw() -> None:
    import matplotlib

    matplotlib.use("agg")
    backwards()
    grokking()
    schedules()


if __name__ == "__main__":
    draw()
