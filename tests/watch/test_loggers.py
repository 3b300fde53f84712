"""TensorBoard, wandb and CSV: one run before and after a resume, and never a reason to stop."""

import csv
import json
import sys
from types import SimpleNamespace

import pytest
from helpers.trainings import fit, make_trainer, rows

from cleangpt.basics import extras
from cleangpt.training import ending
from cleangpt.watch import loggers

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


def records(path):
    """What wandb wrote, as messages of its own: its file is a log in the format of LevelDB, behind seven bytes."""
    from wandb.proto import wandb_internal_pb2

    data = path.read_bytes()
    assert data[:4] == b":W&B"
    found, parts, place, block = [], b"", 7, 32768
    while place + 7 <= len(data):
        if block - place % block < 7:  # no head fits into what is left of the block
            place += block - place % block
            continue
        size, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        parts += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            found.append(wandb_internal_pb2.Record.FromString(parts))
            parts = b""
    return found


def test_wandb_continues_one_run_offline_where_there_is_no_key(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no_netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "no_settings"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    for number, snapshot in enumerate((None, tmp_path / "snapshots" / "step_00000003")):
        trainer = make_trainer(tmp_path, *OPTIONS, "logger.wandb=true", snapshot=snapshot)
        ending._write_summary(trainer, ending._summary(trainer, trainer.fit()))
        trainer.tracker.close()
        assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == number + 1
    name = json.loads((tmp_path / "wandb_id.json").read_text())
    parts = sorted((tmp_path / "wandb").glob(f"offline-run-*-{name}/run-{name}.wandb"))
    assert len(parts) == 2, "both belong to one run"
    logged = {row["step"]: row for row in rows(tmp_path)}
    for part, steps in zip(parts, ([1, 2, 3, 4, 5, 6], [4, 5, 6]), strict=True):
        found = records(part)
        assert {record.run.run_id for record in found if record.HasField("run")} == {name}
        config, summary = {}, {}
        for record in found:
            for item in [*record.run.config.update, *record.config.update]:
                config[item.key] = json.loads(item.value_json)
            for item in record.summary.update:
                summary[".".join(item.nested_key) or item.key] = json.loads(item.value_json)
        stored = trainer.config.model_dump(mode="json")
        assert {key: config[key] for key in stored} == stored
        assert (summary["status"], summary["tokens"]) == ("completed", trainer.state.tokens)
        assert summary["best/val/loss"] == trainer.state.best["val/loss"]
        assert [record.exit.exit_code for record in found if record.HasField("exit")] == [0]
        history = [
            {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            for record in found
            if record.HasField("history")
        ]
        assert [row["_step"] for row in history] == steps
        for row in history:
            for key in ("train/loss", "lr", "grad_norm", "tokens"):
                assert row[key] == logged[row["_step"]][key]


def test_a_failed_run_is_a_failed_run_of_wandb(tmp_path, monkeypatch):
    ends = []
    run = SimpleNamespace(log=lambda *_, **__: None, summary={}, finish=lambda exit_code: ends.append(exit_code))
    module = SimpleNamespace(login=lambda **_: False, init=lambda **_: run)
    monkeypatch.setitem(sys.modules, "wandb", module)
    for status in ("completed", "stopped", "failed"):
        trainer = make_trainer(tmp_path / status, "logger.wandb=true")
        trainer.tracker.log_to(trainer.config, 0)
        trainer.tracker.finish({"status": status})
        trainer.tracker.close()
    assert ends == [0, 0, 1]


@pytest.mark.parametrize(
    ("environment", "has_key", "mode"),
    [({}, False, "offline"), ({}, True, "online"), ({"WANDB_MODE": "disabled"}, True, "disabled")],
)
def test_wandb_is_online_where_there_is_a_key(tmp_path, monkeypatch, environment, has_key, mode):
    asked = {}
    module = SimpleNamespace(login=lambda prompt, verify: has_key, init=lambda **settings: asked.update(settings))
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    trainer = make_trainer(tmp_path)
    loggers.Wandb(trainer.run, trainer.config, 0)
    assert (asked["mode"], asked["resume"], asked["project"]) == (mode, "allow", "cleangpt")


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
    assert (f"install it by `{extras.command('wandb')}`" in "".join(said)) == (when == "not installed")
