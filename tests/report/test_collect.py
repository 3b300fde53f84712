"""Runs are found wherever they lie, and read in whatever state they are."""

import json

import numpy as np
import pytest
from helpers.compared import compared, make, mean_of

from cleangpt.basics.errors import UserError
from cleangpt.report import collect, columns, tables, words

# ---- find


def test_runs_are_found_at_any_depth_each_once_and_in_their_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["deep/er/10", "deep/er/9", "a"]
    for name in names:
        make(tmp_path / "outputs" / name, 1.0)
    best = tmp_path / "outputs" / "a" / "best"
    best.mkdir()
    for name in ("config.json", "model.safetensors"):
        (best / name).write_text("{}")
    (tmp_path / "outputs" / "latest").symlink_to("a")
    elsewhere = make(tmp_path / "elsewhere" / "b", 1.0)
    (tmp_path / "outputs" / "link").symlink_to(elsewhere.parent)
    (tmp_path / "outputs" / "deep" / "around").symlink_to(tmp_path / "outputs")

    def found(asked):
        return [str(path.relative_to(tmp_path)) for path in collect.find(asked)]

    everything = ["elsewhere/b", "outputs/a", "outputs/deep/er/9", "outputs/deep/er/10"]
    assert found("outputs") == everything
    assert found("outputs/deep/er/*") == everything[2:]
    assert found("outputs/**/er/[0-9]") == everything[2:3]
    assert found(["outputs/a", "outputs/deep/er/9", "outputs/a"]) == everything[1:3]
    assert found("latest") == found("outputs/a/best") == ["outputs/a"]


@pytest.mark.parametrize("asked", ["nowhere", "empty", "no*thing", "latest", ["run", "nowhere"], "empt?"])
def test_what_names_no_run_is_one_sentence_that_names_it(tmp_path, monkeypatch, asked):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    make(tmp_path / "run", 1.0)
    with pytest.raises(UserError) as error:
        collect.find(asked)
    assert str(error.value).startswith("runs=" + (asked if isinstance(asked, str) else "nowhere"))
    assert "\n" not in str(error.value)


# ---- read


def test_columns_have_every_number_where_it_was_logged(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for step in range(1, 200):
        row = {"step": step, "lr": 1e-5 * step, "tokens": step * 7}
        if step % 3:
            row["train/loss"] = None if step == 50 else float(rng.normal() * 10.0 ** rng.integers(-30, 30))
        if step % 5 == 0:
            row |= {"val/loss": float(rng.random()), "val/by digit": 1, "best/val/loss": 3.0}
        rows.append(row | {"seconds": step / 7})
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = columns.read(path)
    assert found.bad == 0
    assert set(found.columns) == {"tokens", "seconds", "train/loss", "val/loss", "val/by digit"}
    for name, column in found.columns.items():
        pairs = [(row["step"], row[name]) for row in rows if name in row]
        assert column.steps.tolist() == [step for step, _ in pairs]
        np.testing.assert_array_equal(column.values, np.array([value for _, value in pairs], float))
    assert found.last == {name: next(row[name] for row in rows[::-1] if name in row) for name in sorted(found.last)}
    assert set(columns.read(path, ["*"]).columns) == {*found.columns, "lr", "best/val/loss"}


@pytest.mark.parametrize(
    ("text", "steps", "bad"),
    [
        ('{"step": 1, "val/loss": 1}\n{"step": 2, "val/lo', [1], 0),  # being written
        ('{"step": 1, "val/loss": 1}\n{"step": 2, "val/loss": 1}', [1, 2], 0),  # whole, without its end
        ('{"step": 1, "val/loss": 1}\n\0\0\0\n{"step": 3, "val/loss": 1}\n', [1, 3], 1),
        ('{"step": 1, "val/loss": 1}\n{"step": 2, "va{"step": 3, "val/loss": 1}\n', [1], 1),
        ('{"step": 1, "val/loss": "high"}\n{"step": 2, "val/loss": 1}\n', [2], 1),
        ('{"step": 2, "val/loss": 1}\n{"step": 1, "val/loss": 3}\n{"step": 2, "val/loss": 9}\n', [1, 2], 0),
        ("", [], 0),
        ("[]\n3\n", [], 2),
    ],
)
def test_lines_that_are_not_whole_are_counted_and_the_others_read(tmp_path, text, steps, bad):
    (tmp_path / "metrics.jsonl").write_text(text)
    found = columns.read(tmp_path / "metrics.jsonl")
    assert found.bad == bad
    assert (found.columns["val/loss"].steps.tolist() if found.columns else []) == steps
    if text.startswith('{"step": 2'):
        assert found.columns["val/loss"].values.tolist() == [3, 9], "what was written last"


def test_every_state_of_a_run_is_told_and_none_is_dropped(tmp_path):
    make(tmp_path / "0", 2.0, 1.0)
    make(tmp_path / "1", 2.0, status="stopped", seed=1)
    make(tmp_path / "2", 2.0, status=None, seed=2)
    make(tmp_path / "3", 2.0, seed=3)
    (tmp_path / "3" / "summary.json").write_text('{"status": "failed", "step": 10, "error": "loss is nan"}')
    make(tmp_path / "4", 2.0, seed=4)
    (tmp_path / "4" / "config.json").write_text('{"seed"')
    make(tmp_path / "5", 2.0, 1.5, seed=5)
    (tmp_path / "5" / "summary.json").write_text('{"status": "stopped", "step": 10}')
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "summary.json").write_text('{"status": "failed", "step": 0, "error": "out of memory"}')
    make(tmp_path / "8", 1.0, status="early_stopped", seed=8)
    (tmp_path / "8" / "metrics.jsonl").write_text('{"step": 10, "val/loss": 3}\nbroken\n')
    found = compared(tmp_path)
    states = ["completed", "stopped", "cut_off", "failed", "unreadable", "cut_off", "failed", "early_stopped"]
    assert [run.status for run in found.runs] == states
    assert [run.name for run in found.runs] == ["0", "1", "2", "3", "4", "5", "7", "8"]
    said = "\n".join(words.remarks(found))
    for sentence in (
        "2 (cut off): It was cut off",
        "3 (failed): loss is nan",
        "4 (unreadable): config.json can't be read",
        "5 (cut off): It went on after it stopped at step 10.",
        "7 (failed): config.json is not there",
        "out of memory",
        "8 (early stopped): 1 line of metrics.jsonl can't be read.",
        "job 6 of its 9 left no run: refused, removed, or not begun.",
        "1 (stopped); 2 (cut off); 3 (failed); 5 (cut off)",
    ):
        assert sentence in said
    assert [cells[0].text for cells in tables.of_runs(found).rows] == [run.name for run in found.runs]
    (group,) = found.groups
    assert [run.name for run in group.finished] == ["0", "8"]
    assert mean_of(found, group) == (2, 2.0)
    assert "8 runs: 1 completed, 1 stopped, 2 cut off, 2 failed, 1 unreadable, 1 early stopped" in words.statuses(found)
