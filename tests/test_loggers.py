"""TensorBoard, wandb and CSV: one run before and after a resume, and never a reason to stop."""

import csv
import json

import pytest
from runs import fit, make_trainer, rows

from cleangpt import loggers

OPTIONS = ("train.steps=6", "train.snapshot_every=3", "train.keep_snapshots=null")


def interrupted_and_resumed(folder, *options):
    """A run that got to step 6 and was then continued from its snapshot of step 3."""
    for snapshot in (None, folder / "snapshots" / "step_00000003"):
        trainer = fit(folder, *OPTIONS, *options, snapshot=snapshot)
    return trainer


def test_tensorboard_shows_each_step_once_after_a_resume(tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    interrupted_and_resumed(tmp_path, "logger.tensorboard=true")
    events = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for key in ("train/loss", "lr", "val/loss"):
        logged = {row["step"]: row[key] for row in rows(tmp_path) if key in row}
        shown = [(event.step, pytest.approx(event.value, rel=1e-5)) for event in events.Scalars(key)]
        assert shown == list(logged.items())


def test_wandb_continues_one_run_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    interrupted_and_resumed(tmp_path, "logger.wandb=true")
    name = json.loads((tmp_path / "wandb_id.json").read_text())
    parts = list((tmp_path / "wandb").glob("offline-run-*"))
    assert parts
    assert all(part.name.endswith(name) for part in parts)


def test_csv_has_the_rows_of_metrics_jsonl(tmp_path):
    interrupted_and_resumed(tmp_path, "logger.csv=true")
    with (tmp_path / "metrics.csv").open(newline="") as file:
        table = [{k: v for k, v in row.items() if v != ""} for row in csv.DictReader(file)]
    assert table == [{key: str(value) for key, value in row.items()} for row in rows(tmp_path)]


@pytest.mark.parametrize("when", ["not installed", "start", "row"])
def test_a_logger_that_fails_warns_once_and_training_goes_on(tmp_path, monkeypatch, when):
    class Fails:
        def __init__(self, *_):
            if when == "not installed":
                raise ImportError("No module named 'wandb'")
            if when == "start":
                raise RuntimeError("no key")

        def row(self, _):
            raise RuntimeError("the server is gone")

    monkeypatch.setitem(loggers.LOGGERS, "wandb", Fails)
    trainer = make_trainer(tmp_path, "logger.wandb=true")
    said = []
    monkeypatch.setattr(trainer.tracker, "say", said.append)
    assert trainer.fit() == "completed"
    assert len([line for line in said if "logger wandb is left out" in line]) == 1
    assert ("pip install 'cleangpt[wandb]'" in "".join(said)) == (when == "not installed")
