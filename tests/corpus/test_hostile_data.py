"""Prepared text that somebody else wrote is read as data, and refused in one sentence."""

import json

import numpy as np
import pytest
from attacks import openings
from helpers.corpora import prepared, prose, settings
from helpers.refusals import refused

from cleangpt.corpus import store
from cleangpt.tasks.text import Task

pytestmark = pytest.mark.usefixtures("blank_pictures")


TINY = ("model=llama_tiny", "model.n_layer=1", "model.n_embd=8", "model.n_head=1", "model.n_kv_head=1")
TINY += ("model.block_size=16", "train.steps=2", "train.batch_size=4", "train.eval_every=2", "logger.plots=false")


def rewritten(path, **keys):
    """A token file whose header says something else."""
    content = path.read_bytes()
    header = {**json.loads(content[8 : store.HEADER]), **keys}
    header = {key: value for key, value in header.items() if value != "gone"}
    path.write_bytes(b"CleanGPT" + json.dumps(header).encode().ljust(store.HEADER - 8) + content[store.HEADER :])


@pytest.mark.parametrize(
    "keys",
    [
        *({"dtype": wrong} for wrong in ("O", "object", "float64", "int8", "uint64", "V8", "", 1, None, "gone")),
        *({"tokens": wrong} for wrong in (-1, 0.5, True, "10", 2**63, 2**70, None, 10**12, 0)),
        *({"documents": wrong} for wrong in (-1, True, 2**62, 10**30, 2)),
        *({"text_bytes": wrong} for wrong in (-1, "many", None, 2**64)),
        *({"vocab_size": wrong} for wrong in (0, -5, 2**40, 3, True, "gone")),
        *({"format": wrong} for wrong in (2, "1", None, "gone")),
        {"sha256": 5},
        {"tokenizer_sha256": "0" * 64},
    ],
    ids=str,
)
def test_a_header_is_checked_whole(tmp_path, keys):
    prepared(tmp_path, prose(300))
    path = tmp_path / "data" / "train.tokens"
    rewritten(path, **keys)
    said = refused(lambda: Task(settings(dir=str(tmp_path / "data")), 8))
    assert "train.tokens" in said
    assert "again" in said


@pytest.mark.parametrize("junk", [b"[]", b"5", b"{", b"[" * 4000, b"\xff\xfe", b'{"format": 1}', b"9" * 4088])
def test_a_header_that_is_no_object_is_refused(tmp_path, junk):
    prepared(tmp_path, prose(300))
    path = tmp_path / "data" / "val.tokens"
    path.write_bytes(b"CleanGPT" + junk.ljust(store.HEADER - 8) + path.read_bytes()[store.HEADER :])
    assert "val.tokens" in refused(lambda: store.Prepared(tmp_path / "data"))


@pytest.mark.parametrize("ends", [[5, 3], [-1], [10**15], [2**63 - 1]])
def test_documents_end_one_after_the_other_within_the_tokens(tmp_path, ends):
    text = "\n\n".join(f"document {number}" for number in range(200))
    _, data = prepared(tmp_path, text, separator="\n\n", split="documents")
    tokens = data.splits["train"]
    assert len(tokens.ends) > 2
    assert tokens.ends[-1] == len(tokens.ids)
    with tokens.path.open("r+b") as file:
        file.seek(tokens.ends_at)
        file.write(np.array(ends, np.int64).tobytes())
    assert "documents that end where they can't" in refused(lambda: store.Prepared(tmp_path / "data"))


def test_a_token_that_the_vocabulary_has_not_is_refused_where_it_is_read(tmp_path):
    made, data = prepared(tmp_path, prose(300))
    path = data.splits["train"].path
    with path.open("r+b") as file:
        file.seek(store.HEADER)
        file.write(b"\xff" * 16)
    task = Task(made, 8)
    for reads in (
        lambda: task.batch("train", np.arange(2)),
        task.guessing,
        lambda: task.bytes_per_token("train"),
        lambda: task._whole("train"),
    ):
        said = refused(reads)
        assert f"{path} holds token 255, and its tokenizer has {data.tokenizer.vocab_size}" in said


def test_scoring_a_run_whose_data_is_hostile_does_not_crash(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepared(tmp_path, prose(400), test_fraction=0.2)
    assert openings.train_on(tmp_path / "data", tmp_path / "run", *TINY) == 0
    rewritten(tmp_path / "data" / "test.tokens", dtype="O")
    assert "`dtype` must be one of uint8, uint16, uint32, not O" in refused(lambda: openings.score(tmp_path / "run"))
    assert "test.tokens" in refused(lambda: openings.train(tmp_path / "run", "train.steps=3"))


@pytest.mark.parametrize(
    "meta", ["[]", '{"itos": 5}', '{"itos": {"a": "b"}}', '{"itos": [1, 2]}', '{"stoi": [1]}', '{"itos": ["\\ud800"]}']
)
def test_files_of_nanogpt_are_read_as_carefully(tmp_path, meta):
    for name in ("train.bin", "val.bin"):
        np.zeros(100, np.uint16).tofile(tmp_path / name)
    (tmp_path / "meta.json").write_text(meta)
    assert "meta.json" in refused(lambda: store.Prepared(tmp_path, "characters"))


@pytest.mark.parametrize(
    "about", ["[]", "{}", '{"preparation": 5}', '{"preparation": {"split_seed": "x"}}', "[" * 100_000]
)
def test_what_prepared_data_says_of_itself_is_checked(tmp_path, about):
    made, _ = prepared(tmp_path, prose(300))
    (tmp_path / "data" / "prepared.json").write_text(about)
    assert "prepared.json" in refused(lambda: Task(made, 8))
