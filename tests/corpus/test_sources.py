"""Where text comes from: packed files, files that are no text, and records without a text."""

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
import zipfile

import pyarrow
import pyarrow.parquet
import pytest
from helpers.corpora import prepared, prose, settings, text_of

from cleangpt.basics.errors import UserError
from cleangpt.corpus import prepare as preparing
from cleangpt.tokens import tokenizers

TEXT = prose(4000)


@pytest.mark.parametrize("packed", [gzip, bz2, lzma])
@pytest.mark.parametrize("split", ["position", "documents"])
def test_packed_text_is_the_text(tmp_path, packed, split):
    suffix = {"gzip": "gz", "bz2": "bz2", "lzma": "xz"}[packed.__name__]
    lines = {"split": split, "separator": "\n" if split == "documents" else None, "tokenizer": "bytes"}
    (tmp_path / "plain").mkdir()
    _, plain = prepared(tmp_path / "plain", TEXT, **lines)
    (tmp_path / f"a.txt.{suffix}").write_bytes(packed.compress(TEXT.encode()))
    seen = []
    made = settings(source=str(tmp_path / f"a.txt.{suffix}"), dir=str(tmp_path / "data"), **lines)
    data, _ = preparing.prepare(made, 1, False, lambda what, read, total: seen.append((read, total)))
    assert data.checksums() == plain.checksums()
    size = os.path.getsize(tmp_path / f"a.txt.{suffix}")
    read = [read for read, total in seen if total == size]
    assert read == sorted(read), "how far it is never goes back"
    assert 0 < read[-1] <= size


@pytest.mark.parametrize("packed", [gzip, bz2, lzma])
def test_packed_records_are_the_records(tmp_path, packed):
    suffix = {"gzip": "gz", "bz2": "bz2", "lzma": "xz"}[packed.__name__]
    records = "".join(json.dumps({"text": f"{n} {TEXT[:50]}"}) + "\n" for n in range(60))
    (tmp_path / f"a.ndjson.{suffix}").write_bytes(packed.compress(records.encode()))
    _, data = prepared(tmp_path, source=str(tmp_path / f"a.ndjson.{suffix}"), val_fraction=0.3)
    assert sum(tokens.header.documents for tokens in data.splits.values()) == 60
    assert "0 the" in text_of(data, "train") + text_of(data, "val") or TEXT[:20] in text_of(data, "train")


def _tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"), io.BytesIO())
    return file.getvalue()


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", TEXT)
    return file.getvalue()


def _parquet() -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": [TEXT]}), file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.txt", TEXT.encode("utf-16"), "is text in UTF-16: convert it first: iconv -f UTF-16 -t UTF-8 {} > utf8.txt"),
        ("a.txt", TEXT.encode("utf-16-be"), "is text in UTF-16: convert it first: iconv -f UTF-16BE -t UTF-8"),
        ("a.txt", "plain".encode("utf-16-le"), "is text in UTF-16: convert it first: iconv -f UTF-16LE -t UTF-8"),
        ("a.txt", TEXT.encode("utf-32"), "is text in UTF-32: convert it first"),
        ("a.jsonl", json.dumps({"text": "x"}).encode("utf-16"), "is text in UTF-16"),
        ("a.txt.gz", gzip.compress(TEXT.encode("utf-16")), "is text in UTF-16"),
        ("a.txt", gzip.compress(TEXT.encode()), "is packed by gzip: give it a name that ends in .gz"),
        ("a.txt", bz2.compress(TEXT.encode()), "is packed by bzip2"),
        ("a.zst", b"\x28\xb5\x2f\xfd rest", "is packed by zstd: unpack it first: unzstd {}"),
        ("a.txt", _zip(), "is a zip archive: unpack it first: unzip {}"),
        ("a.tar.gz", gzip.compress(_tar()), "is a tar archive: unpack it first, and name the folder"),
        ("a.txt", _parquet(), "is parquet: give it a name that ends in .parquet"),
        ("a.png", b"\x89PNG\r\n\x1a\n rest", "is a picture: leave it out"),
        ("a.bin", bytes(range(256)) * 20, "is a binary file, and no text: leave it out"),
        ("a.txt.gz", TEXT.encode(), "is no whole file of gzip"),
        ("a.txt.gz", gzip.compress(prose(40_000).encode())[:-9999], "is no whole file of gzip"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "x"}\n' * 99)[:-9], "is no whole file of gzip"),
        ("a.parquet", TEXT.encode(), "is no parquet file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # packed bytes say when they were packed
)
def test_what_is_no_text_is_called_what_it_is_with_the_way_out(tmp_path, name, data, said):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UserError) as error:
        prepared(tmp_path, source=str(path), tokenizer="bytes")
    assert str(error.value).startswith(f"{path} {said.format(path)}")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("text", ["", "a", "日本語" * 3000, "\0 a zero is a character too", "naïve" * 2000, "BZ"])
def test_text_in_utf8_is_text_whatever_its_characters(tmp_path, text):
    from cleangpt.corpus import kinds

    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    with kinds.opened(tmp_path / "a.txt") as (file, _):
        assert file.read() == text.encode()


# ---- records


def told(folder, *records, **changes):
    """Return what is said of these records in a.jsonl and b.jsonl, and the data."""
    notes = []
    for name, lines in zip(("a.jsonl", "b.jsonl"), records, strict=False):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    made = settings(
        source=f"{folder}/*.jsonl", dir=str(folder / "data"), tokenizer="bytes", val_fraction=0.3, **changes
    )
    data, _ = preparing.prepare(made, 1, False, lambda *_: None, notes.append)
    return notes, data


def test_records_without_a_text_are_counted_and_said(tmp_path):
    good = [{"text": f"{n} of these"} for n in range(40)]
    bad = [{"text": None}] * 3 + [{"text": ""}, {"body": "x"}, {"body": "y"}, {"text": 7}, [1]]
    notes, data = told(tmp_path, [*good, *bad], good)
    assert notes == [
        f"{tmp_path}/a.jsonl: 8 of its 48 records are left out: 4 whose text is null or empty, 3 without the field "
        "'text', 1 whose text is no text but int."
    ]
    assert sum(tokens.header.documents for tokens in data.splits.values()) == 80


def test_of_many_files_with_such_records_the_first_are_named(tmp_path):
    for n in range(9):
        lines = (f'{{"text": "text {n} {m}"}}\n{{"text": null}}\n' for m in range(20))
        (tmp_path / f"{n}.jsonl").write_text("".join(lines))
    notes, _ = told(tmp_path)
    assert len(notes) == 6
    assert notes[-1] == "4 more files have such records: in all, 180 of 360 are left out."


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([{"text": None}], r"`text` is null or empty in the first 1,000 records of .*a\.jsonl: name another"),
        ([{"body": "x", "id": 3}], r"a\.jsonl has no field 'text': set dataset\.field to one of body, id"),
        ([{"text": 3}], r"`text` in .*a\.jsonl is no text but int: name another dataset\.field"),
    ],
)
def test_records_of_which_none_has_a_text_are_refused(tmp_path, records, said):
    with pytest.raises(UserError, match=said):
        told(tmp_path, records * 2500)
    with pytest.raises(UserError, match=said.replace("the first 1,000", "all 30")):
        told(tmp_path, records * 30)


def test_parquet_is_counted_too(tmp_path):
    texts = [text for n in range(30) for text in (None, f"some words {n}", "")]
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "a.parquet")
    notes = []
    made = settings(source=str(tmp_path / "a.parquet"), dir=str(tmp_path / "data"), tokenizer="bytes", val_fraction=0.3)
    preparing.prepare(made, 1, False, lambda *_: None, notes.append)
    assert notes == [f"{tmp_path}/a.parquet: 60 of its 90 records are left out: 60 whose text is null or empty."]


# ---- tokenizers


def test_without_a_network_the_default_tokenizer_is_refused_with_those_that_need_none(tmp_path, monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "empty"))
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(UserError) as error:
        prepared(tmp_path, TEXT, tokenizer="gpt2")
    said = str(error.value)
    assert said.startswith("GPT-2's vocabulary, which is dataset.tokenizer=gpt2, can't be fetched")
    assert "dataset.tokenizer=characters, bytes or bpe" in said
    assert "gpt2:<path of r50k_base.tiktoken>" in said
    for choice in ("characters", "bytes", "bpe"):
        (tmp_path / choice).mkdir()
        prepared(tmp_path / choice, TEXT, tokenizer=choice)
    with pytest.raises(UserError, match="can't be read from nothing"):
        tokenizers.named("gpt2:nothing")
