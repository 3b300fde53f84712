"""Text of somebody else is shown harmlessly: on a terminal, in a log, on a page, in a spreadsheet."""

import csv
import io
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from attacks import openings

from cleangpt.basics import files, shown
from cleangpt.basics.errors import ConfigError, UserError
from cleangpt.config import cli
from cleangpt.config.experiment import LoggerConfig
from cleangpt.disk.rundir import RunDir, find, read_config
from cleangpt.sample import text_model
from cleangpt.terminal.console import Console
from cleangpt.watch import loggers, tracking

KEPT = Path(__file__).resolve().parents[1] / "versions" / "2"
HOSTILE = "a\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\u2066\x7f\r\x08b\ud800"
BAD = set(map(chr, [*range(9), *range(11, 32), *range(127, 160), 0x202E, 0x2066, 0xD800]))


def harmless(text: str) -> bool:
    return not BAD & set(text)


def test_controls_and_turned_writing_are_shown_as_what_they_are():
    assert shown.visible("a\x1b[2J\n\té\x9b\x7f\r\u202e日本語 🙂") == "a␛[2J\n\té\\x9b␡␍\\u202e日本語 🙂"
    assert harmless(shown.visible(HOSTILE))
    shown.visible(HOSTILE).encode()
    assert shown.visible(shown.visible(HOSTILE)) == shown.visible(HOSTILE)
    assert shown.in_line("a\nb\x1b") == "a\\nb␛"
    assert len(shown.in_line("x" * 1000)) < 110


def test_every_error_of_a_user_is_harmless(capsys):
    for error in (UserError(f"x{HOSTILE}"), ConfigError([f"a{HOSTILE}", f"b{HOSTILE}"])):
        assert harmless(str(error))
        with pytest.raises(SystemExit):
            cli.leave(error)
        assert harmless(capsys.readouterr().err)


def test_a_failure_is_shown_harmlessly(capsys):
    def fails() -> int:
        raise RuntimeError(HOSTILE)

    with pytest.raises(SystemExit):
        cli.run(fails)
    said = capsys.readouterr().err
    assert "RuntimeError" in said
    assert harmless(said)


def test_a_console_keeps_its_colours_and_shows_nothing_of_others():
    from rich.table import Table

    file = io.StringIO()
    console = Console(file=file, force_terminal=True, color_system="standard", width=80)
    table = Table(title=HOSTILE)
    table.add_column(HOSTILE)
    table.add_row(HOSTILE.replace("[", "("))
    console.print(table)
    console.print(f"[red]word[/] {HOSTILE}")
    console.print(HOSTILE, markup=False)
    text = file.getvalue()
    assert "\x1b[31mword\x1b[0m" in text
    assert not {"\x07", "\x9b", "\u202e", "\x1b]"} & set(text)
    assert "\x1b]" not in text
    assert "\x1b[2J" not in text


def test_a_tracker_says_and_logs_harmlessly(tmp_path, capsys):
    config = LoggerConfig.model_validate(openings.composed("logger=quiet")["logger"])
    tracker = tracking.Tracker(RunDir(tmp_path), config, 10, speaks=True)
    tracker.say(f"sample {HOSTILE}")
    tracker.close()
    for text in (capsys.readouterr().out, (tmp_path / "train.log").read_text()):
        assert "sample a␛" in text
        assert harmless(text)


def test_a_terminal_is_not_sent_what_it_would_obey_and_a_pipe_gets_the_text(monkeypatch):
    assert text_model.on_screen(HOSTILE) == HOSTILE
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert harmless(text_model.on_screen(HOSTILE))


def test_cells_are_no_formulas(tmp_path):
    for text in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"):
        assert shown.cell(text).startswith("'")
        assert harmless(shown.cell(text))
    for value in (-1.5, -1, None, True, "0001_seed=1", "a=b", ""):
        assert shown.cell(value) == value


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """A run whose every word is hostile."""
    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(KEPT, tmp_path / "runs" / "=run")
    path = run / "run.json"
    about = files.read_json(path)
    about["overrides"] = [f"+experiment='={HOSTILE}'", f"dataset.name={HOSTILE}"]
    about["machine"] |= {"device": f"=cmd|' /C calc'!A0{HOSTILE}", "dtype": f"@{HOSTILE}"}
    path.write_text(json.dumps(about))
    summary = files.read_json(run / "summary.json") | {"error": f"={HOSTILE}<script>alert(1)</script>"}
    (run / "summary.json").write_text(json.dumps(summary))
    config = files.read_json(run / "config.json")
    config["dataset"]["name"] = f"={HOSTILE}<img src=x onerror=alert(1)>"
    config[f"=new{HOSTILE}"] = f"+{HOSTILE}"
    (run / "config.json").write_text(json.dumps(config))
    rows = [json.loads(line) | {f"val/={HOSTILE}": 1.0} for line in (run / "metrics.jsonl").read_text().splitlines()]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shutil.copytree(KEPT, tmp_path / "runs" / "other")
    return run


def test_a_report_on_a_hostile_run_is_harmless(hostile, tmp_path, capsys):
    assert openings.report(tmp_path / "runs", tmp_path / "report") == 0
    out = capsys.readouterr()
    assert harmless(out.out + out.err)
    for name in ("report.html", "report.md", "runs.csv", "groups.csv"):
        text = (tmp_path / "report" / name).read_text(encoding="utf-8")
        assert harmless(text), name
        if not name.endswith(".csv"):
            assert not re.search(r"(?<!\\)<(script>alert|img src=x)", text), name
    for name in ("runs.csv", "groups.csv"):
        with (tmp_path / "report" / name).open(newline="", encoding="utf-8") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        formulas = [cell for cell in cells if cell.startswith(shown.FORMULA)]
        assert all(_is_number(cell) for cell in formulas), formulas
    assert any(cell.startswith("'=") for cell in cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def test_the_csv_of_a_logger_holds_no_formulas(hostile):
    logger = loggers.Csv(RunDir(hostile), None, 10)
    logger.row({"step": 11, "train/loss": -1.5, "word": "=1+1"})
    with (hostile / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert (rows[-1]["train/loss"], rows[-1]["word"]) == ("-1.5", "'=1+1")
    assert harmless((hostile / "metrics.csv").read_text(encoding="utf-8"))


def test_what_sample_and_export_say_of_a_hostile_run_is_harmless(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(KEPT, tmp_path / "run\x1b[2J")
    assert openings.sample(run) == 0
    assert openings.score(run) == 0
    assert openings.export(run, tmp_path / "out\x1b[2J") == 0
    said = capsys.readouterr()
    assert "run␛[2J" in said.out
    assert "run␛[2J" in said.err
    assert harmless(said.out + said.err)


def test_the_card_of_a_run_is_harmless(hostile, tmp_path):
    from cleangpt.disk import card

    shutil.copy(KEPT / "config.json", hostile / "config.json")
    about = files.read_json(hostile / "run.json")
    about["changed"] = {f"a|{HOSTILE}\n# b": {"here": f"`{HOSTILE}`\n|"}}
    (hostile / "run.json").write_text(json.dumps(about))
    text = card.write(RunDir(hostile)).read_text(encoding="utf-8")
    assert harmless(text)
    assert "\n# b" not in text


def test_a_stored_key_with_escapes_is_refused_harmlessly(hostile):
    with pytest.raises(UserError) as refused:
        read_config(hostile / "config.json")
    assert str(refused.value).isprintable()
    assert find(str(hostile)).run is not None
