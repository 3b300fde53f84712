"""Comparing runs: what is found, what differs, the numbers, and the files that are left."""

import csv
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers import toy

from cleangpt import tasks
from cleangpt.basics.errors import UserError
from cleangpt.config.experiment import parse, resolve
from cleangpt.report import collect, columns, estimate, tables, words, write
from cleangpt.report.compare import compare
from cleangpt.report.differences import DERIVED
from cleangpt.report.estimate import Estimate, along, curve
from cleangpt.runs import migrations

CONFIG = {
    "seed": 0,
    "resume": None,
    "dataset": {"name": "adder", "digits": 2},
    "model": {"name": "llama", "n_layer": 1, "block_size": 9},
    "optimizer": {"name": "adamw", "lr": 0.001, "weight_decay": 0.1},
    "schedule": {"lr": {"begin": 0.001, "end": 0.0}},
}


def make(path, *losses, status="completed", accuracy=None, overrides=None, **changes):
    """A run directory with an evaluation every 10 steps; `changes` by dotted key, with __ for the dot."""
    config = json.loads(json.dumps(CONFIG))
    for key, value in changes.items():
        section, leaf = config, key.split("__")[-1]
        for part in key.split("__")[:-1]:
            section = section.setdefault(part, {})
        section[leaf] = value
    if "schedule__lr__begin" not in changes:
        config["schedule"]["lr"]["begin"] = config["optimizer"]["lr"]
    rows = []
    for number, loss in enumerate(losses, 1):
        row = {"step": 10 * number, "train/loss": None if loss is None else loss + 0.5, "tokens": 1000 * number}
        row |= {"val/loss": loss, "seconds": 60.0 * number}
        if accuracy:
            row["val/accuracy"] = accuracy[number - 1]
        rows.append(row)
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(migrations.stamped(config)))
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if overrides is not None:
        (path / "run.json").write_text(json.dumps({"overrides": overrides, "parameters": {"total": 1234}}))
    if status:
        summary = {"status": status, "step": 10 * len(losses), "tokens": 1000 * len(losses), "seconds": 77.0}
        (path / "summary.json").write_text(json.dumps(summary))
    return path


def compared(folder, metric=None):
    return compare(collect.read(collect.find(str(folder))), metric)


def mean_of(found, group):
    """Over how many seeds the final value of a group is estimated, and its mean."""
    estimated = found.final(group, found.metric)
    return estimated.count, estimated.mean


def sweep(folder, seeds=(0, 1, 2)):
    """Two learning rates with known final losses: 1, 2, 3 and 2, 4, 6."""
    for seed in seeds:
        make(folder / str(seed), 5.0, 1.0 + seed, seed=seed)
        make(folder / str(len(seeds) + seed), 0.5, 2.0 + 2 * seed, seed=seed, optimizer__lr=0.01)
    return folder


# ---- statistics


def test_students_t_is_that_of_the_tables():
    for degrees, t in {1: 12.7062, 2: 4.30265, 3: 3.18245, 9: 2.26216, 30: 2.04227, 1000: 1.96234}.items():
        assert estimate.student_t(degrees) == pytest.approx(t, rel=2e-6)
    assert estimate.student_t(9, level=0.99) == pytest.approx(3.24984, rel=2e-6)


def test_an_estimate_is_that_of_hand():
    found = estimate.estimate([1.0, 2.0, 3.0])
    assert (found.count, found.mean, found.sd) == (3, 2.0, 1.0)
    assert (found.low, found.high) == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)))
    assert estimate.estimate([0.99, 1.0], (0.0, 1.0)).high == 1.0, "an accuracy is no more than all"


def test_one_seed_has_no_spread_and_none_has_no_mean():
    assert estimate.estimate([2.0]) == Estimate(1, 2.0, None, None, None)
    assert estimate.estimate([]) == Estimate(0, None, None, None, None)
    assert estimate.difference(estimate.estimate([1.0]), estimate.estimate([1.0, 2.0])) is None


def test_a_difference_is_that_of_welch():
    found = estimate.difference(estimate.estimate([2.0, 4.0, 6.0]), estimate.estimate([1.0, 2.0, 3.0]))
    # degrees = (1/3 + 4/3)^2 / ((1/3)^2 / 2 + (4/3)^2 / 2) = 2.9412, t = 3.21876, error = sqrt(5/3)
    assert found == pytest.approx((2.0, 2 - 4.155399, 2 + 4.155399), abs=1e-5)
    same = estimate.estimate([1.0, 1.0])
    assert estimate.difference(same, same) is None, "no spread, nothing to judge by"


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
    states = ["completed", "stopped", "unfinished", "failed", "unreadable", "unfinished", "failed", "early_stopped"]
    assert [run.status for run in found.runs] == states
    assert [run.name for run in found.runs] == ["0", "1", "2", "3", "4", "5", "7", "8"]
    said = "\n".join(words.remarks(found))
    for sentence in (
        "2 (unfinished): No summary yet",
        "3 (failed): loss is nan",
        "4 (unreadable): config.json can't be read",
        "5 (unfinished): It went on after it stopped at step 10.",
        "7 (failed): config.json is not there",
        "out of memory",
        "8 (early stopped): 1 line of metrics.jsonl can't be read.",
        "job 6 of its 9 left no run: refused, removed, or not begun.",
        "1 (stopped); 2 (unfinished); 3 (failed); 5 (unfinished)",
    ):
        assert sentence in said
    assert [cells[0].text for cells in tables.of_runs(found).rows] == [run.name for run in found.runs]
    (group,) = found.groups
    assert [run.name for run in group.finished] == ["0", "8"]
    assert mean_of(found, group) == (2, 2.0)
    assert "8 runs: 1 completed, 1 stopped, 2 unfinished, 2 failed, 1 unreadable, 1 early stopped" in words.statuses(
        found
    )


# ---- compare


def test_runs_that_differ_by_their_seed_are_one_setting_with_the_numbers_of_hand(tmp_path):
    found = compared(sweep(tmp_path))
    assert [group.label for group in found.groups] == ["lr=0.001", "lr=0.01"]
    assert [group.seeds for group in found.groups] == [[0, 1, 2], [0, 1, 2]]
    (key,) = found.keys
    assert (key.name, key.followers) == ("optimizer.lr", ["schedule.lr.begin"])
    low, high = (found.final(group, found.metric) for group in found.groups)
    assert (low.count, low.mean, low.sd) == (3, 2.0, 1.0)
    assert low.high == pytest.approx(2 + 4.302653 / math.sqrt(3))
    assert low.low == 0, "a loss is not below 0, whatever t says"
    assert (high.mean, high.sd) == (4.0, 2.0)
    assert found.best(found.groups[1], found.metric).mean == 0.5, "at the first evaluation of each"
    assert [group.label for group in found.ranking()] == ["lr=0.001", "lr=0.01"]
    first, second = words.findings(found)
    assert first == "Best final val/loss: lr=0.001, 2.000 ± 1.0 over 3 seeds."
    assert "is 2, 95% interval -2.16 to 6.16 (Welch): these seeds do not tell them apart" in second
    assert found.common["model.n_layer"] == 1
    assert not {"optimizer.lr", "seed", "schedule.lr.begin"} & set(found.common)


def test_more_accuracy_is_better_and_less_loss(tmp_path):
    make(tmp_path / "0", 3.0, 1.0, accuracy=[0.9, 0.2])
    make(tmp_path / "1", 3.0, 2.0, accuracy=[0.1, 0.8], optimizer__lr=0.1)
    by_default, by_loss = compared(tmp_path), compared(tmp_path, "val/loss")
    assert [found.metric.name for found in (by_default, by_loss)] == ["val/accuracy", "val/loss"]
    assert [found.ranking()[0].label for found in (by_default, by_loss)] == ["lr=0.1", "lr=0.001"]
    assert by_default.runs[0].best("val/accuracy", 1) == (0.9, 10)
    assert by_default.runs[0].best("val/loss", -1) == (1.0, 20)
    names = ("val/perplexity", "val/bits_per_byte", "test/accuracy")
    assert [by_default.metric_of(name).sign for name in names] == [-1, -1, 1]
    with pytest.raises(UserError, match=r"`metric` is val/acuracy, .* did you mean `val/accuracy`"):
        compared(tmp_path, "val/acuracy")


def test_settings_that_are_as_good_as_each_other_have_no_winner(tmp_path):
    for n in range(2):
        make(tmp_path / str(n), 1.0, optimizer__lr=0.1 + n)
    found = compared(tmp_path)
    assert found.winner() is None
    assert words.findings(found) == ["2 settings share the best final val/loss, 1.000."]
    make(tmp_path / "2", 0.5, optimizer__lr=3.0)
    found = compared(tmp_path)
    assert found.winner() is found.groups[2]
    assert "can't be told: that takes several seeds of both" in words.findings(found)[1]


def test_a_last_value_that_is_not_finite_is_said_and_is_no_earlier_one(tmp_path):
    make(tmp_path / "0", 2.0, None)
    make(tmp_path / "1", 2.0, 1.0, seed=1)
    found = compared(tmp_path)
    (group,) = found.groups
    assert math.isnan(found.runs[0].final("val/loss"))
    assert mean_of(found, group) == (1, 1.0)
    assert found.best(group, found.metric).mean == 1.5
    assert "0 ended without a finite val/loss, and is left out of the mean." in found.notes
    assert [row[4].text for row in tables.of_runs(found).rows] == ["not finite", "1.000"]
    assert tables.of_groups(found).rows[0][1].text == "1 of 2"


def test_a_seed_that_ran_twice_counts_once(tmp_path):
    for name in ("a", "b"):
        make(tmp_path / name, 1.0)
    make(tmp_path / "c", 4.0, seed=1, resume="outputs/x")
    found = compared(tmp_path)
    (group,) = found.groups
    assert mean_of(found, group) == (2, 2.5)
    assert "a and b have one configuration and one seed: they count as one." in found.notes


def test_a_choice_of_a_model_is_one_key_and_what_it_brings_follows(tmp_path):
    for n, (option, brings) in enumerate({"gpt_tiny": {"model__bias": True}, "llama_tiny": {"model__ffn": 3}}.items()):
        for seed in range(2):
            chosen = {"model__name": option[:-5], **brings, "seed": seed}
            make(tmp_path / f"{n}{seed}", 1.0, overrides=[f"model={option}", f"seed={seed}"], **chosen)
    found = compared(tmp_path)
    (key,) = found.keys
    assert (key.name, sorted(key.followers)) == ("model", ["model.bias", "model.ffn", "model.name"])
    assert [group.label for group in found.groups] == ["model=gpt_tiny", "model=llama_tiny"]
    for run in found.runs:  # without the record of the command line, the architecture is what decides
        (run.path / "run.json").unlink()
    assert [key.name for key in compared(tmp_path).keys] == ["model.name"]


def test_keys_that_were_swept_together_are_not_taken_for_one(tmp_path):
    for n, (layers, digits) in enumerate([(1, 1), (2, 2), (4, 3)]):
        chosen = {"model__n_layer": layers, "dataset__digits": digits, "model__block_size": 3 * digits + 3}
        make(tmp_path / str(n), 1.0, overrides=[f"model.n_layer={layers}", f"dataset.digits={digits}"], **chosen)
    keys = {key.name: key.followers for key in compared(tmp_path).keys}
    assert set(keys) == {"model.n_layer", "dataset.digits"}
    assert [name for names in keys.values() for name in names] == ["model.block_size"]


def test_what_the_configuration_derives_is_known_here():
    filled = set()
    for options in (["model=llama", "schedule=constant"], ["model=gpt"]):
        config = parse(toy(*options))
        before = collect.dotted(config.model_dump(mode="json"))
        after = collect.dotted(resolve(config, tasks.make(config.dataset)).model_dump(mode="json"))
        filled |= {name for name in after if after[name] != before[name]}
    assert filled <= set(DERIVED)
    assert {"model.block_size", "model.ffn_dim", "schedule.lr.begin", "schedule.weight_decay.end"} <= filled


# ---- how they were computed


def computed(folder, *machines, **changes):
    """A run with these machines, one a part."""
    path = make(folder, 1.0, **changes)
    parts = [{"machine": {"device_type": "cpu", "device": "CPU", **machine}} for machine in machines]
    (path / "run.json").write_text(json.dumps({**parts[0], "resumed": parts[1:]}))
    return path


def test_runs_that_were_not_computed_alike_are_named_and_told_apart_in_columns(tmp_path):
    computed(tmp_path / "a", {"dtype": "float32", "threads": 1}, dtype="float32")
    computed(tmp_path / "b", {"dtype": "bfloat16", "threads": 1}, {"dtype": "bfloat16", "threads": 2}, dtype="bfloat16")
    found = compared(tmp_path)
    assert [(key.name, key.label) for key in found.keys] == [("dtype", "dtype")]
    assert [group.label for group in found.groups] == ["dtype=bfloat16", "dtype=float32"]
    sentence = (
        "These runs were not computed alike: dtype float32 (a), bfloat16 (b); threads 1 (a), 1 then 2 (b). "
        "For that alone their results may differ."
    )
    table = tables.of_runs(found)
    column = {title: [row[n].text for row in table.rows] for n, title in enumerate(table.titles)}
    assert column["threads"] == ["1", "1 then 2"]
    assert column["dtype"] == ["float32", "bfloat16"]
    assert "device" not in column, "that is the same"
    write.write(found, tmp_path / "out", None)
    page, text = ((tmp_path / "out" / name).read_text() for name in ("report.html", "report.md"))
    assert page.index(sentence) < page.index("<table")
    assert text.index(sentence) < text.index("## Settings")
    assert f"{sentence} Pin that with dtype= and OMP_NUM_THREADS." in write.spoken(found)
    rows = list(csv.DictReader((tmp_path / "out" / "runs.csv").open()))
    assert [row["computed threads"] for row in rows] == ["1", "1 then 2"]


def test_a_dtype_that_changed_within_a_run_has_a_column_beside_the_configured_one(tmp_path):
    computed(tmp_path / "a", {"dtype": "float32"}, {"dtype": "bfloat16"}, dtype="bfloat16")
    computed(tmp_path / "b", {"dtype": "float32"}, dtype="float32")
    table = tables.of_runs(compared(tmp_path))
    assert [row[table.titles.index("dtype, by parts")].text for row in table.rows] == [
        "float32 then bfloat16",
        "float32",
    ]


def test_a_configuration_that_leaves_the_dtype_to_the_machine_is_read_as_what_that_meant(tmp_path):
    computed(tmp_path / "a", {"dtype": "float32"}, dtype="auto")
    computed(tmp_path / "b", {"dtype": "float32"}, dtype="float32", seed=1)
    computed(tmp_path / "c", {"dtype": "bfloat16"}, dtype="auto")
    found = compared(tmp_path)
    assert {group.label: len(group.runs) for group in found.groups} == {"dtype=bfloat16": 1, "dtype=float32": 2}


def test_of_runs_that_were_computed_alike_nothing_is_said(tmp_path):
    for name in "ab":
        computed(tmp_path / name, {"dtype": "float32", "threads": 2})
    found = compared(tmp_path)
    assert words.not_alike(found) == []
    assert "threads" not in tables.of_runs(found).titles


# ---- curves


def test_a_curve_is_the_mean_over_seeds_and_its_band_their_range(tmp_path):
    runs = collect.read([make(tmp_path / "0", 1.0, 2.0, 3.0), make(tmp_path / "1", 3.0, 6.0)])
    found = curve(runs, "val/loss")
    assert found.averaged == 1
    assert found.steps.tolist() == [10, 20, 30]
    np.testing.assert_array_equal(found.mean, [2, 4, np.nan])
    np.testing.assert_array_equal(found.low, [1, 2, 3])
    np.testing.assert_array_equal(found.high, [3, 6, 3])
    assert along(runs, "tokens", found.steps).tolist() == [1000, 2000, 3000]
    assert along(runs, "seconds", found.steps).tolist() == [1, 2, 3]
    assert curve(runs, "val/perplexity") is None


def test_a_long_curve_is_averaged_in_stretches_and_nothing_is_left_out(tmp_path):
    losses = [float(n) for n in range(100)]
    (run,) = collect.read([make(tmp_path / "0", *losses)])
    found = curve([run], "val/loss", points=30)
    assert (found.averaged, len(found.steps)) == (4, 25)
    assert found.mean.tolist() == [np.mean(losses[n : n + 4]) for n in range(0, 100, 4)]
    assert found.steps[0] == 25.0


# ---- files


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
    assert "unfinished" in text
    assert "unreadable" in text


def test_where_a_report_goes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [make(tmp_path / "x" / name, 1.0) for name in "ab"]
    assert str(write.folder_for(paths, None)) == "x/report"
    assert str(write.folder_for(paths[:1], None)) == "x/a/report"
    assert str(write.folder_for(paths, "there")) == "there"
    with pytest.raises(UserError, match="out="):
        write.folder_for([paths[0], paths[0].__class__("/elsewhere/run")], None)
