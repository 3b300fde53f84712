"""Statistics over seeds are those of hand and of the tables, and curves their means."""

import math

import numpy as np
import pytest
from helpers.compared import make

from cleangpt.report import collect, estimate
from cleangpt.report.estimate import Estimate, along, curve

# ---- statistics


def test_students_t_is_that_of_the_tables():
    for degrees, t in {1: 12.7062, 2: 4.30265, 3: 3.18245, 9: 2.26216, 30: 2.04227, 1000: 1.96234}.items():
        assert estimate.student_t(degrees) == pytest.approx(t, rel=2e-6)
    assert estimate.student_t(9, level=0.99) == pytest.approx(3.24984, rel=2e-6)


def test_an_estimate_is_that_of_hand():
    found = estimate.estimate([1.0, 2.0, 3.0])
    assert (found.count, found.mean, found.sd) == (3, 2.0, 1.0)
    assert (found.low, found.high) == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)))
    assert estimate.estimate([0.99, 1.0], (0.0, 1.0)).high == 1.0, "an accuracy is no more than all"


def test_one_seed_has_no_spread_and_none_has_no_mean():
    assert estimate.estimate([2.0]) == Estimate(1, 2.0, None, None, None)
    assert estimate.estimate([]) == Estimate(0, None, None, None, None)
    assert estimate.difference(estimate.estimate([1.0]), estimate.estimate([1.0, 2.0])) is None


def test_a_difference_is_that_of_welch():
    found = estimate.difference(estimate.estimate([2.0, 4.0, 6.0]), estimate.estimate([1.0, 2.0, 3.0]))
    # degrees = (1/3 + 4/3)^2 / ((1/3)^2 / 2 + (4/3)^2 / 2) = 2.9412, t = 3.21876, error = sqrt(5/3)
    assert found == pytest.approx((2.0, 2 - 4.155399, 2 + 4.155399), abs=1e-5)
    same = estimate.estimate([1.0, 1.0])
    assert estimate.difference(same, same) is None, "no spread, nothing to judge by"


# ---- curves


def test_a_curve_is_the_mean_over_seeds_and_its_band_their_range(tmp_path):
    runs = collect.read([make(tmp_path / "0", 1.0, 2.0, 3.0), make(tmp_path / "1", 3.0, 6.0)])
    found = curve(runs, "val/loss")
    assert found.averaged == 1
    assert found.steps.tolist() == [10, 20, 30]
    np.testing.assert_array_equal(found.mean, [2, 4, np.nan])
    np.testing.assert_array_equal(found.low, [1, 2, 3])
    np.testing.assert_array_equal(found.high, [3, 6, 3])
    assert along(runs, "tokens", found.steps).tolist() == [1000, 2000, 3000]
    assert along(runs, "seconds", found.steps).tolist() == [1, 2, 3]
    assert curve(runs, "val/perplexity") is None


def test_a_long_curve_is_averaged_in_stretches_and_nothing_is_left_out(tmp_path):
    losses = [float(n) for n in range(100)]
    (run,) = collect.read([make(tmp_path / "0", *losses)])
    found = curve([run], "val/loss", points=30)
    assert (found.averaged, len(found.steps)) == (4, 25)
    assert found.mean.tolist() == [np.mean(losses[n : n + 4]) for n in range(0, 100, 4)]
    assert found.steps[0] == 25.0
