"""A score of problems as tables and pictures."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cleangpt.tasks.contract import TaskWithAnswers
from cleangpt.terminal.narrow import Table

MOST_ROWS = 25  # of a table by two properties


def table(title: str, names: list[str], rows: list[dict[str, Any]]) -> Table:
    made = Table(title=title, title_justify="left", title_style="bold")
    for name in [*names, "problems", "correct", "exact match", "95% interval"]:
        made.add_column(name, justify="right", overflow="fold", no_wrap=name not in names)
    for row in rows:
        if row["problems"]:
            low, high = row["interval"]
            interval = f"{low * 100:.3f} to {high:.3%}"
            cells = (f"{row['problems']:,}", f"{row['correct']:,}", f"{row['accuracy']:.3%}", interval)
            made.add_row(*(str(row[name]) for name in names), *cells)
    return made


def _asked(found: dict[str, Any]) -> list[Table]:
    """Lay out the chances of right answers that are drawn."""
    among = f", among the {found['top_k']} likeliest tokens" if found["top_k"] else ""
    made = Table(title=f"Answers drawn at temperature {found['temperature']:g}{among}", title_justify="left")
    for name in ("tries", "chance of a right one", "drawn to compare", "of them right", "as computed"):
        made.add_column(name, justify="right")
    drawn = found["drawn"]
    for tries in sorted({1, found["samples"]}):
        compared = ["", "", ""]
        if tries == 1:
            compared = [f"{drawn['answers']:,}", f"{drawn['right']:.2%}", f"{drawn['computed']:.2%}"]
        made.add_row(str(tries), f"{found[f'pass@{tries}']:.3%}", *compared)
    return [made]


def _cut(score: dict[str, Any]) -> Iterator[tuple[str, list[str], list[dict[str, Any]]]]:
    """Yield the slices of a score: their name, the keys that they are cut by, and their rows."""
    for name, rows in score.items():
        if name.startswith("by_") and name != "by_position" and rows:
            keys = list(rows[0])
            yield name.removeprefix("by_"), keys[: keys.index("problems")], rows


def tables(task: TaskWithAnswers, score: dict[str, Any]) -> list[Table]:
    """Lay out a score: the whole, by one property, by token of the answer, by two properties, wrong answers."""
    words = task.words
    whole = "all" if score["complete"] else f"a {words.get('sample', 'sample')} of the"
    rows = [{"of": "all", **{k: score[k] for k in ("problems", "correct", "accuracy", "interval")}}]
    leak = score.get("leak")
    if leak and leak["mirrored_in_training"] and score["split"] != "train":
        rows += [{"of": words.get(name, name), **leak[name]} for name in ("leaked", "clean")]
    if "answer_only" in score:
        rows.append({"of": "the conclusion alone", **score["answer_only"]})
    rows += [{"of": name, **inner} for name, inner in score.get("sets", {}).items()]
    universe = f"{score['universe']:,}" if score["universe"] < 10**12 else f"{score['universe']:.3g}"
    title = f"{task.title}, {whole} {universe} problems of the {score['split']} split"
    if score["split"] in task.sets:
        title = f"The set {score['split']}: {whole} {universe} problems"
    asked = _asked(score["asked"]) if "asked" in score else []
    by_one, by_two = [], []
    for name, keys, cut in _cut(score):
        made = table(words.get(f"by_{name}", f"By {name.replace('_', ' ')}"), keys, cut)
        if len(keys) == 1:
            by_one.append(made)
        elif len(cut) <= MOST_ROWS:
            by_two.append(made)
    by_position = table(f"By token of the answer, {score['position_kind']}", ["position"], score["by_position"])
    found = [table(title, ["of"], rows), *asked, *by_one, by_position, *by_two]
    if first := {name: count for name, count in score["first_errors"].items() if count}:
        errors = Table(title="Where wrong answers go wrong first", title_justify="left", title_style="bold")
        for name in ("position", "problems"):
            errors.add_column(name, justify="right")
        for name, count in first.items():
            errors.add_row(name, f"{count:,}")
        found.append(errors)
    if near := score.get("least_margin"):
        least = Table(
            title="The right answer that was nearest to a wrong one, in logits",
            title_justify="left",
            title_style="bold",
        )
        for name in ("question", "right", "ahead"):
            least.add_column(name, justify="right")
        least.add_row(near["question"], near["right"], f"{near['logits']:.3f}")
        found.append(least)
    if score["wrong"]:
        wrong = Table(title="The first wrong answers", title_justify="left", title_style="bold")
        for name in ("question", "right", "given"):
            wrong.add_column(name, justify="right", overflow="fold")
        for row in score["wrong"]:
            wrong.add_row(row["question"], row["right"], repr(row["given"]).strip("'"))
        found.append(wrong)
    for inner in score.get("sets", {}).values():
        found += tables(task, inner)
    return found


def plots(task: TaskWithAnswers, score: dict[str, Any], folder: Path, name: str) -> list[Path]:
    """Draw each cut by two properties as a picture, and all by a single one together."""
    from cleangpt.watch.plots import heat_map, points

    words, found = task.words, []
    panels: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for cut, keys, rows in _cut(score):
        labels = [words.get(key, key) for key in keys]
        if len(keys) == 1:
            end = task.trained_to.get(keys[0])
            beyond = end is not None and rows[-1][keys[0]] > end
            label = f"{labels[0]}, trained to {end}" if beyond else labels[0]
            panels[label] = [(str(row[keys[0]]), row) for row in rows]
        else:
            path = folder / f"{name}_{words.get(f'{cut}.png', f'{cut}.png')}"
            cells = {(row[keys[0]], row[keys[1]]): row["accuracy"] for row in rows}
            ends = [task.trained_to.get(key) for key in keys]
            found.append(heat_map(path, cells, labels[0], labels[1], "Exact match", (ends[0], ends[1])))
    label = f"token of the answer,\n{score['position_kind']}"
    panels[label] = [(row["position"], row) for row in score["by_position"]]
    found.append(points(folder / f"{name}_slices.png", panels, "Accuracy, with 95% intervals"))
    for inner_name, inner in score.get("sets", {}).items():
        found += plots(task, inner, folder, f"{name}_{inner_name}")
    return found
