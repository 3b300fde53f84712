"""Comparing runs: by which scores they are ranked, what of their columns is shown, and within which axes."""

import csv
import json
import math

import numpy as np
import pytest
from helpers.compared import compared, make
from helpers.configs import toy

from cleangpt import tasks
from cleangpt.basics import files
from cleangpt.basics.errors import UserError
from cleangpt.config.experiment import parse
from cleangpt.measure import random_tokens
from cleangpt.report import collect, draw, words, write
from cleangpt.report.compare import compare
from cleangpt.sweeps import grid
from cleangpt.sweeps.jobs import Job, prepare
from cleangpt.watch import plots


def test_whether_more_is_better_comes_from_the_task_that_the_run_names(tmp_path):
    for n, value in enumerate((0.9, 0.1)):
        run = make(tmp_path / str(n), 1.0, overrides=[], optimizer__lr=0.1 + n)
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        rows = [{**row, "val/f1": value, "val/accuracy": 1 - value} for row in rows]
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [group.label for group in compared(tmp_path, "val/accuracy").ranking()] == ["lr=1.1", "lr=0.1"], (
        "by its name"
    )
    for n in range(2):
        (tmp_path / str(n) / "run.json").write_text(json.dumps({"overrides": [], "more_is_better": ["f1"]}))
    found = compared(tmp_path, "val/f1")
    assert [group.label for group in found.ranking()] == ["lr=0.1", "lr=1.1"]
    assert found.runs[0].best("val/f1", found.metric.sign) == (0.9, 10)
    assert words.show_value(0.9, found.metric) == "0.9000", (
        "a share is said by the task alone, not by being better high"
    )
    assert compared(tmp_path, "val/accuracy").metric.sign == -1, "the task says that only f1 is better when it is high"


def test_a_task_says_which_of_its_scores_are_better_when_they_are_high(tmp_path):
    for name in tasks.SETTINGS:
        folder = tmp_path / name
        folder.mkdir()
        options = {} if tasks.of(name).has_answers else {"dataset.dir": str(folder)}
        settings = parse(toy(f"dataset={name}", **options)).dataset
        if options:
            random_tokens.write(folder, settings, 1, seed=0)
        assert tasks.make(settings, 16).more_is_better == (() if options else ("accuracy",))


def test_settings_that_share_the_best_accuracy_are_ranked_by_their_loss(tmp_path):
    for n, loss in enumerate((0.3, 0.1, 0.2)):
        make(tmp_path / str(n), loss, accuracy=[1.0], optimizer__lr=0.1 + n)
    make(tmp_path / "3", 0.01, accuracy=[0.5], optimizer__lr=9.0)
    found = compared(tmp_path)
    assert [group.label for group in found.ranking()] == ["lr=1.1", "lr=2.1", "lr=0.1", "lr=9"]
    assert found.winner().label == "lr=1.1"
    said = words.findings(found)
    assert said[:2] == [
        "3 settings share the best final val/accuracy, 100.00%.",
        "Of these lr=1.1 has the best final val/loss, 0.1000 of 1 seed.",
    ]
    make(tmp_path / "4", 0.1, accuracy=[1.0], optimizer__lr=5.0)
    found = compared(tmp_path)
    assert found.winner() is None
    assert words.findings(found) == ["4 settings share the best final val/accuracy, 100.00%."]


def test_runs_of_several_tasks_are_not_ranked(tmp_path):
    for n, name in enumerate(("adder", "copy", "copy")):
        make(tmp_path / str(n), 0.3 - 0.1 * n, dataset__name=name, optimizer__lr=0.1 + n)
    assert words.findings(compared(tmp_path)) == [
        "These runs learn 2 tasks (adder, copy), whose scores do not compare."
    ]


def test_jobs_that_left_no_run_are_told_whatever_their_folders_are_called(tmp_path):
    for number in (0, 2, 3):
        folder = tmp_path / grid.name(number, f"optimizer.lr={number}")
        prepare(Job(number, (f"optimizer.lr={number}",), "", folder, {}))
        if number != 3:  # which was refused, and left its folder alone
            made = make(tmp_path / "elsewhere" / str(number), 1.0, optimizer__lr=0.1 + number)
            for path in made.iterdir():
                path.rename(folder / path.name)
    files.write_json(tmp_path / "sweep.json", {"command": [], "of": 5, "jobs": []})
    found = compared(tmp_path)
    (note,) = [note for note in found.notes if "left no run" in note]
    assert note.endswith("jobs 1, 3, 4 of its 5 left no run: refused, removed, or not begun.")
    only = compare(collect.read(collect.find([str(path) for path in tmp_path.glob("0002_*")])), None)
    assert only.notes == [note], "of a sweep that was named in part the same is missing"


# ---- every column


@pytest.fixture
def drawn(monkeypatch):
    """The figures that would be written, by the names of their files."""
    figures = {}

    def keep(figure, path):
        figures[path.stem] = figure
        return path

    monkeypatch.setattr(draw, "save_figure", keep)
    monkeypatch.setattr(draw, "_svg", lambda figure, prefix: "")
    return figures


def logged(folder):
    """Two runs with columns that are no scores."""
    for seed in range(2):
        run = make(folder / str(seed), 2.0, 1.0, seed=seed)
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        rows = [
            {**row, "lr": 0.1 / row["step"], "grad_norm": 2.0 + seed, "weight_norm/a": 1.0, "weight_norm/b": 3.0}
            for row in rows
        ]
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize("nested", [False, True])
def test_every_logged_column_is_in_the_csv_and_drawn_where_it_is_asked_for(tmp_path, drawn, nested):
    runs = logged(tmp_path / "runs")
    if nested:  # so that the parser has to read it
        with (runs / "0" / "metrics.jsonl").open("a") as file:
            file.write('{"step": 21, "note": {"x": {}}, "grad_norm": 9.0}\n{"step": 22, "grad_norm": 7.0}\n')
    asked = ["lr", "weight_norm/*"]
    found = compare(collect.read(collect.find(str(runs)), curves=asked), None, asked)
    assert [metric.name for metric in found.metrics] == ["val/loss"], "they judge nothing"
    write.write(found, tmp_path / "out", None)
    assert drawn.keys() == {"val_loss", "train_loss", "lr", "weight_norm_a", "weight_norm_b"}
    rows = list(csv.DictReader((tmp_path / "out" / "runs.csv").open()))
    assert [float(row["final lr"]) for row in rows] == [0.005, 0.005]
    assert [float(row["final grad_norm"]) for row in rows] == [7.0 if nested else 2.0, 3.0]
    assert "final note" not in rows[0]


def test_a_column_that_no_run_has_is_refused_with_those_that_there_are(tmp_path):
    asked = ["lr", "gradnorm"]
    with pytest.raises(UserError) as error:
        compare(collect.read(collect.find(str(logged(tmp_path))), curves=asked), None, asked)
    assert str(error.value) == (
        "`curves` has gradnorm, which no run has: did you mean `grad_norm`? There is grad_norm, lr, seconds, step, "
        "tokens, train/loss, val/loss, weight_norm/*"
    )


# ---- axes


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_an_axis_of_equal_values_is_not_stretched_to_their_rounding(tmp_path, drawn, value):
    for n in range(4):
        change = {"optimizer__lr": 0.1 + n % 2, "model__n_layer": 1 + n // 2}
        make(tmp_path / str(n), 1.5, 1.5 + n * 1e-9, accuracy=[value, value], **change)
    draw.draw(compared(tmp_path), tmp_path)
    assert drawn["effect_optimizer.lr"].axes[0].get_ylim() == (-2, 102)
    bar = drawn["pair_model.n_layer_optimizer.lr"].axes[1]
    assert bar.get_ylim() == (0, 100)
    assert [axis.get_xlim()[0] for axis in drawn["val_accuracy"].axes] == [0, 0, 0]
    assert drawn["val_accuracy"].axes[2].get_xlabel() == "seconds of wall time"
    draw.draw(compared(tmp_path, "val/loss"), tmp_path)
    low, high = drawn["effect_optimizer.lr"].axes[0].get_ylim()
    assert high - low > 0.1
    assert np.diff(drawn["val_loss"].axes[0].get_ylim()) > 0.1
    bar = drawn["pair_model.n_layer_optimizer.lr"].axes[1]
    assert not bar.yaxis.get_major_formatter().get_useOffset()


@pytest.mark.parametrize(
    ("low", "high", "share", "expected"),
    [
        (0, 0, True, (-2, 102)),
        (100, 100, True, (-2, 102)),
        (0, 0, False, (0, 1)),
        (2, 2, False, (1.8, 2.2)),
        (-2, -2, False, (-2.2, -1.8)),
        (2, 2 + 1e-9, False, (1.8, 2.2)),
        (1, 2, False, None),
        (10, 99, True, None),
        (math.nan, math.nan, False, None),
    ],
)
def test_limits_are_given_where_values_are_equal(low, high, share, expected):
    assert plots.limits(low, high, share) == (None if expected is None else pytest.approx(expected))
