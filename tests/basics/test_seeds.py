"""Seeded bijections: every index exactly once, undone by the inverse, without visible order."""

from itertools import permutations

import numpy as np
import pytest

from cleangpt.basics.seeds import Grid, Permutation, derive, scramble

SMALL = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 16, 17, 45, 99, 100, 101, 1000, 1023, 1025]
GRIDS = [(1, 1), (1, 2), (2, 1), (1, 7), (7, 1), (2, 2), (3, 7), (5, 9), (50, 99), (100, 100)]
# Around the widths of machine integers, and as large as 20-digit problems need.
BIG = [2**31 + 1, 2**61, 2**62 - 1, 2**62, 2**63 - 1, 2**63 + 1, 2**64 + 3, 2**123, 2**124 - 1, 2**124 + 1, 10**40]
BIG_GRIDS = [(10**9, 10**9), (5 * 10**17, 10**18 - 1), (5 * 10**18, 10**19 - 1), (10**20, 10**20), (3, 10**20)]


def spread(size: int, count: int) -> np.ndarray:
    """Numbers below `size` from all of its range, its ends among them."""
    return np.array([i * (size - 1) // (count - 1) for i in range(count)], object)


@pytest.mark.parametrize("size", SMALL)
def test_a_permutation_reaches_every_number_once_and_its_inverse_undoes_it(size):
    index = np.arange(size)
    for key in range(5):
        order = Permutation(size, key)
        assert np.array_equal(np.sort(order(index)), index)
        assert np.array_equal(order.inverse(order(index)), index)
        assert np.array_equal(order(order.inverse(index)), index)


@pytest.mark.parametrize(("rows", "columns"), GRIDS)
def test_a_grid_reaches_every_cell_once_and_index_undoes_cell(rows, columns):
    index = np.arange(rows * columns)
    for key in range(5):
        grid = Grid(rows, columns, key)
        row, column = grid.cell(index)
        assert row.min() >= 0
        assert row.max() < rows
        assert column.min() >= 0
        assert column.max() < columns
        assert np.array_equal(np.sort(row * columns + column), index)
        assert np.array_equal(grid.index(row, column), index)


@pytest.mark.parametrize("size", BIG)
def test_a_permutation_of_any_size_stays_in_range_and_is_undone(size):
    index = spread(size, 200)
    order = Permutation(size, 1)
    image = order(index)
    assert all(0 <= int(value) < size for value in image)
    assert len(set(map(int, image))) == len(index)
    assert list(map(int, order.inverse(image))) == list(index)
    assert list(map(int, order(order.inverse(index)))) == list(index)


@pytest.mark.parametrize(("rows", "columns"), BIG_GRIDS)
def test_a_grid_of_any_size_stays_in_range_and_is_undone(rows, columns):
    index = spread(rows * columns, 200)
    grid = Grid(rows, columns, 1)
    row, column = grid.cell(index)
    assert all(0 <= int(r) < rows and 0 <= int(c) < columns for r, c in zip(row, column, strict=True))
    assert len(set(zip(map(int, row), map(int, column), strict=True))) == len(index)
    assert list(map(int, grid.index(row, column))) == list(index)


@pytest.mark.parametrize("size", [1000, 2**62 + 1])
def test_an_index_goes_to_the_same_place_alone_and_among_others(size):
    order = Permutation(size, 3)
    together = order(np.arange(20))
    assert [int(order(np.array([i]))[0]) for i in range(20)] == list(map(int, together))


def test_the_indices_that_are_given_are_left_as_they_were():
    index = np.arange(10)
    Permutation(10, 0)(index)
    assert np.array_equal(index, np.arange(10))


def test_no_indices_are_no_work():
    assert len(Permutation(10, 0)(np.arange(0))) == 0
    assert len(Permutation(10**40, 0)(np.arange(0))) == 0


@pytest.mark.parametrize("size", [7, 1000, 10**40])
def test_each_key_has_an_order_of_its_own_and_always_the_same(size):
    index = np.arange(7)
    orders = [tuple(map(int, Permutation(size, key)(index))) for key in range(20)]
    assert orders == [tuple(map(int, Permutation(size, key)(index))) for key in range(20)]
    assert len(set(orders)) >= 19  # of 5040 orders of seven, two of twenty may agree


@pytest.mark.parametrize("size", [2, 3, 4])
def test_every_order_of_a_few_things_is_some_keys_order(size):
    orders = {tuple(Permutation(size, key)(np.arange(size)).tolist()) for key in range(300)}
    assert orders == set(permutations(range(size)))


def test_an_order_of_a_thousand_looks_random():
    index, fixed, adjacent = np.arange(1000), [], []
    for key in range(30):
        image = Permutation(1000, key)(index)
        fixed.append((image == index).sum())
        adjacent.append((np.abs(np.diff(image)) == 1).sum())
        assert abs(np.corrcoef(index, image)[0, 1]) < 0.16  # five standard deviations
    assert np.mean(fixed) < 2  # one is expected of chance
    assert np.mean(adjacent) < 4  # two are


@pytest.mark.parametrize("size", [10**6, 2**62 + 1, 10**40])
def test_the_first_indices_go_everywhere(size):
    image = Permutation(size, 5)(np.arange(5000))
    tenths = np.bincount([int(value) * 10 // size for value in image], minlength=10)
    assert ((tenths - 500) ** 2 / 500).sum() < 34  # chi-square of nine degrees of freedom: 1 in 10,000


@pytest.mark.parametrize(("rows", "columns"), [(500, 999), (1000, 1000), (5 * 10**19, 10**20 - 1)])
def test_the_first_cells_of_a_grid_lie_in_all_rows_and_columns(rows, columns):
    row, column = Grid(rows, columns, 7).cell(np.arange(5000).astype(object))
    for values, size in ((row, rows), (column, columns)):
        tenths = np.array([int(value) * 10 // size for value in values])
        expected = np.array([(-(-(t + 1) * size // 10) - -(-t * size // 10)) / size for t in range(10)]) * 5000
        assert ((np.bincount(tenths, minlength=10) - expected) ** 2 / expected).sum() < 34


def test_derive_separates_seeds_purposes_and_indices():
    purposes = [(s, p, *i) for s in range(20) for p in ("order", "dropout", "1") for i in ((), (0,), (1,), (1, 1))]
    keys = [derive(*purpose) for purpose in [*purposes, (1,), (11,), (1, 1), (1, "")]]
    assert len(set(keys)) == len(keys) - 1  # (1, 1) is no other purpose than (1, "1")
    assert all(0 <= key < 2**63 for key in keys)


def test_derive_gives_the_same_key_on_every_machine():
    assert derive(0, "order", 0) == 3471081512423777433
    assert derive(2**63 - 1) == 2076403846995799137


@pytest.mark.parametrize("wide", [False, True])
def test_scrambled_neighbours_share_no_bits(wide):
    values = np.arange(2000) if not wide else np.array([i << 64 for i in range(2000)], object)
    bits = scramble(values, 1)
    assert len(np.unique(bits)) == len(bits)
    ones = np.unpackbits((bits[1:] ^ bits[:-1]).view(np.uint8)).mean()
    assert abs(ones - 0.5) < 0.01
