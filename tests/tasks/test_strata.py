"""Which problems a score looks at: all, or a fixed sample that stands for all."""

from collections import Counter

import numpy as np
import pytest
from helpers.limits import within
from helpers.sums import arithmetic

from cleangpt.score import exact_match
from cleangpt.tasks.arithmetic import Task
from cleangpt.tasks.lab import figures as decimal

SPLITS = ["train", "val", "test"]


class Chosen:
    """The problems that a score looks at."""

    def __init__(self, task: Task, split: str, limit: int | None):
        sample = exact_match.choose(task, split, limit)
        self.a, self.b = task.pairs(split, sample.index)
        self.index, self.weights, self.universe, self.complete = (
            getattr(sample, name) for name in ("index", "weights", "universe", "complete")
        )


def pairs(sample: Chosen) -> list[tuple[int, int]]:
    return list(zip(map(int, sample.a), map(int, sample.b), strict=True))


def lengths(sample: Chosen, digits: int) -> tuple[np.ndarray, np.ndarray]:
    a, b = (decimal.lengths(decimal.digits_of(values, digits)) for values in (sample.a, sample.b))
    return a, b


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("limit", [None, 10**9])
def test_a_small_split_is_looked_at_whole(split, limit):
    task = arithmetic(digits=2)
    sample = Chosen(task, split, limit)
    assert sample.complete
    assert len(sample.a) == sample.universe == len(set(pairs(sample))) == task.size(split)
    assert task.locate(split, sample.a, sample.b)[1].tolist() == sample.index.tolist()
    assert (sample.weights == 1).all()


def test_a_limit_of_all_there_is_is_complete_and_one_less_is_not():
    task = arithmetic(digits=2)
    count = task.size("test")
    assert Chosen(task, "test", count).complete
    sample = Chosen(task, "test", count - 1)
    assert not sample.complete
    assert len(set(pairs(sample))) == count - 1


@pytest.mark.parametrize("kind", ["unordered", "ordered"])
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(("digits", "limit"), [(1, 3), (2, 150), (3, 1), (3, 17), (3, 3000), (6, 3000), (19, 500)])
def test_a_sample_has_exactly_so_many_problems_of_its_split(kind, split, digits, limit):
    task = arithmetic(digits=digits, split=kind)
    sample = Chosen(task, split, limit)
    assert sample.complete == (limit >= task.size(split))
    assert len(sample.a) == len(set(pairs(sample))) == min(limit, task.size(split))
    assert task.locate(split, sample.a, sample.b)[1].tolist() == sample.index.tolist()
    assert sample.universe == task.universe.count(split)


def test_a_huge_split_is_sampled_even_without_a_limit(monkeypatch):
    monkeypatch.setattr(exact_match, "SAMPLE", 2000)  # instead of 100,000, which takes a few seconds
    sample = Chosen(arithmetic(digits=7), "test", None)
    assert not sample.complete
    assert len(set(pairs(sample))) == 2000


@pytest.mark.parametrize("digits", [3, 6])
def test_operands_of_all_lengths_are_present(digits):
    sample = Chosen(arithmetic(digits=digits), "test", 5000)
    found = Counter(zip(*map(np.ndarray.tolist, lengths(sample, digits)), strict=True))
    assert len(found) == digits**2
    share = 5000 // (2 * digits**2)  # of the half that is shared out evenly
    assert all(count >= share for (a, b), count in found.items() if a + b > 4)


@pytest.mark.parametrize("digits", [3, 6, 20])
def test_weights_sum_to_one(digits):
    sample = Chosen(arithmetic(digits=digits), "test", 5000 if digits < 20 else 500)
    assert (sample.weights > 0).all()
    # At 20 digits, lengths that are too rare to be drawn are missing.
    assert sample.weights.sum() == pytest.approx(1, abs=1e-9 if digits < 20 else 0.01)


def test_the_weight_of_full_length_operands_is_their_share_of_all_problems():
    sample = Chosen(arithmetic(digits=6), "test", 5000)
    a, b = lengths(sample, 6)
    assert sample.weights[(a == 6) & (b == 6)].sum() == pytest.approx(0.81)
    assert sample.weights[a == 6].sum() == pytest.approx(0.9)
    assert sample.weights[(a == 1) & (b == 1)].sum() == pytest.approx(100 / 100**6)


def test_the_weight_of_each_pair_of_lengths_is_its_share_of_a_split_that_can_be_counted():
    task = arithmetic(digits=3)
    sample, whole = (Chosen(task, "test", limit) for limit in (5000, None))
    (a, b), (whole_a, whole_b) = lengths(sample, 3), lengths(whole, 3)
    for i in (1, 2, 3):
        for j in (1, 2, 3):
            share = ((whole_a == i) & (whole_b == j)).mean()
            assert sample.weights[(a == i) & (b == j)].sum() == pytest.approx(share)


def test_weighted_means_are_those_of_the_whole_split():
    task = arithmetic()
    whole = Chosen(task, "test", None)
    sample = Chosen(task, "test", 20_000)
    indicators = {
        "a carry out of the lowest digits": lambda x, y: x % 10 + y % 10 >= 10,
        "a sum of four digits": lambda x, y: x + y >= 1000,
        "a below b": lambda x, y: x < y,
        "a short operand": lambda x, y: np.minimum(x, y) < 100,
    }
    spread = np.sqrt((sample.weights**2).sum()) / 2  # at most, of a weighted proportion
    for name, holds in indicators.items():
        estimate = (sample.weights * holds(sample.a, sample.b)).sum()
        assert estimate == pytest.approx(holds(whole.a, whole.b).mean(), abs=4 * spread), name
    short = indicators["a short operand"](sample.a, sample.b).mean()
    assert short > 0.3  # of 0.19 in truth: the plain mean would be far off


@pytest.mark.parametrize("limit", [None, 500])
def test_the_sample_is_the_same_each_time_and_whatever_is_trained_on(limit):
    first, again, other = (
        Chosen(arithmetic(digits=digits, train_size=size), "val", limit)
        for digits, size in ((3, None), (3, None), (3, 1000))
    )
    assert pairs(first) == pairs(again) == pairs(other)
    assert np.array_equal(first.weights, other.weights)


def test_another_split_seed_draws_another_sample():
    first, second = (Chosen(arithmetic(split_seed=seed), "test", 500) for seed in (0, 1))
    assert len(set(pairs(first)) & set(pairs(second))) < 100


@pytest.mark.parametrize(
    ("split", "limit", "changes"),
    [
        ("val", 10_000, {"digits": 4, "val_fraction": 1e-4}),
        ("train", 500, {"digits": 10, "train_size": 5000}),
        ("train", 500, {"digits": 10, "train_size": 2_000_000}),
        ("test", 500, {"digits": 10, "test_fraction": 1e-9}),
    ],
    ids=str,
)
def test_a_split_that_is_a_tiny_part_of_its_universe_is_sampled_soon(split, limit, changes):
    task = arithmetic(**changes)
    with within(5):
        sample = Chosen(task, split, limit)
    assert len(sample.a) == len(set(pairs(sample))) == limit < task.size(split)
    assert task.locate(split, sample.a, sample.b)[1].tolist() == sample.index.tolist()
