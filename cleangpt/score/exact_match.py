"""Exact scores on questions with one right answer, cut into slices, as a dict.

A question is known by its index in its split; what lies behind it is the task's own.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from cleangpt.basics.seeds import scramble
from cleangpt.score import asking, layout
from cleangpt.score.asking import Ask
from cleangpt.score.evaluate import ALONE, Judge, Shown, Watch, wilson
from cleangpt.tasks.contract import AT_ONCE, COMPLETE, Batch, Question, TaskWithAnswers
from cleangpt.terminal import patience
from cleangpt.tokens.tokenizers import smallest_type

SAMPLE = 100_000  # problems that stand for a split which is too large to be looked at whole
PROOF = 256  # problems on which each scoring compares the fast way with real decoding
FIRST = 20_000  # problems of a first look, where there are more than twice as many
CONCLUSIONS = 1000  # answers of which the conclusion alone is judged, since that takes real decoding
SHOWN = 20  # wrong answers that are kept in full
AS_TRAINED = Ask()


class Disagreement(Exception):
    """A fast score that real decoding contradicts: neither can be trusted."""


@dataclass(frozen=True)
class Sample:
    """The problems that a score looks at."""

    split: str
    index: np.ndarray  # (n,)
    weights: np.ndarray  # (n,) what a problem stands for, relative to the others
    universe: int  # problems in the split
    complete: bool

    def part(self, rows: np.ndarray | slice) -> "Sample":
        return Sample(self.split, self.index[rows], self.weights[rows], self.universe, False)


def choose(task: TaskWithAnswers, split: str, limit: int | None) -> Sample:
    """Choose all problems of a split, or a fixed sample of a huge one."""
    count = task.count(split)
    if limit is None and count > COMPLETE:
        limit = SAMPLE
    if limit is None or limit >= count:
        return Sample(split, np.arange(count), np.ones(count), count, complete=True)
    return Sample(split, *task.sample(split, limit), count, complete=False)


def score(
    task: TaskWithAnswers,
    judge: Judge,
    split: str,
    limit: int | None,
    method: str,
    watch: Watch = ALONE,
    ask: Ask = AS_TRAINED,
    sets: list[str] | None = None,
) -> dict[str, Any]:
    """Score a model on a split, whole and in slices, and on further sets of its task; None: on all of them."""
    began = time.monotonic()
    task, further = asking.behind(task, ask.prefix, judge), task.sets if sets is None else sets
    found = _score(task, judge, split, limit, method, watch)
    if ask.draws:
        sample = choose(task, split, limit)
        found["asked"] = asking.passes(task, judge, split, sample.index, sample.weights, ask)
    if ask.prefix:
        found["prefix"] = ask.prefix
    if split not in task.sets and further:
        found["sets"] = {name: _score(task, judge, name, limit, method, watch) for name in further}
    return {**found, "seconds": time.monotonic() - began}


def _score(
    task: TaskWithAnswers, judge: Judge, split: str, limit: int | None, method: str, watch: Watch
) -> dict[str, Any]:
    sample = choose(task, split, limit)
    # (n, answer tokens) True beyond a short answer, and how far each is from another verdict
    right_at, margins = _verdicts(task, judge, sample, method, watch)
    right = np.all(right_at, axis=1)
    with patience.doing("Comparing with real decoding", voice=watch.voice):
        proved = None if method == "generate" else prove(task, judge, sample, right)
    wrong = _wrong(task, judge, sample, right)
    judge.gather(np.empty(0))  # nobody was asked to stop in the middle of that
    slices, places = Slices(right, sample.weights), task.positions(split, sample.index)
    found = {
        "task": task.settings.name,
        **task.facts(split),
        "split": split,
        "method": "generate" if method == "generate" else "forced",
        "complete": sample.complete,
        "universe": sample.universe,
        **slices.of(np.ones(len(right), bool)),
        "forced_equals_decoded": proved,
        **{f"by_{name}": slices.by(name, values) for name, values in task.slices(split, sample.index).items()},
        "by_position": [
            {"position": name, **Slices(right_at[np.arange(len(right)), column], sample.weights).of(column >= 0)}
            for name, column in places.items()
        ],
        "position_kind": "as decoded" if method == "generate" else "given the right answer so far",
    }
    first = np.where(right, -1, right_at.argmin(axis=1))  # the token of a wrong answer that goes wrong first
    found["first_errors"] = {name: int(((first == column) & (column >= 0)).sum()) for name, column in places.items()}
    if elsewhere := int((~right).sum()) - sum(found["first_errors"].values()):
        found["first_errors"]["before the answer"] = elsewhere  # in a scratchpad
    if method != "generate" and right.any():
        found["least_margin"] = _least(task, sample, np.where(right, margins, np.inf))
    if task.concludes:
        found["answer_only"] = _loosely(task, judge, sample)
    leaked = task.leaked(split, sample.index)
    if leaked is not None:
        parts = {"leaked": slices.of(leaked), "clean": slices.of(~leaked)}
        found["leak"] = {"mirrored_in_training": int(leaked.sum()), **parts}
    return {**found, "wrong": wrong}


def _loosely(task: TaskWithAnswers, judge: Judge, sample: Sample) -> dict[str, Any]:
    """Judge the conclusions of some answers alone, as the model really writes them, whatever stands before them."""
    order = np.argsort(scramble(np.arange(len(sample.index)), task.key("conclusions")))[:CONCLUSIONS]
    share = judge.share(len(order))
    mine = order[share.start : share.stop]
    asked = _answers(task, judge, task.batch(sample.split, sample.index[mine]))
    right = [task.conclusion(given) == task.conclusion(question.right) for question, given in asked]
    return Slices(judge.gather(np.array(right, bool)), sample.weights[order]).of(np.ones(len(order), bool))


def _least(task: TaskWithAnswers, sample: Sample, margins: np.ndarray) -> dict[str, Any]:
    """Name the right answer that is the nearest to a wrong one: by how much its least likely token is ahead."""
    at = int(margins.argmin())
    (question,) = task.questions(task.batch(sample.split, sample.index[at : at + 1]))
    return {"logits": float(margins[at]), "question": question.text, "right": question.read(question.right)}


def _verdicts(
    task: TaskWithAnswers, judge: Judge, sample: Sample, method: str, watch: Watch
) -> tuple[np.ndarray, np.ndarray]:
    """Judge the tokens of the answers (n, W) and find their least margins (n,), on every rank.

    Of many problems a fixed part comes first, to be shown.
    """
    right_at = np.zeros((len(sample.index), task.answer_length), bool)
    margins = np.zeros(len(sample.index), np.float32)
    unknown = np.ones(len(sample.index), bool)
    if watch.show and len(sample.index) > 2 * FIRST:
        few = Sample(sample.split, *task.sample(sample.split, FIRST), sample.universe, False)
        found, ahead = _divided(task, judge, few, method, watch)
        about = {"of": "all", **Slices(np.all(found, axis=1), few.weights).of(np.ones(FIRST, bool))}
        title = f"A first look: {FIRST:,} of {len(sample.index):,} problems, a {task.words.get('sample', 'sample')}"
        watch.show(layout.table(title, ["of"], [about]))
        place = {index: n for n, index in enumerate(sample.index.tolist())}
        there = np.array([place.get(index, -1) for index in few.index.tolist()], np.int64)
        known = there[there >= 0]
        right_at[known], margins[known], unknown[known] = found[there >= 0], ahead[there >= 0], False
    right_at[unknown], margins[unknown] = _divided(task, judge, sample.part(unknown), method, watch)
    return right_at, margins


def _divided(
    task: TaskWithAnswers, judge: Judge, sample: Sample, method: str, watch: Watch
) -> tuple[np.ndarray, np.ndarray]:
    """Judge the tokens of the answers (n, W) and find their least margins (n,), a share in each process."""
    share = judge.share(len(sample.index))
    mine = sample.part(slice(share.start, share.stop))
    with patience.doing("Scoring", len(sample.index), "problems", watch.voice) as progress:
        right = np.empty((len(mine.index), task.answer_length), bool)
        margins = np.zeros(len(mine.index), np.float32)
        for rows in _parts(np.arange(len(mine.index)) if method == "generate" else _alike(task, mine)):
            batch = task.batch(sample.split, mine.index[rows])
            if method == "generate":
                right[rows] = _generated(judge, batch, task.answer_length)
            else:
                right[rows], margins[rows] = _teacher_forced(judge, batch, task.answer_length)
            progress.advance(len(rows) * judge.world.size)
    return judge.gather(right), judge.gather(margins)


def _parts(order: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(order), AT_ONCE):
        yield order[start : start + AT_ONCE]


def _alike(task: TaskWithAnswers, sample: Sample) -> np.ndarray:
    """Order the rows of a sample so that much of a problem stands in the one before too."""
    kind = smallest_type(task.tokenizer.vocab_size)
    tokens = [task.batch(sample.split, index).inputs.astype(kind) for index in _parts(sample.index)]
    return np.lexsort(np.concatenate(tokens).T[::-1]) if tokens else np.empty(0, np.int64)


def _teacher_forced(judge: Judge, batch: Batch, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Tell (n, W) which tokens of the answers are the likeliest ones, given those before, and the least margin (n,)."""
    assert batch.answer is not None
    likeliest, margins = judge.predictions(batch)
    found = (likeliest == batch.targets) | ~batch.answer
    return _answer_part(found, batch.answer, width), np.where(batch.answer, margins, np.inf).min(axis=1)


def _generated(judge: Judge, batch: Batch, width: int) -> np.ndarray:
    """Tell (n, W) which tokens of the answers are right when the model writes them alone."""
    right = np.ones((len(batch.inputs), width), bool)
    for rows, given, wanted, counts in decode(judge, batch, width):
        right[rows] = (given == wanted) | ~counts
    return right


def decode(judge: Judge, batch: Batch, width: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Decode for real, prompts of one length at a time; yield (rows, given, wanted, counts), the last three (m, W)."""
    assert batch.answer is not None
    tokens = np.concatenate([batch.inputs, batch.targets[:, -1:]], axis=1)
    prompt = batch.answer.argmax(axis=1) + 1  # tokens before the answer
    for length in np.unique(prompt):
        rows = np.flatnonzero(prompt == length)
        wanted = _answer_part(batch.targets[rows], batch.answer[rows], width)
        counts = np.arange(width) < batch.answer[rows].sum(axis=1)[:, None]
        given = np.full((len(rows), width), -1)
        longest = min(width, tokens.shape[1] - length)
        places = None if batch.positions is None else batch.positions[rows]
        given[:, :longest] = judge.decode(tokens[rows, :length], longest, places)
        yield rows, given, wanted, counts


def _answer_part(values: np.ndarray, answer: np.ndarray, width: int) -> np.ndarray:
    """Cut (n, T) to the places of the answer (n, W), from its first one on; beyond its end a verdict is True."""
    place = np.minimum(answer.argmax(axis=1)[:, None] + np.arange(width), answer.shape[1] - 1)
    part = np.take_along_axis(values, place, axis=1)
    if values.dtype == bool:
        part |= np.arange(width) >= answer.sum(axis=1)[:, None]
    return part


def prove(task: TaskWithAnswers, judge: Judge, sample: Sample, right: np.ndarray) -> int:
    """Decode some problems for real, wrong ones among them, and insist on the same verdicts."""
    order = np.argsort(scramble(np.arange(len(right)), task.key("proof")))
    wrong = order[~right[order]][: PROOF // 2]  # where the two ways are most likely to differ
    chosen = np.concatenate([wrong, order[~np.isin(order, wrong)]])[:PROOF]
    share = judge.share(len(chosen))
    mine = chosen[share.start : share.stop]
    batch = task.batch(sample.split, sample.index[mine])
    decoded = judge.gather(np.all(_generated(judge, batch, task.answer_length), axis=1))
    differing = chosen[decoded != right[chosen]]
    if len(differing):
        (first,) = task.questions(task.batch(sample.split, sample.index[differing[:1]]))
        raise Disagreement(
            f"the forced score and real decoding disagree on {len(differing)} of {len(chosen)} problems, {first.text} "
            "among them: no score is given. Use method=generate, and please report this"
        )
    return len(chosen)


@dataclass(frozen=True)
class Slices:
    """Accuracy of parts of a sample, with Wilson's interval."""

    right: np.ndarray  # (n,)
    weights: np.ndarray  # (n,)

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

    def by(self, name: str, values: np.ndarray | dict[str, np.ndarray]) -> list[dict[str, Any]]:
        keys = values if isinstance(values, dict) else {name: values}
        columns = np.stack(list(keys.values()), axis=1)
        found, group = np.unique(columns, axis=0, return_inverse=True)
        return [
            {**dict(zip(keys, map(int, row), strict=True)), **self.of(group.reshape(-1) == g)}
            for g, row in enumerate(found)
        ]


def _wrong(task: TaskWithAnswers, judge: Judge, sample: Sample, right: np.ndarray) -> list[dict[str, Any]]:
    """Keep the first wrong answers in full, as the model really gives them."""
    rows = np.flatnonzero(~right)[: SHOWN if not judge.stop.number else 0]
    return [
        {
            "question": question.text,
            "right": question.read(question.right),
            "given": question.read(given),
            "correct": question.is_right(given),
        }
        for question, given in _answers(task, judge, task.batch(sample.split, sample.index[rows]))
    ]


def _answers(task: TaskWithAnswers, judge: Judge, batch: Batch) -> list[tuple[Question, list[int]]]:
    """Return a few problems, and the tokens that the model gives."""
    given: list[list[int]] = [[] for _ in batch.inputs]
    for rows, tokens, _, _ in decode(judge, batch, task.answer_length):
        for row, answer in zip(rows, tokens.tolist(), strict=True):
            given[row] = [token for token in answer if token >= 0]
    return list(zip(task.questions(batch), given, strict=True))


def show(task: TaskWithAnswers, judge: Judge, count: int) -> list[Shown]:
    """Answer a few problems of validation."""
    batch = task.batch("val", np.arange(min(count, task.val_size)))
    shown = []
    for question, given in _answers(task, judge, batch):
        right, said = question.read(question.right), question.read(given)
        parts = {"question": question.text, "given": said, "right": right, "correct": question.is_right(given)}
        shown.append(Shown(question.verdict(given), parts))
    return shown
