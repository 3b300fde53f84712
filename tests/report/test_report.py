"""The files of a report: whole, escaped, and with every digit."""

import csv
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers.compared import compared, make

from cleangpt.basics.errors import UserError
from cleangpt.report import write


class Page(HTMLParser):
    """What a page holds: texts, tags, and whether all that is opened is closed."""

    VOID = ("meta", "input", "br", "img")

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.tags, self.links = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep <b>&")
    runs = folder / "runs"
    n = 0
    for layers in (1, 2):
        for lr in (0.001, 0.01, 0.1):
            for seed in (0, 1):
                final = lr * 10 + layers + seed / 3
                chosen = {"model__n_layer": layers, "optimizer__lr": lr, "seed": seed, "dataset__note": "<i>|$x$"}
                make(runs / str(n), 9.0, final, accuracy=[0.1, 1 / (1 + final)], **chosen)
                n += 1
    make(runs / str(n), 9.0, status="failed", accuracy=[0.05], dataset__note="<script>alert(1)</script>")
    found = compared(runs)
    return folder, found, write.write(found, folder / "out", "runs of <b>")


def test_every_file_is_written_and_every_picture_drawn(written):
    folder, _, made = written
    names = {path.name for path in made}
    assert {path.name for path in (folder / "out").iterdir()} == names
    assert {"report.html", "report.md", "runs.csv", "groups.csv"} <= names
    for name in ("val_loss", "val_accuracy", "train_loss", "effect_optimizer.lr", "effect_model.n_layer"):
        assert (folder / "out" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "pair_model.n_layer_optimizer.lr.png" in names


def test_the_page_is_whole_needs_nothing_and_escapes_what_it_shows(written):
    folder, _, _ = written
    text = (folder / "out" / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\((?!#)", text)
    beside = ("report.md", "runs.csv", "groups.csv")
    assert [
        link for link in page.links if not link.startswith(("#", "data:image/png;base64,")) and link not in beside
    ] == []
    assert page.tags.count("script") == 1
    assert "default-src 'none'" in text
    assert "{{" not in text
    assert "alert(1)" in "".join(page.texts)
    assert "<b>" not in text
    assert "<i>|" not in text
    assert "<h1>runs of &lt;b&gt;</h1>" in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    for reference in re.findall(r'(?:href="#|url\(#)([^")]+)', text):
        assert reference in ids
    assert page.tags.count("svg") == 3 * 3 + 2 + 1  # three metrics on three axes, two effects, and the pair of keys


def test_the_page_has_what_sorting_and_searching_need(written):
    folder, found, _ = written
    text = (folder / "out" / "report.html").read_text()
    assert '<input type="search" id="search"' in text
    for name, rows in {"groups": len(found.groups), "runs": len(found.runs)}.items():
        table = re.search(rf'<table id="{name}">.*?</table>', text, re.DOTALL)[0]
        assert table.count("<tr ") == rows
        heads = table.count("<th ")
        assert heads == table.count("<button")
        assert table.count("<td") == table.count("data-value=") == rows * heads
    for group in range(len(found.groups)):
        assert f'class="curve curve-{group}"' in text
        assert f'<tr data-group="{group}"' in text
    for name in ("prefers-color-scheme: dark", 'name="viewport"', "max-width: 43rem"):
        assert name in text


def test_the_csv_has_every_digit_of_every_run_and_setting(written):
    folder, _, _ = written
    runs = list(csv.DictReader((folder / "out" / "runs.csv").open()))
    assert [row["run"] for row in runs] == [str(n) for n in range(13)]
    assert [row["status"] for row in runs] == ["completed"] * 12 + ["failed"]
    assert float(runs[1]["final val/loss"]) == 0.01 + 1 + 1 / 3
    assert runs[1]["schedule.lr.begin"] == "0.001"
    assert runs[12]["dataset.note"] == "<script>alert(1)</script>"
    groups = list(csv.DictReader((folder / "out" / "groups.csv").open()))
    row = next(row for row in groups if (row["model.n_layer"], row["optimizer.lr"]) == ("2", "0.1"))
    values = [3.0, 3.0 + 1 / 3]
    assert (row["runs"], row["finished"], row["final val/loss count"]) == ("2", "2", "2")
    assert float(row["final val/loss mean"]) == pytest.approx(np.mean(values))
    assert float(row["final val/loss sd"]) == pytest.approx(np.std(values, ddof=1))
    half = 12.7062 * np.std(values, ddof=1) / math.sqrt(2)
    assert float(row["final val/loss high"]) == pytest.approx(np.mean(values) + half, rel=1e-5)
    assert groups[-1]["final val/loss mean"] == ""


def test_the_markdown_has_tables_of_equal_width_and_escapes(written):
    folder, found, _ = written
    text = (folder / "out" / "report.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(found.groups) + 2 + len(found.runs)
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in lines]
    assert len(set(widths)) == 2
    assert "<script>" not in text
    assert "![val/loss](val_loss.png)" in text
    assert "12 (failed)" in text


def test_text_metrics_are_drawn_like_any_other(tmp_path):
    for seed in range(2):
        run = make(tmp_path / str(seed), 2.0, 1.0, seed=seed)
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        rows = [{**row, "val/perplexity": math.exp(row["val/loss"]), "val/bits_per_byte": 0.4} for row in rows]
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        summary = json.loads((run / "summary.json").read_text())
        (run / "summary.json").write_text(json.dumps({**summary, "test/loss": 1.2, "test/tokens": 99}))
    found = compared(tmp_path)
    assert [metric.name for metric in found.metrics] == [
        "val/loss",
        "test/loss",
        "val/bits_per_byte",
        "val/perplexity",
    ]
    made = {path.name for path in write.write(found, tmp_path / "out", None)}
    assert {"val_perplexity.png", "val_bits_per_byte.png"} <= made
    assert "val_accuracy.png" not in made


def test_runs_that_have_nothing_yet_are_still_a_report(tmp_path):
    make(tmp_path / "0", status=None)
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "config.json").write_text("{")
    text = ""
    for path in write.write(compared(tmp_path), tmp_path / "out", None):
        text += path.read_text() if path.suffix != ".png" else ""
    assert "cut off" in text
    assert "unreadable" in text


def test_where_a_report_goes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [make(tmp_path / "x" / name, 1.0) for name in "ab"]
    assert str(write.folder_for(paths, None)) == "x/report"
    assert str(write.folder_for(paths[:1], None)) == "x/a/report"
    assert str(write.folder_for(paths, "there")) == "there"
    with pytest.raises(UserError, match="out="):
        write.folder_for([paths[0], paths[0].__class__("/elsewhere/run")], None)
