"""What is shown stays whole on terminals of 80 columns and fewer."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from cleangpt.config.experiment import LoggerConfig
from cleangpt.disk.rundir import RunDir
from cleangpt.report import write
from cleangpt.sample import conversation
from cleangpt.score import layout
from cleangpt.sweeps.jobs import Job, Outcome
from cleangpt.sweeps.table import Board
from cleangpt.terminal import narrow
from cleangpt.watch import profiling, tracking

WIDTHS = [120, 80, 60, 40]
ROW = {"train/loss": 2.71, "tokens_per_second": 127432.0, "lr": 5e-5, "batch": 1024, "mfu": 0.4}
OPERATION = "aten::_scaled_dot_product_flash_attention_for_cpu_backward"


def printed(what, width: int, soft: bool = True) -> str:
    text = io.StringIO()
    Console(file=text, width=width, highlight=False, soft_wrap=soft).print(what)
    return text.getvalue()


def is_within(text: str, width: int) -> bool:
    return all(len(line.rstrip()) <= width for line in text.splitlines())


# ---- tables


@pytest.mark.parametrize("width", WIDTHS)
def test_no_cell_of_a_table_is_cut_and_no_word_broken(width):
    rows = [
        {"run": n, "problems": 1000 + n, "correct": 999, "accuracy": 0.999, "interval": [0.97724, 0.99998]}
        for n in range(3)
    ]
    text = printed(layout.table("2-digit sums, all 1,499 problems of the test split, and more", ["run"], rows), width)
    assert is_within(text, width)
    words = re.findall(r"[^\s┏┳┓┃┡╇┩│└┴┘━─]+", text)
    assert {"run", "problems", "correct", "exact", "match", "interval", "1,000", "1,002", "99.900%"} <= set(words)
    assert words.count("99.998%") == 3
    assert ("│" in text) == (width >= 80)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_table_of_a_profile_has_its_numbers_whole_and_a_line_an_operation(width):
    table = profiling._table("Operations by their own CPU time in a step", "operation")
    table.add_column("calls", justify="right", no_wrap=True)
    for name in (OPERATION, "aten::mm"):
        table.add_row(narrow.Name(name), "10.05", "19.3%", "204")
    text = printed(table, width)
    assert is_within(text, width)
    assert len(re.findall(r"^.*aten::_sc.*10\.05.*19\.3%.*204.*$", text, re.MULTILINE)) == (width >= 50)
    assert (OPERATION in text) == (width >= 80)
    assert "backward" in text, "the end of a name says as much as its beginning"


def test_a_word_longer_than_the_line_makes_a_list_of_each_row():
    table = narrow.Table(title="Runs")
    for name in ("run", "best val/accuracy", "val/loss"):
        table.add_column(name)
    table.add_row("x" * 30, "1.00%", "0.12345")
    table.add_row("y", "2.00%", "1")
    lines = [line.strip() for line in printed(table, 50).splitlines()]
    first = [f"run                {'x' * 30}", "best val/accuracy  1.00%", "val/loss           0.12345", ""]
    assert lines == ["Runs", *first, "run                y", "best val/accuracy  2.00%", "val/loss           1"]
    assert printed(table, 30).count("x") == 30, "a word that is longer than any line goes on in the next"


@pytest.mark.parametrize("width", WIDTHS)
def test_a_report_on_the_console_is_whole(tmp_path, width):
    from helpers.compared import compared, make

    for n, model in enumerate(("gpt_tiny", "llama_tiny")):
        for seed in range(2):
            change = {"optimizer__lr": 0.003, "seed": seed, "model__name": model}
            make(tmp_path / f"{n}{seed}", 1.0, 0.5 + seed / 7, accuracy=[0.1, 0.5 + seed / 7 + n / 10], **change)
    table = write.spoken(compared(tmp_path))[0]
    text = printed(table, width)
    assert is_within(text, width)
    words = set(re.findall(r"[^\s┏┳┓┃┡╇┩│└┴┘━─]+", text))
    assert {"gpt_tiny", "llama_tiny", "val/accuracy", "interval"} <= words
    assert "100.00%" in words


# ---- the bar


@pytest.mark.parametrize("width", [110, 80, 60, 40])
@pytest.mark.parametrize("steps", [100, 18000, 1000000])
@pytest.mark.parametrize("now", [110, 80, 60, 40])
def test_the_count_of_steps_is_whole_in_the_bar_however_narrow_the_terminal_became(
    tmp_path, monkeypatch, width, steps, now
):
    monkeypatch.setenv("COLUMNS", str(width))
    config = LoggerConfig.model_construct(progress=True, plots=False)
    tracker = tracking.Tracker(RunDir(tmp_path), config, steps, speaks=True)
    tracker.console._width = width
    tracker.progress(steps * 845 // 1000, ROW, 30000.0)
    text = printed(tracker.bar.get_renderable(), now, soft=False)  # the terminal was made narrower since the last step
    assert f"{steps * 845 // 1000}/{steps}" in text
    assert text.count("\n") == 1
    tracker.console._width = now
    tracker.progress(steps * 845 // 1000, ROW, 30000.0)
    text = printed(tracker.bar.get_renderable(), now, soft=False)
    assert f"{steps * 845 // 1000}/{steps}" in text
    assert is_within(text, now)
    assert text.rstrip().endswith("8:20:00 left" if now > 40 or steps == 100 else "loss 2.7100")
    tracker.bar = None
    tracker.close()


def test_what_does_not_fit_into_the_bar_is_left_out_whole():
    whole = tracking.fitting(ROW, 30000.0, 200)
    words = {*re.split(" {2,}", whole), *re.split(" {2,}", tracking.fitting(ROW, 30000.0, 70))}
    for room in range(90):
        found = tracking.fitting(ROW, 30000.0, room)
        assert len(found) <= room
        assert set(filter(None, re.split(" {2,}", found))) <= words


@pytest.mark.parametrize("progress", ["auto", True])
def test_on_a_terminal_that_moves_nothing_there_are_lines_and_no_bar(tmp_path, monkeypatch, progress):
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr("sys.stdout", Terminal())
    config = LoggerConfig.model_construct(progress=progress, plots=False)
    tracker = tracking.Tracker(RunDir(tmp_path), config, 100, speaks=True)
    tracker.progress(100, ROW, 0.0)
    assert tracker.bar is None
    tracker.close()
    assert "step 100/100  loss 2.7100" in tracker.console.file.getvalue()
    board = Board(1)
    board.started(job(0))
    board.close()
    assert "0000 model=llama_tiny" in board.console.file.getvalue()


class Terminal(io.StringIO):
    def isatty(self):
        return True


# ---- a sweep


def job(number):
    label = "model=llama_tiny,optimizer.lr=0.003,dataset.reversed=False,seed=1"
    return Job(number, (), label, Path("nowhere"), {"train": {"steps": 18000}})


@pytest.mark.parametrize("width", WIDTHS)
def test_the_table_of_a_sweep_is_whole(width):
    board = Board(2, Console(file=io.StringIO(), width=width))
    for number in range(2):
        board.started(job(number))
        board.ended(
            job(number), Outcome("completed", summary={"step": 18000, "val/loss": 0.11714, "val/accuracy": 1.0})
        )
    text = printed(board.table(), width)
    assert is_within(text, width)
    words = re.findall(r"[^\s┏┳┓┃┡╇┩│└┴┘━─]+", text)
    for word in ("0001", "model=llama_tiny,", "dataset.reversed=False,", "18000/18000", "0.11714", "100.00%", "0:00"):
        assert word in words


# ---- a conversation


@pytest.mark.parametrize("width", WIDTHS)
def test_the_help_of_a_conversation_breaks_between_words(width):
    text = conversation.help_for(["emotion"], width)
    assert is_within(text, width)
    names = [*conversation.KNOBS, "emotion", "/temperature", "/settings", "/reset", "/help", "/quit", "Ctrl-C", "sets"]
    for name in names:
        assert re.search(rf"(?<![\w/]){re.escape(name)}(?!\w)", text), name
    shown = narrow.entries([("seed 0", "a whole number of at least 0 below 9223372036854775808")], width)
    assert is_within(shown, width)
    assert "9223372036854775808" in shown
