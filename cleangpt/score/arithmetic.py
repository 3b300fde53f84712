"""The exact score of an arithmetic model, cut into slices, as a dict, as tables and as pictures."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cleangpt.basics.seeds import derive, scramble
from cleangpt.score import held_out
from cleangpt.score.evaluate import ALONE, Judge, Watch, wilson
from cleangpt.tasks.arithmetic import Task
from cleangpt.tasks.arithmetic import digits as decimal

PROOF = 256  # problems on which each scoring compares the fast way with real decoding
FIRST = 20_000  # problems of a first look, where there are more than twice as many
AT_ONCE = 1 << 12  # problems between two looks at how far it is
SHOWN = 20  # wrong answers that are kept in full


class Disagreement(Exception):
    """The fast score is not what real decoding gives: neither can be trusted."""


def score(task: Task, judge: Judge, split: str, limit: int | None, method: str, watch: Watch = ALONE) -> dict[str, Any]:
    began = time.monotonic()
    sample = held_out.problems(task, split, limit)
    right_at = _verdicts(task, judge, sample, method, watch, split)  # (n, answer tokens) True beyond a short answer
    right = right_at.all(axis=1)
    with watch.doing("Comparing with real decoding"):
        proved = None if method == "generate" else prove(task, judge, sample, right)
    slices = Slices(right, sample.weights)
    wrong = _wrong(task, judge, sample, right)
    judge.gather(np.empty(0))  # nobody was asked to stop in the middle of that
    answer, carries = task.answer(sample.a, sample.b)
    leaked = task.belongs("train", sample.b, sample.a) & (sample.a != sample.b).astype(bool)
    lengths = [decimal.lengths(decimal.digits_of(x, task.settings.digits)) for x in (sample.a, sample.b)]
    return {
        "task": task.settings.name,
        "digits": task.settings.digits,
        "split": split,
        "split_by": task.settings.split,
        "method": "generate" if method == "generate" else "forced",
        "complete": sample.complete,
        "universe": sample.universe,
        **slices.of(np.ones(len(right), bool)),
        "forced_equals_decoded": proved,
        "by_carries": slices.by({"carries": (carries > 0).sum(axis=1)}),
        "by_longest_carry_run": slices.by({"run": decimal.longest_run(carries > 0)}),
        "by_operand_lengths": slices.by({"a": lengths[0], "b": lengths[1]}),
        "by_position": _positions(task, right_at, answer, sample.weights),
        "position_kind": "as decoded" if method == "generate" else "given the right answer so far",
        "leak": {
            "mirrored_in_training": int(leaked.sum()),
            "leaked": slices.of(leaked),
            "clean": slices.of(~leaked),
        },
        "wrong": wrong,
        "seconds": time.monotonic() - began,
    }


def _verdicts(task: Task, judge: Judge, sample: held_out.Sample, method: str, watch: Watch, split: str) -> np.ndarray:
    """(n, W) which tokens of the answers are right, on every rank. Of many problems a fixed part comes first, for
    whoever watches."""
    right_at = np.zeros((len(sample.a), answer_width(task)), bool)
    unknown = np.ones(len(sample.a), bool)
    if watch.looks and len(sample.a) > 2 * FIRST:
        few = held_out.stratified(task, split, FIRST)
        found = _divided(task, judge, few, method, watch)
        about = {"of": "all", **Slices(found.all(axis=1), few.weights).of(np.ones(len(few.a), bool))}
        title = f"A first look: {len(few.a):,} of {len(sample.a):,} problems, a stratified sample"
        watch.first(_table(title, ["of"], [about]))
        here, there = held_out.common(few, sample)
        right_at[there], unknown[there] = found[here], False
    rest = held_out.Sample(sample.a[unknown], sample.b[unknown], sample.weights[unknown], sample.universe, False)
    right_at[unknown] = _divided(task, judge, rest, method, watch)
    return right_at


def _divided(task: Task, judge: Judge, sample: held_out.Sample, method: str, watch: Watch) -> np.ndarray:
    """(n, W) of a sample that all processes share."""
    share = judge.share(len(sample.a))
    a, b = sample.a[share.start : share.stop], sample.b[share.start : share.stop]
    with watch.doing("Scoring", len(sample.a), "problems") as progress:
        found = (_generated if method == "generate" else _forced)(
            task, judge, a, b, lambda count: progress.advance(count * judge.world.size)
        )
    return judge.gather(found)


def _unseen(count: int) -> None:
    """Nobody wants to know how many problems were judged."""


def _forced(
    task: Task, judge: Judge, a: np.ndarray, b: np.ndarray, seen: Callable[[int], None] = _unseen
) -> np.ndarray:
    """(n, W) which tokens of the answer are the likeliest ones, given those before."""
    right = np.empty((len(a), answer_width(task)), bool)
    order = np.lexsort((b.astype(float), a.astype(float)))  # so that much of a problem stands in the one before too
    for start in range(0, len(a), AT_ONCE):
        rows = order[start : start + AT_ONCE]
        batch = task.encode(a[rows], b[rows])
        found = (judge.predictions(batch) == batch.targets) | ~batch.answer
        right[rows] = _answer_part(found, batch.answer, answer_width(task))
        seen(len(rows))
    return right


def _generated(
    task: Task, judge: Judge, a: np.ndarray, b: np.ndarray, seen: Callable[[int], None] = _unseen
) -> np.ndarray:
    """(n, W) which tokens of the answer are right when the model writes it alone."""
    right = np.ones((len(a), answer_width(task)), bool)
    for start in range(0, len(a), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        for rows, given, wanted, counts in decode(task, judge, a[part], b[part]):
            right[start + rows] = (given == wanted) | ~counts
        seen(len(a[part]))
    return right


def decode(task: Task, judge: Judge, a: np.ndarray, b: np.ndarray):
    """Real decoding, prompts of one length at a time: yields (rows, given, wanted, counts), the last three (m, W)."""
    if not len(a):
        return
    batch = task.encode(a, b)
    width = answer_width(task)
    tokens = np.concatenate([batch.inputs, batch.targets[:, -1:]], axis=1)
    prompt = batch.answer.argmax(axis=1) + 1  # tokens before the answer
    for length in np.unique(prompt):
        rows = np.flatnonzero(prompt == length)
        wanted = _answer_part(batch.targets[rows], batch.answer[rows], width)
        counts = np.arange(width) < batch.answer[rows].sum(axis=1)[:, None]
        yield rows, judge.decode(tokens[rows, :length], width), wanted, counts


def answer_width(task: Task) -> int:
    """Tokens of the longest answer, its end included."""
    return task.settings.answer_digits + task.settings.end_token


def _answer_part(values: np.ndarray, answer: np.ndarray, width: int) -> np.ndarray:
    """(n, T) → (n, width): what stands at the places of the answer, from its first one on."""
    place = np.minimum(answer.argmax(axis=1)[:, None] + np.arange(width), answer.shape[1] - 1)
    part = np.take_along_axis(values, place, axis=1)
    if values.dtype == bool:
        part |= np.arange(width) >= answer.sum(axis=1)[:, None]
    return part


def prove(task: Task, judge: Judge, sample: held_out.Sample, right: np.ndarray) -> int:
    """Decode some problems for real, wrong ones among them, and insist on the same verdicts."""
    order = np.argsort(scramble(np.arange(len(right)), derive(task.settings.split_seed, "proof")))
    wrong = order[~right[order]][: PROOF // 2]  # where the two ways are most likely to differ
    chosen = np.concatenate([wrong, order[~np.isin(order, wrong)]])[:PROOF]
    share = judge.share(len(chosen))
    mine = chosen[share.start : share.stop]
    decoded = judge.gather(_generated(task, judge, sample.a[mine], sample.b[mine]).all(axis=1))
    differing = chosen[decoded != right[chosen]]
    if len(differing):
        first = task.question(int(sample.a[differing[0]]), int(sample.b[differing[0]]))
        raise Disagreement(
            f"the forced score and real decoding disagree on {len(differing)} of {len(chosen)} problems, {first} "
            "among them: no score is given. Use method=generate, and please report this"
        )
    return len(chosen)


class Slices:
    """Accuracy of parts of a sample, with Wilson's interval."""

    def __init__(self, right: np.ndarray, weights: np.ndarray):
        self.right, self.weights = right, weights

    def of(self, mask: np.ndarray) -> dict[str, Any]:
        right, weights = self.right[mask], self.weights[mask]
        if not len(right):
            return {"problems": 0, "correct": 0, "accuracy": None, "interval": None}
        accuracy = float((right * weights).sum() / weights.sum())
        # Problems of unequal weight tell as much as so many of equal weight (Kish, 1965).
        effective = float(weights.sum() ** 2 / (weights**2).sum())
        return {
            "problems": len(right),
            "correct": int(right.sum()),
            "accuracy": accuracy,
            "interval": list(wilson(accuracy * effective, effective)),
        }

    def by(self, keys: dict[str, np.ndarray]) -> list[dict[str, Any]]:
        columns = np.stack(list(keys.values()), axis=1)
        found, group = np.unique(columns, axis=0, return_inverse=True)
        return [
            {**dict(zip(keys, map(int, values), strict=True)), **self.of(group.reshape(-1) == g)}
            for g, values in enumerate(found)
        ]


def _positions(task: Task, right_at: np.ndarray, answer: np.ndarray, weights: np.ndarray) -> list[dict[str, Any]]:
    """Accuracy of each token of the answer in the order it is written, named by the power of ten it stands for."""
    n, digits = answer.shape
    written = np.full(n, digits) if task.settings.padded else decimal.lengths(answer)
    rows = []
    places = [(f"10^{k}", k) for k in (range(digits) if task.settings.reversed else reversed(range(digits)))]
    for name, k in places + ([("end", digits)] if task.settings.end_token else []):
        if name == "end":
            column, has = written, np.ones(n, bool)
        else:
            has = k < written
            column = np.full(n, k) if task.settings.reversed else np.maximum(written - 1 - k, 0)
        right = np.take_along_axis(right_at, column[:, None], axis=1)[:, 0]
        rows.append({"position": name, **Slices(right, weights).of(has)})
    return rows


def _wrong(task: Task, judge: Judge, sample: held_out.Sample, right: np.ndarray) -> list[dict[str, str]]:
    """The first wrong answers in full, as the model really gives them."""
    rows = np.flatnonzero(~right)[: SHOWN if not judge.stop.number else 0]
    return answers(task, judge, sample.a[rows], sample.b[rows])


def answers(task: Task, judge: Judge, a: np.ndarray, b: np.ndarray) -> list[dict[str, Any]]:
    """Question, right answer and given answer of a few problems."""
    found: list[dict[str, Any]] = [{} for _ in a]
    for rows, given, wanted, counts in decode(task, judge, a, b):
        for row, tokens, truth, count in zip(rows, given, wanted, counts, strict=True):
            found[row] = {
                "question": task.question(int(a[row]), int(b[row])),
                "right": task.read_answer(truth[count].tolist()),
                "given": task.read_answer(tokens.tolist()),
                "correct": bool((tokens == truth)[count].all()),
            }
    return found


def show(task: Task, judge: Judge, count: int) -> list[str]:
    a, b = task.problems("val", np.arange(min(count, task.val_size)))
    lines = []
    for shown in answers(task, judge, a, b):
        verdict = "✓" if shown["correct"] else f"✗ it is {shown['right']}"
        lines.append(f"{shown['question']} = {shown['given']} {verdict}")
    return lines


# --------------------------------------------------------------------------------------------------------------
# For people


def _table(title: str, names: list[str], rows: list[dict[str, Any]]) -> Any:
    from cleangpt.terminal.narrow import Table

    made = Table(title=title, title_justify="left", title_style="bold")
    for name in [*names, "problems", "correct", "exact match", "95% interval"]:
        made.add_column(name, justify="right", overflow="fold", no_wrap=name not in names)
    for row in rows:
        if row["problems"]:
            made.add_row(*(str(row[name]) for name in names), *_cells(row))
    return made


def tables(score: dict[str, Any]) -> list:
    from cleangpt.terminal.narrow import Table

    what = f"{score['digits']}-digit {'sums' if score['task'] == 'adder' else 'products'}"
    whole = "all" if score["complete"] else "a stratified sample of the"
    rows = [{"of": "all", **{k: score[k] for k in ("problems", "correct", "accuracy", "interval")}}]
    if score["leak"]["mirrored_in_training"] and score["split"] != "train":
        rows.append({"of": "leaked: b, a is trained on", **score["leak"]["leaked"]})
        rows.append({"of": "clean: neither is", **score["leak"]["clean"]})
    found = [
        _table(f"{what}, {whole} {_short(score['universe'])} problems of the {score['split']} split", ["of"], rows),
        _table("By number of carries", ["carries"], score["by_carries"]),
        _table("By longest run of carries", ["run"], score["by_longest_carry_run"]),
        _table(f"By token of the answer, {score['position_kind']}", ["position"], score["by_position"]),
    ]
    if len(score["by_operand_lengths"]) <= 25:
        found.append(_table("By digits of the operands", ["a", "b"], score["by_operand_lengths"]))
    if score["wrong"]:
        wrong = Table(title="The first wrong answers", title_justify="left", title_style="bold")
        for name in ("question", "right", "given"):
            wrong.add_column(name, justify="right", overflow="fold")
        for row in score["wrong"]:
            wrong.add_row(row["question"], row["right"], repr(row["given"]).strip("'"))
        found.append(wrong)
    return found


def _cells(row: dict[str, Any]) -> list[str]:
    low, high = row["interval"]
    return [
        f"{row['problems']:,}",
        f"{row['correct']:,}",
        f"{row['accuracy']:.3%}",
        f"{low * 100:.3f} to {high:.3%}",
    ]


def _short(count: int) -> str:
    return f"{count:,}" if count < 10**12 else f"{count:.3g}"


def plots(score: dict[str, Any], folder: Path, name: str) -> list[Path]:
    from cleangpt.watch.plots import heat_map, points

    lengths = score["by_operand_lengths"]
    n = score["digits"]
    grid = np.full((n, n), np.nan)
    for row in lengths:
        grid[row["a"] - 1, row["b"] - 1] = row["accuracy"]
    found = [heat_map(folder / f"{name}_lengths.png", grid, "digits of a", "digits of b", "Exact match")]
    panels = {
        "carries": [(str(row["carries"]), row) for row in score["by_carries"]],
        "longest run of carries": [(str(row["run"]), row) for row in score["by_longest_carry_run"]],
        f"token of the answer,\n{score['position_kind']}": [(row["position"], row) for row in score["by_position"]],
    }
    found.append(points(folder / f"{name}_slices.png", panels, "Accuracy, with 95% intervals"))
    return found
