"""The index of runs sees what is new, what changed and what is gone, and reads nothing twice."""

import json
import os

import pytest
from started.programs import run_program

from cleangpt.disk import alive
from cleangpt.follow import index as follow
from cleangpt.follow.index import Index

CONFIG = {"version": 4, "seed": 0, "train": {"steps": 100}, "dataset": {"name": "adder"}}


def make(folder, rows=1, summary=None):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "run.json").write_text(json.dumps({"started": "2026-01-01T10:00:00+0000"}))
    log(folder, range(1, rows + 1))
    if summary:
        (folder / "summary.json").write_text(json.dumps(summary))


def log(folder, steps, **more):
    with (folder / "metrics.jsonl").open("a") as file:
        for step in steps:
            file.write(json.dumps({"step": step, "val/loss": 1 / step, "seconds": 2.0 * step, **more}) + "\n")


def stands(index):
    index.refresh()
    return {entry.name: (entry.status, entry.step) for entry in index.entries.values()}


def test_runs_appear_change_and_go(tmp_path):
    make(tmp_path / "a", 3, {"status": "completed", "step": 3})
    make(tmp_path / "sweep" / "0000_seed=0", 2)
    index = Index([tmp_path])
    assert stands(index) == {"a": ("completed", 3), "sweep/0000_seed=0": ("cut_off", 2)}
    assert not index.refresh(), "nothing changed"
    log(tmp_path / "sweep" / "0000_seed=0", [3, 4])
    make(tmp_path / "sweep" / "0001_seed=1", 1)
    assert stands(index)["sweep/0000_seed=0"] == ("cut_off", 4)
    (tmp_path / "sweep" / "0001_seed=1").rename(tmp_path / "b")
    assert set(stands(index)) == {"a", "sweep/0000_seed=0", "b"}


def test_only_new_lines_are_read(tmp_path, monkeypatch):
    make(tmp_path / "a", 5)
    index = Index([tmp_path])
    index.refresh()
    read = []
    monkeypatch.setattr(follow, "read_row", lambda line: read.append(line))
    log(tmp_path / "a", [6])
    with (tmp_path / "a" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7')
    index.refresh()
    assert [json.loads(line)["step"] for line in read if line] == [6]


def test_the_end_of_a_long_file_is_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(follow, "TAIL", 200)
    make(tmp_path / "a", 500)
    assert stands(Index([tmp_path])) == {"a": ("cut_off", 500)}


def test_a_resume_rewinds(tmp_path):
    run = tmp_path / "a"
    make(run, 9, {"status": "stopped", "step": 9})
    index = Index([tmp_path])
    assert stands(index) == {"a": ("stopped", 9)}
    (run / "new").write_text("".join((run / "metrics.jsonl").read_text().splitlines(keepends=True)[:5]))
    os.replace(run / "new", run / "metrics.jsonl")
    log(run, range(6, 30), grad_norm=1.0)
    assert stands(index)["a"] == ("cut_off", 29)
    (entry,) = index.entries.values()
    assert entry.last["grad_norm"] == 1.0
    (run / "metrics.jsonl").write_text(json.dumps({"step": 2, "val/loss": 7}) + "\n")
    assert stands(index)["a"][1] == 2
    assert "grad_norm" not in entry.last


def test_a_run_that_lives_has_a_time_left(tmp_path, monkeypatch):
    make(tmp_path / "a", 10)
    monkeypatch.setattr(alive, "lives", lambda run: True)
    index = Index([tmp_path])
    assert stands(index) == {"a": ("running", 10)}
    (entry,) = index.entries.values()
    assert entry.seconds_left() == pytest.approx(180.0)
    monkeypatch.setattr(alive, "lives", lambda run: False)
    assert index.refresh(), "that it died is a change, though no file says so"
    assert entry.seconds_left() is None


def test_what_is_broken_or_hostile_is_listed_too(tmp_path):
    make(tmp_path / "a\x1b[31m", 1)
    for name, file, content in (
        ("b", "config.json", "{"),
        ("c", "run.json", "[]"),
        ("d", "summary.json", '{"status": ["x"]}'),
        ("e", "metrics.jsonl", "\0\xff\n"),
        ("f", "run.json", '{"resumed": 3}'),
        ("g", "summary.json", "null"),
    ):
        make(tmp_path / name, 1)
        (tmp_path / name / file).write_text(content)
    (tmp_path / "loop").symlink_to(tmp_path)
    found = stands(Index([tmp_path]))
    assert len(found) == 7
    assert not any("\x1b" in name for name in found)
    assert found["b"][0] == "unreadable"


def test_runs_are_listed_in_a_terminal(tmp_path):
    make(tmp_path / "outputs" / "a", 3, {"status": "completed", "step": 3})
    make(tmp_path / "outputs" / "b", 2)
    done = run_program("eval/runs.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 runs: 1 completed, 1 cut off" in done.stdout
    assert "3/100" in done.stdout
    chosen = run_program("eval/runs.py", "status=[cut_off]", cwd=tmp_path).stdout
    assert "2/100" in chosen
    assert "3/100" not in chosen
    assert "1 more" in run_program("eval/runs.py", "limit=1", cwd=tmp_path).stdout
