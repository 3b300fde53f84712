"""Splits: every problem in exactly one of them, mirrors together, and each found again."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers.sums import arithmetic

from cleangpt.machine.launcher import World
from cleangpt.tasks.held_out import SPLITS
from cleangpt.tasks.lab.sources.universe import Universe
from cleangpt.training.stream import Stream

KINDS = ["unordered", "ordered"]
HELD_OUT = ["val", "test"]
FRACTIONS = [(0.02, 0.15), (0.3, 0.3), (0.01, 0.97)]


def universe(digits: int, kind: str, split_seed: int = 0, val: float = 0.02, test: float = 0.15) -> Universe:
    return Universe(10**digits, kind, split_seed, val, test)


def everything(found: Universe) -> dict[str, np.ndarray]:
    """The problems of each split, as a·10^digits + b."""
    pairs = {split: found.problems(split, np.arange(found.count(split))) for split in SPLITS}
    return {split: a * found.numbers + b for split, (a, b) in pairs.items()}


def codes(task, split: str) -> np.ndarray:
    a, b = task.pairs(split, np.arange(task.size(split)))
    return a * task.universe.numbers + b


def mirrored(problems: np.ndarray, numbers: int) -> np.ndarray:
    return problems % numbers * numbers + problems // numbers


@pytest.mark.parametrize("digits", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("val", "test"), FRACTIONS)
def test_each_problem_is_in_exactly_one_split(digits, kind, val, test):
    found = universe(digits, kind, val=val, test=test)
    problems = np.concatenate(list(everything(found).values()))
    assert np.array_equal(np.sort(problems), np.arange(100**digits))


@pytest.mark.parametrize("digits", [2, 3, 20])
@pytest.mark.parametrize("kind", KINDS)
def test_the_splits_have_the_shares_that_were_asked_for(digits, kind):
    found = universe(digits, kind, val=0.1, test=0.25)
    shares = {split: found.count(split) / 100**digits for split in SPLITS}
    assert shares == pytest.approx({"train": 0.65, "val": 0.1, "test": 0.25}, rel=0.01)


@pytest.mark.parametrize("digits", [1, 2, 3])
@pytest.mark.parametrize(("val", "test"), FRACTIONS)
def test_split_by_unordered_pair_a_problem_and_its_mirror_are_never_apart(digits, val, test):
    found = universe(digits, "unordered", val=val, test=test)
    for problems in everything(found).values():
        assert np.array_equal(np.sort(problems), np.sort(mirrored(problems, found.numbers)))


def test_split_by_ordered_pair_most_mirrors_of_held_out_problems_are_trained_on():
    found = universe(3, "ordered")
    problems = everything(found)
    leaked = np.isin(mirrored(problems["test"], found.numbers), problems["train"]).mean()
    assert leaked == pytest.approx(0.83, abs=0.01)


@pytest.mark.parametrize("digits", [2, 3])
def test_each_split_has_its_share_of_doubles(digits):
    found = universe(digits, "unordered", val=0.29, test=0.2)
    for split, share in (("train", 0.51), ("val", 0.29), ("test", 0.2)):
        a, b = found.problems(split, np.arange(found.count(split)))
        assert (a == b).sum() == round(share * 10**digits)


@pytest.mark.parametrize("digits", range(1, 21))
@pytest.mark.parametrize("kind", KINDS)
def test_locate_undoes_problems(digits, kind):
    found = universe(digits, kind)
    for number, split in enumerate(SPLITS):
        count = found.count(split)
        items = sorted({i * (count - 1) // 99 for i in range(100)} | {max(0, count - 1 - i) for i in range(20)})
        a, b = found.problems(split, np.array(items, object))
        assert all(0 <= int(x) < 10**digits for x in (*a, *b))
        assert len(set(zip(map(int, a), map(int, b), strict=True))) == len(items)
        place, item = found.locate(a, b)
        assert place.tolist() == [number] * len(items)
        assert list(map(int, item)) == items


@pytest.mark.parametrize("digits", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_locate_finds_every_problem(digits, kind):
    found = universe(digits, kind)
    for number, split in enumerate(SPLITS):
        items = np.arange(found.count(split))
        place, item = found.locate(*found.problems(split, items))
        assert (place == number).all()
        assert np.array_equal(item, items)


@pytest.mark.parametrize("digits", [4, 10, 20])
def test_a_large_problem_is_in_the_split_of_its_mirror(digits):
    found = universe(digits, "unordered", val=0.3, test=0.3)
    chance = np.random.default_rng(0)
    a, b = (np.array([int(x * 10**digits) for x in chance.random(300)], found.number_type) for _ in "ab")
    place, item = found.locate(a, b)
    mirror_place, mirror_item = found.locate(b, a)
    assert set(place) == {0, 1, 2}
    assert np.array_equal(place, mirror_place)
    assert all(int(x) ^ 1 == int(y) for x, y in zip(item, mirror_item, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_another_split_seed_holds_out_other_problems(kind):
    first, second = (set(everything(universe(2, kind, seed))["test"]) for seed in (0, 1))
    assert len(first & second) < len(first) / 2


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_problems_look_random(kind):
    found = universe(3, kind)
    a, b = found.problems("test", np.arange(found.count("test")))
    for values in (a, b, a + b):
        assert abs(values.mean() - values.max() / 2) < 0.005 * values.max()
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.02
    digits = np.bincount(a % 10 * 10 + b % 10, minlength=100)  # pairs of lowest digits
    assert np.abs(digits / digits.mean() - 1).max() < 0.15


@pytest.mark.parametrize("split", HELD_OUT)
def test_held_out_problems_do_not_depend_on_what_is_trained_on(split):
    whole = codes(arithmetic(digits=2), split)
    for train_size in (1, 100, 5000):
        assert np.array_equal(codes(arithmetic(digits=2, train_size=train_size), split), whole)


def test_a_smaller_training_set_is_part_of_a_larger_one_and_of_train():
    sets = [codes(arithmetic(digits=2, train_size=size), "train") for size in (10, 100, 1000, None)]
    for smaller, larger in pairwise(sets):
        assert len(set(smaller)) == len(smaller)
        assert set(smaller) < set(larger)


def test_a_smaller_training_set_is_always_the_same_and_of_all_kinds():
    first, again = (codes(arithmetic(train_size=3000), "train") for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, codes(arithmetic(train_size=3000, split_seed=1), "train"))
    a, b = first // 1000, first % 1000
    assert abs((a < b).mean() - 0.5) < 0.05
    assert abs(a.mean() - 500) < 25


@pytest.mark.parametrize("train_size", [None, 500])
@pytest.mark.parametrize("kind", KINDS)
def test_a_problem_is_found_in_the_split_that_has_it_and_at_its_index(kind, train_size):
    task = arithmetic(digits=2, split=kind, train_size=train_size)
    a, b = np.divmod(np.arange(10_000), 100)
    for split in SPLITS:
        inside, index = task.locate(split, a, b)
        assert np.array_equal(inside, np.isin(np.arange(10_000), codes(task, split)))
        assert np.array_equal(np.sort(index), np.arange(task.size(split)))
        again = task.pairs(split, index)
        assert np.array_equal(again[0], a[inside])
        assert np.array_equal(again[1], b[inside])


@pytest.mark.parametrize("train_size", [None, 777])
def test_an_epoch_has_each_training_problem_once_whatever_the_seed(train_size):
    task = arithmetic(digits=2, train_size=train_size)
    size, trained = task.size("train"), np.sort(codes(task, "train"))
    orders = []
    for seed in (0, 1):
        stream = Stream(task, seed, 32, None, World(0, 1, 0, 1), torch.device("cpu"))
        for epoch in range(2):
            index, _ = stream.indices(np.arange(size) + epoch * size)
            a, b = task.pairs("train", index)
            assert np.array_equal(np.sort(a * 100 + b), trained)
            orders.append(tuple(index))
    assert len(set(orders)) == 4


def test_training_problems_of_the_largest_universe_are_in_train():
    task = arithmetic(digits=20)
    stream = Stream(task, 0, 32, None, World(0, 1, 0, 1), torch.device("cpu"))
    a, b = task.pairs("train", stream.indices(np.arange(200))[0])
    assert task.locate("train", a, b)[0].all()
    assert task.locate("train", b, a)[0].all()
    assert len(set(zip(map(int, a), map(int, b), strict=True))) == 200


def test_what_is_held_out_never_changes():
    """A model that was trained yesterday must not meet its training problems in tomorrow's test set."""
    assert codes(arithmetic(), "test")[:6].tolist() == [359433, 433359, 373747, 747373, 210938, 938210]
    assert codes(arithmetic(), "val")[:6].tolist() == [311277, 361829, 989045, 667008, 499724, 494023]
    assert codes(arithmetic(split="ordered"), "test")[:6].tolist() == [800997, 624917, 146651, 738601, 889987, 185913]
    assert codes(arithmetic(train_size=10), "train")[:6].tolist() == [204780, 753626, 122282, 790243, 989546, 116452]
