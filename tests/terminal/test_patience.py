"""What takes long says what it is doing, what does not stays silent, and what is shown fits 80 columns."""

import io
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.sums import arithmetic
from rich.console import Console
from started.programs import ROOT, run_program

from cleangpt.score import of_task
from cleangpt.sweeps.jobs import Job, Outcome
from cleangpt.sweeps.table import Board
from cleangpt.terminal import patience
from cleangpt.watch import tracking


class Told(patience.Voice):
    """Keeps what is said, and lets a test wait for it."""

    def __init__(self, draws: bool = False, width: int = 79):
        self.lines, self.drawn, self.logged = [], [], []
        self.is_terminal, self.columns, self.heard = draws, width, threading.Event()

    @property
    def draws(self) -> bool:
        return self.is_terminal

    @property
    def width(self) -> int:
        return self.columns

    def line(self, text):
        self.lines.append(text)
        self.heard.set()

    def log(self, text):
        self.logged.append(text)

    def draw(self, text):
        self.drawn.append(text)
        self.heard.set()


def progress(voice, what="Reading", total=None, unit="", wait=2.0):
    return patience.Progress(what, total, unit, voice, wait, began=100.0)


def test_what_is_over_within_two_seconds_says_nothing():
    voice = Told()
    reading = progress(voice)
    for now in (100.0, 101.0, 101.9):
        reading.look(now)
    assert voice.lines == []
    with patience.doing("Reading", voice=voice, wait=1000.0):
        pass
    assert voice.lines == []


def test_what_takes_longer_is_announced_once_in_a_pipe():
    voice = Told()
    reading = progress(voice)
    for now in (101.0, 102.0, 103.0, 110.0, 500.0):
        reading.look(now)
    assert voice.lines == ["Reading …"]


def test_a_count_is_told_every_five_seconds_with_the_time_left():
    voice = Told()
    reading = progress(voice, total=1000, unit="runs")
    for second in range(13):
        reading.done = 50 * second
        reading.look(100.0 + second)
    assert voice.lines == [
        "Reading: 100 of 1,000 runs, 0:18 left",
        "Reading: 350 of 1,000 runs, 0:13 left",
        "Reading: 600 of 1,000 runs, 0:08 left",
    ]


def test_a_terminal_has_one_line_that_moves_and_a_log_has_plain_ones():
    voice = Told(draws=True)
    reading = progress(voice, total=1000, unit="runs")
    for second in range(13):
        reading.done = 50 * second
        reading.look(100.0 + second)
    assert voice.lines == []
    assert len(voice.drawn) == 11
    assert len(voice.logged) == 3
    assert "━" in voice.drawn[-1]
    assert "━" not in "".join(voice.logged)


@pytest.mark.parametrize("width", [10, 40, 79, 200])
def test_a_line_that_moves_is_no_wider_than_the_terminal(width):
    voice = Told(draws=True, width=width)
    reading = progress(voice, "Scoring", 150_000_000, "problems")
    reading.done = 75_000_000
    reading.look(20_000.0)
    progress(voice, "Reading the weights of something with a long name").look(200.0)
    assert all(len(line) <= width for line in voice.drawn)


def test_each_part_of_a_work_is_told_by_its_name():
    voice = Told()
    reading = progress(voice, "Downloading", unit="bytes")
    for second in range(12):
        name = "Downloading" if second < 4 else "Tokenizing"
        reading.turn_to(name, 1_000_000 * second, 20_000_000 if second > 4 else None, 100.0 + second)
        reading.look(100.0 + second)
    assert voice.lines == [
        "Downloading: 2.0 MB",
        "Tokenizing: 4.0 MB",
        "Tokenizing: 9.0 MB of 20.0 MB, 0:06 left",
    ]


@pytest.mark.parametrize("draws", [False, True])
def test_a_thread_looks_and_is_gone_afterwards(draws):
    voice = Told(draws)
    with patience.doing("Thinking", voice=voice, wait=0.0):
        assert voice.heard.wait(60)
    assert not [thread for thread in threading.enumerate() if thread.name == "patience"]
    assert (voice.lines == ["Thinking …"]) == (not draws)
    assert not draws or voice.drawn[-1] == "", "the line is taken away"


def test_an_error_passes_and_leaves_the_line_clean():
    voice = Told(draws=True)

    def stopped() -> None:
        with patience.doing("Thinking", voice=voice, wait=0.0):
            assert voice.heard.wait(60)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert voice.drawn[-1] == ""
    assert patience.Progress._all == []


def test_only_the_innermost_of_two_speaks():
    outer, inner = Told(), Told()
    with patience.doing("Outer", voice=outer, wait=1000.0) as around:
        with patience.doing("Inner", voice=inner, wait=0.0):
            assert inner.heard.wait(60)
            around.look(around.began + 5000)
        assert outer.lines == []
        around.look(around.began + 5000)
    assert (outer.lines, inner.lines) == (["Outer …"], ["Inner …"])


def test_of_several_processes_only_the_first_speaks(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    with patience.doing("Thinking", wait=0.0) as thinking:
        thinking.advance()
        assert not [thread for thread in threading.enumerate() if thread.name == "patience"]
    assert capsys.readouterr().err == ""


IMPORT = """
import sys, time
from cleangpt.terminal import patience
patience.starting()
print("begun", flush=True)
sys.stdin.readline()
patience.started()
print("over", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("seconds", ["0", "inf"])
def test_a_slow_start_is_announced_by_another_process_once(seconds):
    environment = {**os.environ, "CLEANGPT_PATIENCE": seconds, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen([sys.executable, "-c", IMPORT], env=environment, text=True, **pipes)
    assert process.stdout.readline() == "begun\n"
    if seconds == "0":
        assert process.stderr.readline() == "Starting …\n"  # while it still goes on
    out, errors = process.communicate("\n\n", timeout=60)
    assert (process.returncode, out, errors) == (0, "over\n", "")


def test_a_program_announces_what_is_slow_once_and_keeps_its_output_clean(tmp_path):
    words = ["model=llama_tiny", "dataset.digits=1", "train.steps=3", "logger=quiet", f"hydra.run.dir={tmp_path}"]
    assert run_program("train.py", *words, cwd=tmp_path).returncode == 0
    asked, told_at_once = ["sample.py", f"run={tmp_path}", "prompt=1+2"], {"CLEANGPT_PATIENCE": "0"}
    quiet = run_program(*asked, cwd=tmp_path)
    told = run_program(*asked, cwd=tmp_path, env=told_at_once, real=True)  # which loads torch
    assert told.stdout == quiet.stdout
    lines = told.stderr.splitlines()
    assert lines.count("Starting …") == lines.count("Loading torch …") == lines.count("Reading the weights …") == 1
    assert "\r" not in told.stderr
    assert "\033" not in told.stderr
    assert not any("…" in line for line in quiet.stderr.splitlines())


# ---- 80 columns


LARGE = {"train/loss": 10.1234, "lr": 1.23e-4, "batch": 65536, "tokens_per_second": 12_345_678.0, "mfu": 0.456}


@pytest.mark.parametrize("steps", [400, 600_000])
def test_the_bar_of_a_training_fits_80_columns_with_the_time_left(tmp_path, steps, monkeypatch):
    from cleangpt.config.experiment import LoggerConfig
    from cleangpt.disk.rundir import RunDir

    given = {"progress": True, "plots": False, "samples": 0, "norms": None}
    config = LoggerConfig.model_construct(**given)
    monkeypatch.setenv("COLUMNS", "80")
    tracker = tracking.Tracker(RunDir(tmp_path), config, steps, speaks=True)
    tracker.console.file, tracker.console._force_terminal = io.StringIO(), True
    tracker.bar.update(tracker.task, completed=steps - 1, description=tracking.fitting(LARGE, 45296.0, tracker.room()))
    with tracker.console.capture() as captured:
        tracker.console.print(tracker.bar.get_renderable(), no_wrap=False)
    lines = [line for line in _plain(captured.get()).splitlines() if line.strip()]
    assert len(lines) == 1
    assert len(lines[0].rstrip()) <= 80
    for words in ("loss 10.1234", "tok/s", "12:34:56 left"):
        assert words in lines[0]
    assert "…" not in lines[0]
    tracker.close()


def test_where_there_is_room_all_is_said_in_full():
    full = "loss 10.1234  lr 1.23e-04  batch 65536  12,345,678 tokens/s  MFU 45.6%  12:34:56 left"
    assert tracking.fitting(LARGE, 45296.0, 200) == full
    shortened = [tracking.fitting(LARGE, 45296.0, room) for room in range(10, 100)]
    assert all(len(words) <= room for room, words in zip(range(10, 100), shortened, strict=True))


def _plain(text: str) -> str:
    from rich.text import Text

    return Text.from_ansi(text).plain


def _printed(tables: list, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, soft_wrap=True)
    for table in tables:
        console.print(table)
    return console.file.getvalue()


@pytest.mark.parametrize("digits", [3, 12])
@pytest.mark.parametrize("name", ["adder", "multiplier"])
def test_the_tables_of_a_score_fit_80_columns(digits, name, monkeypatch):
    from cleangpt.score import exact_match as scoring
    from cleangpt.score import layout

    class Knows:
        """Right but for a few."""

        class world:
            size = 1

        class stop:
            number = 0

        def share(self, count):
            return range(count)

        def gather(self, values):
            return values

        def predictions(self, batch):
            found = batch.targets.copy()
            found[::100] += 1
            return found, np.ones(found.shape)

        def decode(self, prompts, new_tokens, positions=None):
            return np.full((len(prompts), new_tokens), 12)

    monkeypatch.setattr(scoring, "prove", lambda *_: 256)
    task = arithmetic(digits=digits, name=name, split="ordered")
    score = of_task.score(task, Knows(), "test", 3000, "forced")
    assert score["wrong"]
    assert score["leak"]["mirrored_in_training"] or digits == 12
    many = {"problems": 1_000_000, "correct": 1_000_000, "accuracy": 1.0, "interval": [0.99999, 1.0]}
    score |= many
    score["leak"] = {"mirrored_in_training": 9, "leaked": many, "clean": many}
    text = _printed(layout.tables(task, score))
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("1,000,000") >= 6


def test_the_table_of_a_score_of_text_fits_80_columns():
    from cleangpt.score.language import tables

    row = {"context": "4097 to 8192", "tokens": 9_035_582_198, "loss": 10.1234, "next_token_accuracy": 0.5512}
    score = {**row, "task": "shakespeare_char", "complete": True, "split": "val", "window": 1024, "by_place": [row]}
    score |= {"interval": [10.1, 10.2], "perplexity": 22026.465, "bits_per_byte": 10.1234}
    text = _printed(tables(SimpleNamespace(measures=lambda loss: ["perplexity", "bits_per_byte"]), score))
    assert "…" not in text
    assert "9,035,582,198" in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_table_of_a_sweep_fits_80_columns(tmp_path):
    console = Console(file=io.StringIO(), width=80)
    board = Board(2, console)
    label = "model=llama_medium,optimizer.lr=0.00030000000000000003,schedule.grad_accum.style=power,seed=10"
    for number in (0, 1234):
        config = {"train": {"steps": 600_000}}
        board.started(Job(number, (), label, tmp_path / str(number), config))
        board.rows[number].watched.last = {"step": 599_999, "val/loss": 10.12345, "val/accuracy": 1.0}
    board.rows[0].outcome, board.rows[0].seconds = Outcome("early_stopped"), 45296.0
    console.file = io.StringIO()
    console.print(board.table(caption="1 of 2 ended, 1 running, 0 waiting"))
    text = console.file.getvalue()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    for words in ("599999/600000", "10.12345", "100.00%", "12:34:56"):
        assert words in text
