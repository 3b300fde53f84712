"""Decimal arithmetic on digits, against Python's integers."""

import random
from itertools import groupby

import numpy as np
import pytest

from cleangpt.tasks.lab import figures as decimal
from cleangpt.tasks.lab.operations.add import Operation as Add
from cleangpt.tasks.lab.operations.multiply import Operation as Multiply

WIDTHS = range(1, 21)


def integers_of(digits: np.ndarray) -> list[int]:
    """Turn digits (n, D), lowest first, into Python integers, which never overflow."""
    return [int("".join(map(str, row[::-1]))) for row in digits]


def operands(width: int) -> tuple[list[int], list[int]]:
    """Pairs of all lengths, the ends of the range among them."""
    chance = random.Random(width)
    ends = [0, 1, 9, 10 ** (width - 1), 10**width - 1]
    drawn = [chance.randrange(10 ** chance.randint(1, width)) for _ in range(60)]
    a = [x for x in ends for _ in ends] + drawn
    b = ends * len(ends) + [chance.randrange(10 ** chance.randint(1, width)) for _ in drawn]
    return a, b


def as_digits(values: list[int], width: int) -> np.ndarray:
    return np.array([[int(d) for d in str(value).zfill(width)[::-1]] for value in values])


@pytest.mark.parametrize("width", WIDTHS)
def test_digits_of_integers_are_those_of_their_text_and_back(width):
    values, _ = operands(width)
    digits = decimal.digits_of(np.array(values, object), width)
    assert np.array_equal(digits, as_digits(values, width))
    assert integers_of(digits) == values
    if width <= 18:
        assert np.array_equal(decimal.digits_of(np.array(values, np.int64), width), digits)


@pytest.mark.parametrize("width", WIDTHS)
def test_sums_and_their_carries_are_those_of_python(width):
    a, b = operands(width)
    digits, carries = Add()._settled([as_digits(a, width), as_digits(b, width)])[:2]
    assert digits.shape == carries.shape == (len(a), width + 1)
    assert integers_of(digits) == [x + y for x, y in zip(a, b, strict=True)]
    for k in range(width + 1):
        low = 10 ** (k + 1)
        assert carries[:, k].tolist() == [(x % low + y % low) // low for x, y in zip(a, b, strict=True)]


@pytest.mark.parametrize("width", WIDTHS)
def test_products_and_their_carries_are_those_of_python(width):
    a, b = operands(width)
    left, right = as_digits(a, width), as_digits(b, width)
    digits, carries = Multiply()._product(left, right)
    assert digits.shape == carries.shape == (len(a), 2 * width)
    assert integers_of(digits) == [x * y for x, y in zip(a, b, strict=True)]
    for n in (0, len(a) - 1, *range(20, 30)):
        for k in range(2 * width):  # what the columns up to k hold, beyond k + 1 digits
            columns = [(i, j) for i in range(width) for j in range(width) if i + j <= k]
            held = sum(int(left[n, i]) * int(right[n, j]) * 10 ** (i + j) for i, j in columns)
            assert carries[n, k] == held // 10 ** (k + 1)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_length_of_a_number_is_that_of_its_text(width):
    values, _ = operands(width)
    assert decimal.lengths(as_digits(values, width)).tolist() == [len(str(value)) for value in values]


@pytest.mark.parametrize("width", [1, 2, 3, 8])
def test_the_longest_run_is_that_of_grouping(width):
    flags = np.array([[number >> k & 1 for k in range(width)] for number in range(2**width)], bool)
    slow = [max([len(list(run)) for flag, run in groupby(row) if flag], default=0) for row in flags]
    assert decimal.longest_run(flags).tolist() == slow


def test_no_problems_have_no_answers():
    none = np.empty((0, 3), np.int64)
    assert Add().answer([none, none]).shape == (0, 4)
    assert Multiply().answer([none, none]).shape == (0, 6)


def test_the_million_three_digit_sums_have_the_known_numbers_of_carries():
    number = np.arange(1_000_000)
    digits, carries = Add()._settled([decimal.digits_of(number // 1000, 3), decimal.digits_of(number % 1000, 3)])[:2]
    assert np.array_equal(digits @ 10 ** np.arange(4), number // 1000 + number % 1000)
    carried = carries > 0
    assert np.bincount(carried.sum(axis=1)).tolist() == [166_375, 358_875, 338_625, 136_125]
    assert np.bincount(decimal.longest_run(carried)).tolist() == [166_375, 450_000, 247_500, 136_125]
