"""Text as it is trained on and scored: all of it, each token once, alike for every process."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.configs import PLAIN
from helpers.corpora import prepared, prose, settings
from helpers.trainings import fit, losses, make_trainer, rows, weights

from cleangpt.basics import files
from cleangpt.basics.errors import UserError
from cleangpt.corpus.store import NotPrepared, Prepared
from cleangpt.machine.launcher import World
from cleangpt.models import gpt
from cleangpt.models.build import build
from cleangpt.score import evaluate
from cleangpt.score.language import score, tables
from cleangpt.tasks.text import Task
from cleangpt.training import whole
from cleangpt.training.stream import Stream

LENGTH = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One text in characters, in data/."""
    folder = tmp_path_factory.mktemp("text")
    prepared(folder, prose(800), val_fraction=0.1, test_fraction=0.1)
    return folder


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    """Short documents in bytes, in data/."""
    folder = tmp_path_factory.mktemp("documents")
    text = "|".join(prose(4, seed) for seed in range(300))
    prepared(folder, text, separator="|", tokenizer="bytes", val_fraction=0.1, test_fraction=0.1)
    return folder


def task(folder, **changes) -> Task:
    return Task(settings(dir=str(folder / "data"), **changes), context=LENGTH)


def words(folder, *more):
    return (
        "dataset=text",
        f"dataset.dir={folder / 'data'}",
        "model=gpt_tiny",
        f"model.block_size={LENGTH}",
        "model.n_layer=1",
        *more,
    )


# ---- samples


def stream(of: Task, world: World | None = None, batch_size: int = 4) -> Stream:
    return Stream(of, 0, batch_size, None, world or World(0, 1, 0, 1), torch.device("cpu"))


def test_an_epoch_reads_every_token_once_and_no_two_epochs_cut_alike(folder):
    text = task(folder)
    size, ids = text.size("train"), text.ids["train"]
    cuts = []
    for epoch in range(3):
        index, keys = stream(text).indices(np.arange(size) + epoch * size)
        batch = text.batch("train", index, keys)
        assert (batch.inputs[:, 1:] == batch.targets[:, :-1]).all()
        order = np.argsort(index)
        read = batch.inputs[order].reshape(-1)
        shift = int(keys[0]) % LENGTH
        assert (read == ids[shift : shift + len(read)]).all()
        assert len(ids) - len(read) < 2 * LENGTH  # but for the ends, which other epochs read
        assert not (order == np.arange(size)).all()
        cuts.append(shift)
    assert len(set(cuts)) > 1


def test_random_windows_are_drawn_anew_in_each_epoch_from_all_of_the_text(folder):
    text = task(folder, windows="random")
    size, last = text.size("train"), len(text.ids["train"]) - LENGTH - 1
    index, keys = stream(text).indices(np.arange(50 * size))
    rows = np.lib.stride_tricks.sliding_window_view(text.ids["train"], LENGTH + 1)
    batch = text.batch("train", index, keys)
    assert (batch.inputs == text.batch("train", index, keys).inputs).all()
    read = np.concatenate([batch.inputs, batch.targets[:, -1:]], axis=1)
    places = {row.tobytes(): place for place, row in enumerate(rows.astype(np.int64))}
    starts = np.array([places[row.tobytes()] for row in read])
    assert starts.min() < last / 50
    assert starts.max() > last * 0.98
    assert abs(starts.mean() / last - 0.5) < 0.02
    assert len(set(starts[:size].tolist()) & set(starts[size : 2 * size].tolist())) < size / 2


def test_any_number_of_processes_reads_the_same_windows(folder):
    text = task(folder)
    alone = stream(text)
    world = [stream(text, World(rank, 3, rank, 3)) for rank in range(3)]
    for m in range(2 * text.size("train") // 4):
        whole = torch.cat([part.inputs for part in alone.micro_step(m)])
        parts = torch.cat([part.inputs for one in world for part in one.micro_step(m)])
        assert torch.equal(whole, parts)


def test_samples_made_ahead_are_the_same(folder):
    text = task(folder)
    plain, ahead = stream(text), task(folder)
    ahead.reads_disk = True
    ahead = stream(ahead)
    for some in (plain, ahead):
        some.chunk_steps = 2
    for m in (0, 1, 2, 3, 9, 10, 4):
        assert torch.equal(plain.micro_step(m)[0].inputs, ahead.micro_step(m)[0].inputs)


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_sweep_predicts_every_token_but_the_first_once(folder, split):
    text = task(folder)
    batch = text.batch(split, np.arange(text.size(split)))
    ids = text.ids[split]
    assert (batch.targets[batch.real] == ids[1:]).all()
    assert (batch.inputs[batch.real] == ids[:-1]).all()
    assert (batch.loss_weights == batch.real).all()


def test_the_smaller_validation_is_spread_over_the_text_and_fixed(folder):
    text = task(folder, val_size=5)
    assert text.val_size == 5 < text.size("val")
    first = text.batch("val", np.arange(5))
    assert (first.inputs == task(folder, val_size=5).batch("val", np.arange(5)).inputs).all()
    assert not (first.inputs == task(folder).batch("val", np.arange(5)).inputs).all()


def test_documents_are_numbered_from_their_beginnings(documents):
    batch = task(documents, confine=True).batch("train", np.arange(40))
    ends = batch.inputs == 256
    changes = np.diff(batch.documents, axis=1) != 0
    assert (changes == ends[:, 1:]).all()
    assert ends.any()
    assert task(documents).batch("train", np.arange(40)).documents is None


def test_confined_attention_needs_documents(folder):
    with pytest.raises(UserError, match=r"`dataset\.confine` needs documents"):
        task(folder, confine=True)


def test_a_context_that_the_text_does_not_fill_is_refused(folder):
    with pytest.raises(UserError, match="less than two windows of 5000"):
        task(folder, window=5000)


# ---- scores


def judged(of: Task, model_name: str = "gpt", **more):
    section = {"name": model_name, "n_layer": 1, "n_embd": 16, "n_head": 2, "block_size": LENGTH, "dropout": 0.0}
    section |= {"tied": False, "attention": "auto", "vocab_size": of.tokenizer.vocab_size}
    section |= {"bias": False, "position_rows": LENGTH, **PLAIN["gpt"]} if model_name == "gpt" else {}
    model = build(gpt.Settings(**section | more))
    model.initialise(torch.Generator().manual_seed(1))
    for parameter in model.parameters():
        parameter.data.mul_(8)  # so that losses differ from token to token
    return evaluate.Judge(model, torch.device("cpu"), World(0, 1, 0, 1))


def test_the_loss_of_validation_is_the_mean_over_every_token(folder):
    text = task(folder)
    judge = judged(text)
    ids = torch.from_numpy(text.ids["val"].astype(np.int64))
    expected = []
    for start in range(0, len(ids) - 1, LENGTH):
        window = ids[start : start + LENGTH + 1]
        logits = judge.model(window[None, :-1])[0]
        expected.append(F.cross_entropy(logits, window[1:], reduction="none"))
    expected = torch.cat(expected).double()
    assert len(expected) == len(ids) - 1
    found = evaluate.validate(judge, text)
    assert found["val/loss"] == pytest.approx(expected.mean().item(), rel=1e-6)
    assert found["val/perplexity"] == pytest.approx(math.exp(found["val/loss"]))
    whole = score(text, judge, "val", None, "auto")
    assert whole["loss"] == pytest.approx(found["val/loss"], rel=1e-6)
    assert whole["tokens"] == len(ids) - 1
    assert whole["complete"]
    assert whole["interval"][0] < whole["loss"] < whole["interval"][1]
    assert sum(row["tokens"] for row in whole["by_place"]) == whole["tokens"]
    assert whole["loss"] == pytest.approx(
        sum(row["tokens"] * row["loss"] for row in whole["by_place"]) / whole["tokens"]
    )


def test_a_part_of_the_split_is_called_one(folder):
    text = task(folder)
    assert text.more_is_better == ()
    part = score(text, judged(text), "test", 3, "auto")
    assert (part["complete"], part["windows"]) == (False, 3)
    assert "a sample of the" in tables(text, part)[0].title


def test_bits_per_byte_do_not_depend_on_the_tokenizer(tmp_path):
    """A model that knows nothing needs as many bits as the vocabulary has, for each token of the same text."""
    for tokenizer in ("characters", "bytes", "bpe"):
        there = tmp_path / tokenizer
        there.mkdir()
        _, data = prepared(there, prose(800), tokenizer=tokenizer, bpe_vocab_size=300, val_fraction=0.2)
        text = task(there)
        size = data.tokenizer.vocab_size
        val = data.tokenizer.decode(text.ids["val"].tolist())
        first = data.tokenizer.decode(text.ids["val"][:1].tolist())
        bits = (len(text.ids["val"]) - 1) * math.log2(size)
        expected = bits / (len(val.encode()) - len(first.encode()))
        assert text.measures(math.log(size))["bits_per_byte"].value == pytest.approx(expected)


@pytest.mark.parametrize("wanted", [("test", "generate"), ("other", "auto")])
def test_what_can_not_be_scored_is_refused(folder, wanted):
    text = task(folder)
    with pytest.raises(UserError):
        score(text, judged(text), wanted[0], None, wanted[1])


# ---- training


def test_text_is_learned_and_said_what_of_it_was_seen(folder, tmp_path):
    trainer = fit(tmp_path, *words(folder, "train.steps=30", "optimizer.lr=1e-2", "logger.samples=1"))
    found = losses(tmp_path)
    assert found[-1] < 0.8 * found[0]
    last = rows(tmp_path)[-1]
    assert last["epoch"] == 30 * 8 / trainer.task.size("train")
    assert last["val/bits_per_byte"] > 0
    assert "val/accuracy" not in last
    assert "▸" in (tmp_path / "train.log").read_text()


@pytest.mark.parametrize("more", [(), ("dataset.confine=true", "model=llama_tiny", "model.block_size=16")])
def test_a_text_run_that_is_continued_has_the_bits_of_one_that_was_left_alone(documents, tmp_path, more):
    dropout = ("model.dropout=0.1", "train.snapshot_every=5", "train.steps=10")
    common = words(documents, *dropout, *more)
    whole = fit(tmp_path / "whole", *common)
    snapshot = tmp_path / "whole" / "snapshots" / "step_00000005"
    again = fit(tmp_path / "again", *common, snapshot=snapshot)
    assert torch.equal(weights(whole), weights(again))


def test_a_run_is_not_continued_on_other_data(tmp_path):
    prepared(tmp_path, prose(800))
    trainer = make_trainer(tmp_path / "run", *words(tmp_path))
    files.write_json(trainer.run.run, {"data": trainer.task.fingerprint()})
    whole._refuse_other_data(trainer)
    prepared(tmp_path, prose(800, seed=1), force=True)
    trainer = make_trainer(tmp_path / "run", *words(tmp_path))
    with pytest.raises(UserError, match="was prepared anew since"):
        whole._refuse_other_data(trainer)


def test_one_batch_is_as_good_as_its_parts(documents, tmp_path):
    found = []
    for n, more in enumerate([(), ("train.micro_batch_size=3",)]):
        trainer = make_trainer(tmp_path / str(n), *words(documents, "dataset.confine=true", *more))
        found.append(trainer.step(1)[0]["train/loss"])
    assert found[0] == pytest.approx(found[1], rel=1e-6)


# ---- other people's folders


@pytest.mark.parametrize("meta", ["list", "dict", "stoi", None])
def test_a_folder_of_nanogpt_is_read_as_it_is(tmp_path, meta):
    text = prose(300)
    characters = sorted(set(text))
    there = tmp_path / "data"
    there.mkdir()
    ids = np.array([characters.index(c) for c in text], np.uint16)
    ids[:-100].tofile(there / "train.bin")
    ids[-100:].tofile(there / "val.bin")
    said = {
        "list": {"vocab_size": len(characters), "itos": characters},
        "dict": {"itos": {str(i): c for i, c in enumerate(characters)}},
        "stoi": {"stoi": {c: i for i, c in enumerate(characters)}},
    }
    if meta:
        (there / "meta.json").write_text(json.dumps(said[meta]))
    text_task = task(tmp_path, tokenizer="gpt2" if meta else "bytes")
    if meta:
        assert text_task.tokenizer.decode(text_task.ids["train"].tolist()) == text[:-100]
        assert text_task.bytes_per_token("val") == pytest.approx(
            len(text[-99:].encode()) / 99
        )  # known by decoding, since no header says it
    assert (text_task.ids["val"] == ids[-100:]).all()
    assert evaluate.validate(judged(text_task), text_task)["val/loss"] > 0


def test_a_legacy_file_beyond_its_vocabulary_is_refused(tmp_path):
    np.array([1, 2, 300] * 50, np.uint16).tofile(tmp_path / "train.bin")
    np.array([1, 2] * 50, np.uint16).tofile(tmp_path / "val.bin")
    with pytest.raises(UserError, match="holds token 300, and its tokenizer has 257"):
        Prepared(tmp_path, "bytes")
    with pytest.raises(UserError, match=r"no meta\.json"):
        Prepared(tmp_path, "characters")


def test_data_that_is_not_prepared_is_said_to_be_so(tmp_path):
    with pytest.raises(NotPrepared):
        task(tmp_path)
