"""Lines of metrics.jsonl that are no rows: skipped wherever rows are read."""

import json

import numpy as np
import pytest
from helpers.trainings import fit, losses, rows

from cleangpt.disk.rundir import RunDir, read_metrics
from cleangpt.report import columns
from cleangpt.sweeps.jobs import Watched
from cleangpt.watch.drawing import draw

GOOD = [{"step": 1, "train/loss": 2.5}, {"step": 2, "train/loss": None, "val/loss": 2.0}]
NO_ROWS = {
    "number": b"5",
    "list": b"[]",
    "null": b"null",
    "text": b'"step"',
    "object without a step": b'{"train/loss": 1.0}',
    "step that is null": b'{"step": null, "train/loss": 1.0}',
    "step that is text": b'{"step": "3", "train/loss": 1.0}',
    "step that is true": b'{"step": true, "train/loss": 1.0}',
    "step that is no whole number": b'{"step": 2.5, "train/loss": 1.0}',
    "step below zero": b'{"step": -3, "train/loss": 1.0}',
    "value that is text": b'{"step": 3, "train/loss": "1.0"}',
    "value that is a list": b'{"step": 3, "train/loss": [1.0]}',
    "value that is true": b'{"step": 3, "train/loss": true}',
    "value that is not a number": b'{"step": 3, "train/loss": NaN}',
    "value that is infinite": b'{"step": 3, "train/loss": 1e999}',
    "number without an end": b'{"step": 3, "train/loss": 1' + b"0" * 400 + b"}",
    "number too long to read": b'{"step": 3, "train/loss": ' + b"9" * 5000 + b"}",
    "no UTF-8": b'{"step": 3, "\xff\xfe": 1.0}',
    "deep": b"[" * 100_000,
    "deep value": b'{"step": 3, "train/loss": ' + b"[" * 100_000 + b"}",
    "torn": b'{"step": 3, "train/l',
}


@pytest.fixture(params=NO_ROWS.values(), ids=NO_ROWS)
def metrics(request, tmp_path):
    """Two rows, what is none, and once more the second one."""
    first, second = (json.dumps(row).encode() for row in GOOD)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"\n".join([first, request.param, second, request.param]) + b"\n")
    return path


def test_what_is_no_row_is_skipped_like_a_torn_line(metrics):
    assert read_metrics(metrics) == GOOD


def test_a_sweep_skips_it_too(metrics):
    assert Watched(metrics).new_rows() == GOOD


def test_a_report_skips_it_and_counts_it(metrics):
    found = columns.read(metrics)
    assert found.bad == 2
    np.testing.assert_array_equal(found.columns["train/loss"].steps, [1, 2])
    np.testing.assert_array_equal(found.columns["train/loss"].values, [2.5, np.nan])
    np.testing.assert_array_equal(found.columns["val/loss"].values, [2.0])


def test_plots_skip_all_of_them(tmp_path):
    good = [json.dumps(row).encode() for row in GOOD]
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([*good, *NO_ROWS.values()]))
    assert [path.name for path in draw(RunDir(tmp_path))] == ["loss.png"]


def test_a_run_goes_on_behind_lines_that_are_no_rows(tmp_path):
    fit(tmp_path, "train.steps=2")
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b"\n".join(NO_ROWS.values()))
    fit(tmp_path, "train.steps=3", snapshot=tmp_path / "snapshots" / "step_00000002")
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3]
    assert len(losses(tmp_path)) == 3
