"""Columns that grow, and are thinned out so that nothing that stands out is lost."""

import json

import numpy as np
import pytest

from cleangpt.follow.curves import KEPT, Curves, Line, Rows, part, thinned


def rows_of(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = Rows(path)
    found.refresh()
    return found


def test_what_is_read_again_is_only_what_is_new(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    found = rows_of(path, [{"step": n, "a": n} for n in range(1, 4)])
    lines = []
    monkeypatch.setattr("cleangpt.follow.curves.read_row", lambda line: lines.append(line))
    with path.open("a") as file:
        file.write('{"step": 4, "a": 4}\n')
    found.refresh()
    assert [line for line in lines if line] == [b'{"step": 4, "a": 4}']


def test_a_column_may_be_missing_in_some_rows_and_stand_twice_in_others(tmp_path):
    logged = [{"step": 1, "a": 1}, {"step": 2, "b": 5}, {"step": 3, "a": None}, {"step": 3, "a": 7, "b": 6}]
    found = rows_of(tmp_path / "metrics.jsonl", logged)
    assert found.column("a").steps.tolist() == [1, 3]
    assert found.column("a").values.tolist() == [1, 7], "of a step that stands twice, what was written last counts"
    assert found.column("b").steps.tolist() == [2, 3]
    assert found.column("c") is None
    assert found.names() == ["a", "b"]


@pytest.mark.parametrize("points", [4, 5, 10, 99, 1000])
def test_thinning_keeps_the_lowest_the_highest_and_gaps(points):
    generator = np.random.default_rng(0)
    values = generator.normal(size=5000)
    line = Line(np.arange(5000.0), np.arange(5000.0), values)
    found = thinned(line, points)
    assert len(found.x) <= points
    assert {values.min(), values.max()} <= set(found.y.tolist())
    assert (np.diff(found.x) > 0).all()
    assert (found.y == values[found.steps.astype(int)]).all()
    values[1234] = np.nan
    found = thinned(line, points)
    assert len(found.x) <= max(points, 5)
    assert np.isnan(found.y).any()
    assert np.nanmax(values) in found.y


def test_nothing_is_thinned_that_is_short_and_an_empty_line_stays_empty():
    line = Line(*(np.arange(10.0),) * 3)
    assert thinned(line, 10) is line
    assert len(thinned(part(line, 20, 30), 10).x) == 1, "the last point, from which the line comes"
    empty = Line(*(np.empty(0),) * 3)
    assert len(part(thinned(empty, 10), 1, 2).x) == 0


def test_only_so_many_files_are_kept(tmp_path):
    curves = Curves()
    for number in range(KEPT + 5):
        curves.of(tmp_path / str(number))
    assert len(curves.kept) == KEPT
