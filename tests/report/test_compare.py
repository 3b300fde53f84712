"""Comparing runs: what differs, what follows, the numbers, and how they were computed."""

import csv
import json
import math

import pytest
from helpers.compared import compared, make, mean_of, sweep
from helpers.configs import toy

from cleangpt import tasks
from cleangpt.basics.errors import UserError
from cleangpt.config.experiment import parse, resolve
from cleangpt.report import collect, tables, words, write
from cleangpt.report.differences import DERIVED

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
