"""Scores: only well-formed answers count, parts add up to the whole, and intervals are the published ones."""

from collections import Counter

import numpy as np
import pytest
from helpers.rote import FORMATS, Rote, by_heart, flawed, judge, rote, steps
from helpers.sums import arithmetic, written

from cleangpt.machine.launcher import World
from cleangpt.score import exact_match as scoring
from cleangpt.score import of_task
from cleangpt.score.evaluate import wilson
from cleangpt.tasks.lab.operations.multiply import Operation as Multiply

# ---- what counts as right


@pytest.mark.parametrize("method", ["forced", "generate"])
@pytest.mark.parametrize("name", ["adder", "multiplier"])
@pytest.mark.parametrize("changes", FORMATS, ids=str)
def test_a_perfect_model_scores_everything(name, changes, method):
    task = arithmetic(name=name, digits=1, **changes)
    perfect = rote(task)
    for split in ("train", "val", "test"):
        score = of_task.score(task, perfect, split, None, method)
        assert score["correct"] == score["problems"] == score["universe"] == task.size(split)
        assert score["accuracy"] == 1
        assert score["interval"][1] == 1
        assert score["wrong"] == []
        assert all(row["accuracy"] == 1 for row in score["by_position"] if row["problems"])
    assert perfect.model.training  # left as it was found


def test_a_model_that_answers_the_padded_way_reversed_is_wrong_but_on_palindromes():
    task = arithmetic(digits=1, reversed=True)
    plain = arithmetic(digits=1, reversed=False)
    score = of_task.score(task, rote(plain), "train", None, "forced")
    a, b = task.pairs("train", np.arange(task.size("train")))
    assert score["correct"] == sum(f"{x + y:02}" == f"{x + y:02}"[::-1] for x, y in zip(a, b, strict=True))


ILL_FORMED = {
    "another digit": "03\n",
    "a symbol in place of a digit": "0=\n",
    "an operator in place of a digit": "+4\n",
    "an end in place of a digit": "\n4\n",
    "padding in place of a digit": " 4\n",
    "a digit in place of the end": "044",
    "padding in place of the end": "04 ",
    "a symbol in place of the end": "04=",
}


@pytest.mark.parametrize("method", ["forced", "generate"])
@pytest.mark.parametrize("answer", ILL_FORMED.values(), ids=list(ILL_FORMED))
def test_an_answer_with_one_wrong_token_of_any_kind_is_wrong(answer, method):
    task = arithmetic(digits=1, reversed=False)
    pairs = {(a, 4 - a): answer for a in range(5)}
    scores = [of_task.score(task, rote(task, pairs), split, None, method) for split in ("train", "val", "test")]
    assert sum(score["problems"] - score["correct"] for score in scores) == 5
    assert sum(len(score["wrong"]) for score in scores) == 5


@pytest.mark.parametrize("method", ["forced", "generate"])
@pytest.mark.parametrize("answer", ["4 ", "44", "4=", "04", " 4", "\n", "=\n"])
def test_an_unpadded_answer_has_to_end_where_the_number_does(answer, method):
    task = arithmetic(digits=1, padded=False, reversed=False)
    pairs = {(a, 4 - a): answer for a in range(5)}
    scores = [of_task.score(task, rote(task, pairs), split, None, method) for split in ("train", "val", "test")]
    assert sum(score["problems"] - score["correct"] for score in scores) == 5


def test_what_follows_the_end_of_an_answer_does_not_matter():
    task = arithmetic(digits=1, padded=False)
    end = task.tokenizer.end
    ended = [(*text, end) for text, token in by_heart(task.settings).items() if token == end]
    model = judge(Rote(task, follows=by_heart(task.settings) | dict.fromkeys(ended, 3)))
    for method in ("forced", "generate"):
        assert of_task.score(task, model, "train", None, method)["accuracy"] == 1


def test_wrong_answers_are_shown_as_the_model_gives_them():
    task = arithmetic(digits=2, reversed=True)
    a, b = task.pairs("test", np.arange(100))
    first = (int(a[3]), int(b[3]))
    score = of_task.score(task, rote(task, {first: "12=\n"}), "test", None, "forced")
    question = f"{first[0]}+{first[1]}"
    assert score["wrong"] == [{"question": question, "right": str(sum(first)), "given": "12=", "correct": False}]
    score = of_task.score(task, rote(task, {first: "120\n"}), "test", None, "forced")
    assert score["wrong"][0]["given"] == "21"


def test_first_errors_count_the_tokens_at_which_wrong_answers_go_wrong():
    task = arithmetic(digits=2)
    says = flawed(task, 0.3)
    score = of_task.score(task, rote(task, says), "test", None, "forced")
    expected = dict.fromkeys((row["position"] for row in score["by_position"]), 0)
    for a, b in zip(*task.pairs("test", np.arange(task.size("test"))), strict=True):
        if (told := says.get((int(a), int(b)))) is not None:
            right = written(task.settings, int(a), int(b))[1]
            place = next((k for k, (given, token) in enumerate(zip(told, right, strict=True)) if given != token), None)
            if place is not None:
                expected["end" if place == 3 else f"10^{place}"] += 1
    assert score["first_errors"] == expected
    assert sum(expected.values()) == score["problems"] - score["correct"] > 0


def test_only_the_first_wrong_answers_are_kept():
    task = arithmetic(digits=2)
    a, b = task.pairs("test", np.arange(task.size("test")))
    nonsense = {(int(x), int(y)): "===\n" for x, y in zip(a, b, strict=True)}
    score = of_task.score(task, rote(task, nonsense), "test", None, "forced")
    assert score["correct"] == 0
    assert len(score["wrong"]) == scoring.SHOWN


# ---- parts of a score


@pytest.mark.parametrize("changes", [{}, {"padded": False}, {"name": "multiplier"}, {"split": "ordered"}], ids=str)
def test_slices_add_up_to_the_whole(changes):
    task = arithmetic(digits=2, **changes)
    score = of_task.score(task, rote(task, flawed(task, 0.3)), "test", None, "forced")
    assert 0 < score["correct"] < score["problems"] == task.size("test")
    assert score["accuracy"] == pytest.approx(score["correct"] / score["problems"])
    slices = [score[key] for key in ("by_carries", "by_longest_carry_run", "by_operand_lengths")]
    slices.append([score["leak"]["leaked"], score["leak"]["clean"]])
    for rows in slices:
        assert sum(row["problems"] for row in rows) == score["problems"]
        assert sum(row["correct"] for row in rows) == score["correct"]
        for row in rows:
            if row["problems"]:
                assert row["accuracy"] == pytest.approx(row["correct"] / row["problems"])
                assert row["interval"] == pytest.approx(wilson(row["correct"], row["problems"]))


def test_slices_hold_the_problems_of_their_name():
    task = arithmetic(digits=2)
    says = flawed(task, 0.3)
    score = of_task.score(task, rote(task, says), "test", None, "forced")
    carries, runs, lengths = Counter(), Counter(), Counter()
    for a, b in zip(*(map(int, x) for x in task.pairs("test", np.arange(task.size("test")))), strict=True):
        carried = [a % 10 + b % 10 >= 10, a + b >= 100]
        right = (a, b) not in says
        carries[sum(carried)] += right
        runs[2 if all(carried) else int(any(carried))] += right
        lengths[len(str(a)), len(str(b))] += right
    assert {row["carries"]: row["correct"] for row in score["by_carries"]} == carries
    assert {row["run"]: row["correct"] for row in score["by_longest_carry_run"]} == runs
    assert {(row["a"], row["b"]): row["correct"] for row in score["by_operand_lengths"]} == lengths


@pytest.mark.parametrize("method", ["forced", "generate"])
@pytest.mark.parametrize("changes", FORMATS, ids=str)
def test_each_position_counts_the_wrong_tokens_at_its_power_of_ten(changes, method):
    task = arithmetic(digits=2, **changes)
    says = flawed(task, 0.3)
    score = of_task.score(task, rote(task, says), "test", None, method)
    asked, wrong, order = Counter(), Counter(), []
    for a, b in zip(*(map(int, x) for x in task.pairs("test", np.arange(task.size("test")))), strict=True):
        _, answer = written(task.settings, a, b)
        digits = answer.rstrip("\n")
        powers = range(len(digits)) if task.settings.reversed else reversed(range(len(digits)))
        names = [f"10^{k}" for k in powers] + ["end"] * task.settings.end_token
        order = max(order, names, key=len)
        asked.update(names)
        if (a, b) in says:
            place = says[a, b].index("*")
            wrong.update(names[place:] if method == "generate" else [names[place]])
    rows = {row["position"]: row for row in score["by_position"]}
    assert list(rows) == order
    for name, row in rows.items():
        assert row["problems"] == asked[name]
        assert row["problems"] - row["correct"] == wrong[name]
    assert score["position_kind"] == ("as decoded" if method == "generate" else "given the right answer so far")


@pytest.mark.parametrize("split", ["val", "test"])
def test_split_by_unordered_pair_no_mirror_is_in_training(split):
    task = arithmetic(digits=2)
    score = of_task.score(task, rote(task), split, None, "forced")
    assert score["leak"]["mirrored_in_training"] == score["leak"]["leaked"]["problems"] == 0
    assert score["leak"]["clean"]["problems"] == score["problems"]


@pytest.mark.parametrize("train_size", [None, 1000])
def test_split_by_ordered_pair_the_leak_is_counted(train_size):
    task = arithmetic(digits=2, split="ordered", train_size=train_size)
    trained = set(zip(*map(np.ndarray.tolist, task.pairs("train", np.arange(task.size("train")))), strict=True))
    asked = zip(*map(np.ndarray.tolist, task.pairs("test", np.arange(task.size("test")))), strict=True)
    leaked = sum((b, a) in trained for a, b in asked)
    score = of_task.score(task, rote(task), "test", None, "forced")
    assert score["leak"]["mirrored_in_training"] == score["leak"]["leaked"]["problems"] == leaked > 0


def test_a_sample_is_scored_by_its_weights():
    task = arithmetic(digits=2)
    short = {(a, b): "===\n" for a, b in np.ndindex(100, 100) if min(a, b) < 10}
    score = of_task.score(task, rote(task, short), "test", 500, "forced")
    assert not score["complete"]
    assert score["problems"] == 500
    assert score["universe"] == task.size("test")
    whole = scoring.choose(task, "test", None)
    share = (np.min(task.pairs("test", whole.index), axis=0) >= 10).mean()  # of the problems without a short operand
    assert score["accuracy"] == pytest.approx(share)
    assert score["correct"] / score["problems"] < 0.7
    low, high = score["interval"]
    assert low < share < high
    assert high - low > np.subtract(*wilson(405, 500)[::-1])  # unequal weights tell less


def test_a_score_of_twenty_digits_is_computed_by_the_same_code():
    task = arithmetic(digits=20)
    sample = scoring.choose(task, "test", 40)
    follows = {}
    for a, b in zip(*task.pairs("test", sample.index), strict=True):
        follows |= steps(task, *written(task.settings, int(a), int(b)))
    score = of_task.score(task, judge(Rote(task, follows=follows)), "test", 40, "forced")
    assert score["correct"] == score["problems"] == score["forced_equals_decoded"] == 40
    assert score["universe"] == task.universe.count("test") > 10**39
    assert sum(row["problems"] for row in score["by_operand_lengths"]) == 40


# ---- intervals, shares and what is shown


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        # Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, method 3:
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_is_the_published_one(right, count, low, high):
    assert wilson(right, count) == pytest.approx((low, high), abs=6e-5)


def test_of_nothing_nothing_is_known():
    assert wilson(0, 0) == (0, 1)
    empty = scoring.Slices(np.zeros(3, bool), np.ones(3)).of(np.zeros(3, bool))
    assert empty == {"problems": 0, "correct": 0, "accuracy": None, "interval": None}


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 5, 100])
def test_processes_share_all_samples_without_overlap(size, count):
    shares = [judge(None, World(rank, size, rank, size)).share(count) for rank in range(size)]
    assert [n for share in shares for n in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_few_answers_are_shown_with_their_verdicts():
    task = arithmetic(digits=2)
    a, b = (values.tolist() for values in task.pairs("val", np.arange(3)))
    lines = [shown.line for shown in of_task.show(task, rote(task, {(a[1], b[1]): "120\n"}), 3)]
    assert lines[0] == f"{a[0]}+{b[0]} = {a[0] + b[0]} ✓"
    assert lines[1] == f"{a[1]}+{b[1]} = 21 ✗ it is {a[1] + b[1]}"
    assert lines[2] == f"{a[2]}+{b[2]} = {a[2] + b[2]} ✓"
    assert len(of_task.show(task, rote(task), 10**6)) == task.val_size


def test_tables_show_every_slice_and_wrong_answer():
    from rich.console import Console

    task = arithmetic(digits=2)
    a, b = (values.tolist() for values in task.pairs("test", np.arange(1)))
    score = of_task.score(task, rote(task, {(a[0], b[0]): "===\n"}), "test", None, "forced")
    console = Console(width=150)
    with console.capture() as capture:
        for table in of_task.tables(task, score):
            console.print(table)
    text = capture.get()
    assert f"{a[0]}+{b[0]}" in text
    assert "===" in text
    assert f"{score['accuracy']:.3%}" in text
    for row in (*score["by_carries"], *score["by_longest_carry_run"], *score["by_operand_lengths"]):
        assert f"{row['problems']:,}" in text


def test_the_number_of_a_slice_is_that_of_carries():
    """The slices of a multiplication are those of its columns."""
    task = arithmetic(name="multiplier", digits=1)
    score = of_task.score(task, rote(task), "train", None, "forced")
    a, b = task.pairs("train", np.arange(task.size("train")))
    carrying = int((a * b >= 10).sum())
    assert {row["carries"]: row["problems"] for row in score["by_carries"]} == {0: len(a) - carrying, 1: carrying}
    assert Multiply()._product(np.array([[9]]), np.array([[9]]))[1].tolist() == [[8, 0]]
