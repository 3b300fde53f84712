"""Formats, positions and windows against plain Python: strings and loops, written apart from them."""

import numpy as np
import pytest
from helpers.sums import laboratory as task
from helpers.sums import questions_of as asked

from cleangpt.tasks.arithmetic import Task
from cleangpt.tasks.contract import Question

BARE = {"padded": False, "reversed": False}


# ---- formats


def padded(text: str, width: int) -> str:
    return text.zfill(width)


STYLES = [
    {"padded": p, "reversed": r} for p in (False, True, "operands", "answer") for r in (False, True, "operands", "all")
]


@pytest.mark.parametrize("style", STYLES, ids=str)
@pytest.mark.parametrize("digits", [3, [1, 4]], ids=str)
@pytest.mark.parametrize("width", [None, 6])
def test_a_row_is_written_as_the_style_says(style, digits, width):
    if width and not style["padded"]:
        return
    of = task(digits=digits, lengths="value" if digits == 3 else "pair", padded_to=width, **style)
    batch = of.batch("train", np.arange(100), np.arange(100))
    for row, question in enumerate(of.questions(batch)):
        a, b = question.text.split("+")
        answer = str(int(a) + int(b))
        longest = width or (3 if digits == 3 else max(len(a), len(b)))
        if style["padded"] in (True, "operands"):
            a, b = a.zfill(longest), b.zfill(longest)
        if style["padded"] in (True, "answer"):
            answer = answer.zfill(longest + 1)
        if style["reversed"] in ("operands", "all"):
            a, b = a[::-1], b[::-1]
        if style["reversed"] in (True, "all"):
            answer = answer[::-1]
        text = f"{a}+{b}={answer}\n"
        assert of.tokenizer.decode(batch.inputs[row].tolist()).startswith(text[:-1])
        assert of.tokenizer.decode(question.tokens + question.right) == text
        assert of.ask(question.text).tokens == question.tokens


@pytest.mark.parametrize("back", [False, "all"])
def test_symbols_may_be_digits_where_columns_tell_them_apart(back):
    keys = {"start": "0", "operator": "5", "equals": "0", "end_token": False, "vocabulary": "used", "reversed": back}
    of = task(digits=3, **keys)
    assert of.tokenizer.tokens == list("0123456789")
    assert (of.tokenizer.end, of.tokenizer.pad) == (None, None)
    for question in asked(of, "val", 50):
        a, b = (part.zfill(3)[:: -1 if back else 1] for part in question.text.split("+"))
        assert of.tokenizer.decode(question.tokens) == f"0{a}5{b}0"
        right = str(sum(map(int, question.text.split("+")))).zfill(4)
        assert of.tokenizer.decode(question.right) == right[:: -1 if back else 1]
        assert question.read(question.right) == right.lstrip("0")
        assert of.ask(question.text).tokens == question.tokens


def simplified(a: str, b: str) -> str:
    width, carry, steps = max(len(a), len(b)), 0, []
    for k in range(1, width + 1):
        total = int(a.zfill(width)[-k]) + int(b.zfill(width)[-k]) + carry
        carry = total // 10
        steps.append(f"A->{total % 10},C->{carry}")
    return ";".join(steps) + "." + str(int(a) + int(b))


def on_paper(a: str, b: str) -> str:
    width, carry, done, text = max(len(a), len(b)), 0, "", ""
    a, b = a.zfill(width), b.zfill(width)
    for k in range(width):
        left, right = a[: width - k], b[: width - k]
        total = int(left[-1]) + int(right[-1]) + carry
        text += f"[{','.join(left)}]+[{','.join(right)}],A=[{','.join(done)}],C={carry},"
        text += f"{left[-1]}+{right[-1]}+{carry}={total},A->{total % 10},C->{total // 10};"
        done, carry = str(total % 10) + done, total // 10
    return f"{text}[]+[],A=[{','.join(done)}],C={carry}.{int(a) + int(b)}"


@pytest.mark.parametrize(("name", "written"), [("scratchpad", simplified), ("detailed", on_paper)])
def test_a_scratchpad_is_the_work_of_a_sum_and_its_answer_is_what_stands_behind(name, written):
    of = task(format=name, digits=[1, 5], lengths="pair", padded=False, reversed=False)
    for question in asked(of, "train", 100):
        a, b = question.text.split("+")
        assert of.tokenizer.decode(question.right) == written(a, b) + "\n"
        assert question.read(question.right) == str(int(a) + int(b))
    nines = of.ask("99999+99999")
    assert len(nines.tokens) + len(nines.right) - 1 == of.sequence_length


def test_hints_name_the_places_of_digits_and_begin_anywhere_in_training_only():
    of = task(format="hints", digits=4, padded=False)
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    offsets = set()
    for split in ("train", "val"):
        for question in asked(of, split):
            text = of.tokenizer.decode(question.tokens + question.right)
            a, b = question.text.split("+")
            first = letters.index(text[2 * len(a) - 2])
            offsets |= {first} if split == "train" else set()
            assert split == "train" or first == 0

            def hinted(number: str, first: int = first) -> list[str]:
                return [letters[first + k] + digit for k, digit in enumerate(number[::-1])]

            right = "".join(hinted(str(int(a) + int(b))))
            assert text == f"{''.join(hinted(a)[::-1])}+{''.join(hinted(b)[::-1])}={right}\n"
            assert question.read(question.right) == str(int(a) + int(b))
    assert len(offsets) > 20


# ---- positions


def ids(of: Task, question: Question) -> dict[str, list[int]]:
    """The positions of the digits of a, of b, and of the answer, the lowest digit first."""
    text = of.tokenizer.decode(question.tokens + question.right)
    places = dict(zip(range(len(text)), question.positions, strict=False))
    a, rest = text.index("+"), text.index("=")
    parts = {"a": range(a), "b": range(a + 1, rest), "answer": range(rest + 1, len(text) - 1)}
    found = {name: [places[k] for k in part] for name, part in parts.items()}
    return {name: values if name == "answer" else values[::-1] for name, values in found.items()}


@pytest.mark.parametrize("padding", [False, True])
def test_coupled_positions_are_alike_where_digits_are_added(padding):
    of = task(digits=[1, 6], lengths="pair", padded=padding, positions="coupled", position_range=30)
    starts = set()
    for split in ("train", "val"):
        for question in asked(of, split):
            found = ids(of, question)
            lowest = found["a"][0]
            for values in found.values():
                assert values == list(range(lowest, lowest + len(values)))
            assert max(question.positions) < of.position_rows == 30
            starts |= {lowest} if split == "train" else set()
            assert split == "train" or lowest == 2
    assert len(starts) > 10


def test_abacus_positions_count_the_digits_of_each_number_as_they_are_written():
    of = task(digits=[1, 6], lengths="pair", padded=False, reversed="all", positions="abacus", position_range=30)
    for question in asked(of, "val"):
        text = of.tokenizer.decode(question.tokens + question.right)
        expected, place = [], 0
        for character in text[: len(question.tokens)]:
            place = place + 1 if character.isdigit() else 0
            expected.append(place)
        expected += range(1, len(question.right) + 1)
        assert question.positions[: len(text)] == expected


@pytest.mark.parametrize("kind", ["random_start", "randomized"])
def test_random_positions_rise_and_stay_within_their_range(kind):
    of = task(positions=kind, position_range=50)
    batch = of.batch("train", np.arange(300), np.arange(300))
    places = batch.positions[:, :-1]
    assert (np.diff(places, axis=1) > 0).all()
    assert places.min() == 0
    assert places.max() >= 48  # the last target is not read
    assert np.array_equal(batch.positions, of.batch("train", np.arange(300), np.arange(300)).positions)
    assert not np.array_equal(batch.positions, of.batch("train", np.arange(300), 7 + np.arange(300)).positions)


BY_KEY = [
    *({"positions": kind, "padded": p} for kind in ("coupled", "abacus", "random_start") for p in (True, False)),
    {"positions": "randomized"},
    {"format": "hints"},
    {"format": "detailed", "positions": "random_start"},
]


@pytest.mark.parametrize("changes", BY_KEY, ids=str)
def test_a_sample_does_not_depend_on_what_else_is_in_its_batch(changes):
    more = {} if changes.get("format") == "hints" else {"position_range": 900}
    of = task(digits=[1, 8], lengths="pair", **more, **changes)
    keys = np.full(64, 9)
    for split in ("train", "val"):
        whole = of.batch(split, np.arange(64), keys)
        for row in range(0, 64, 5):
            alone = of.batch(split, np.array([row]), keys[:1])
            assert np.array_equal(whole.inputs[row], alone.inputs[0])
            if whole.positions is not None:
                assert np.array_equal(whole.positions[row], alone.positions[0])
    for question in asked(of, "val", 20):
        again = of.ask(question.text)
        assert again.tokens == question.tokens
        if question.positions is not None:
            length = len(question.tokens + question.right)
            assert again.positions[:length] == question.positions[:length]


# ---- windows

PACKED = [{}, BARE, {"digits": [1, 4], "lengths": "pair", **BARE}, {"train_size": 50}, {"loss": "all", "confine": True}]


@pytest.mark.parametrize("changes", PACKED, ids=str)
def test_windows_are_right_problems_end_to_end_that_begin_anywhere(changes):
    of = task(layout="packed", window=60, **changes)
    batch = of.batch("train", np.arange(150), np.zeros(150, np.int64))
    assert batch.inputs.shape == (150, of.sequence_length) == (150, 60)
    beginnings, seen = set(), set()
    for row in range(150):
        text = of.tokenizer.decode([*batch.inputs[row], batch.targets[row, -1]])
        problems = text.split("\n")
        beginnings.add(len(problems[0]))
        for problem in problems[1:-1]:
            question, answer = problem.split("=")
            answer = answer[::-1] if of.settings.reversed else answer
            assert sum(map(int, question.split("+"))) == int(answer)
            seen.add(question)
        for place in range(1 + text.index("\n"), 60):  # of targets: of the first problem nobody knows what it lacks
            line = text[text.rindex("\n", 0, place) + 1 : place]  # of the same problem, up to there
            assert batch.loss_weights[row, place - 1] == (bool(line) if of.settings.loss == "all" else "=" in line)
        if of.settings.confine:
            before = [text[:place].count("\n") for place in range(60)]
            assert np.array_equal(batch.documents[row] - batch.documents[row, 0], before)
    assert len(beginnings) > 3
    held_out = {question.text for split in ("val", "test") for question in asked(of, split, 1000)}
    assert not held_out & {"+".join(str(int(number)) for number in question.split("+")) for question in seen}
