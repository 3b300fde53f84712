"""When runs arrive at a share of right answers, by hand."""

from pathlib import Path

import numpy as np
import pytest

from cleangpt.report import arrival
from cleangpt.report.collect import Run
from cleangpt.report.columns import Column


def run(accuracies: list[float], tokens: bool = True) -> Run:
    made = Run(Path("run"))
    steps = 100.0 * np.arange(1, len(accuracies) + 1)
    made.columns["val/accuracy"] = Column(steps, np.array(accuracies))
    if tokens:
        made.columns["tokens"] = Column(steps, 7 * steps)
    return made


@pytest.mark.parametrize(
    ("runs", "share", "expected"),
    [
        ([[0.1, 0.5, 0.4, 0.95]], 0.5, (1, 200, 1400)),
        ([[0.1, 0.5, 0.4, 0.95]], 0.9, (1, 400, 2800)),
        ([[0.1, 0.5, 0.4, 0.95]], 0.99, (0, None, None)),
        ([[0.9], [0.1, 0.9], [0.1, 0.1, 0.9]], 0.9, (3, 200, 1400)),
        ([[0.9], [0.1, 0.9], [0.1, 0.1, 0.1]], 0.9, (2, 200, 1400)),
        ([[0.9], [0.1, 0.1], [0.1, 0.1, 0.1]], 0.9, (1, None, None)),
        ([[0.9], [0.1]], 0.9, (1, None, None)),
        ([[float("nan"), 0.9]], 0.9, (1, 200, 1400)),
        ([], 0.5, (0, None, None)),
    ],
)
def test_the_median_counts_those_that_never_arrive_as_later_than_any(runs, share, expected):
    assert arrival.of([run(accuracies) for accuracies in runs], share) == expected


def test_runs_without_accuracies_or_tokens_are_no_trouble():
    text = Run(Path("text"))
    assert not arrival.are_known([text])
    assert arrival.are_known([text, run([0.3])])
    assert arrival.of([text], 0.5) == (0, None, None)
    assert arrival.of([run([0.9], tokens=False)], 0.5) == (1, 100, None)
