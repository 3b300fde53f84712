"""Preparing text: every source gives the same tokens, and half-written work is never taken for whole."""

import gzip
import http.server
import json
import os
import random
import sys
import threading

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from helpers.corpora import prepared, prose, settings, text_of
from started.programs import run_program

from cleangpt.basics.errors import UserError
from cleangpt.corpus import prepare as preparing
from cleangpt.corpus import sources, store
from cleangpt.tokens.tokenizers import END

DOCUMENTS = [prose(30, seed) for seed in range(60)]


# ---- what is in the files


def test_one_text_is_cut_by_position_and_all_of_it_is_there(tmp_path):
    text = prose(3000)
    _, data = prepared(tmp_path, text, val_fraction=0.1, test_fraction=0.2)
    parts = [text_of(data, split) for split in store.SPLITS]
    assert "".join(parts) == text
    shares = [len(part.encode()) / len(text.encode()) for part in parts]
    assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.01)
    assert data.tokenizer.end is None
    assert data.tokenizer.tokens == sorted(set(text))


def test_the_cut_of_plain_text_is_the_one_that_others_make(tmp_path):
    text = "".join(random.Random(0).choices("abcdefg \n", k=11_153))
    _, data = prepared(tmp_path, text, val_fraction=0.1, test_fraction=0.0)
    assert text_of(data, "train") == text[: int(len(text) * 0.9)]
    assert text_of(data, "val") == text[int(len(text) * 0.9) :]
    assert list(data.splits) == ["train", "val"]


@pytest.mark.parametrize("tokenizer", ["characters", "bytes", "bpe"])
def test_the_header_says_what_the_file_holds(tmp_path, tokenizer):
    _, data = prepared(tmp_path, prose(2000), tokenizer=tokenizer, bpe_vocab_size=300)
    for tokens in data.splits.values():
        header = tokens.header
        assert header.tokens == len(tokens.ids)
        assert header.vocab_size == data.tokenizer.vocab_size > tokens.ids.max()
        text = data.tokenizer.decode(tokens.ids.tolist()).replace(END, "")
        assert header.text_bytes == len(text.encode())
        assert np.dtype(header.dtype) == tokens.ids.dtype == (np.uint16 if tokenizer == "bpe" else np.uint8)
        assert tokens.is_intact()


def sourced(tmp_path, kind: str) -> str:
    """DOCUMENTS in a place of this kind."""
    folder = tmp_path / "from"
    folder.mkdir()
    records = [json.dumps({"id": i, "body": text}) + "\n" for i, text in enumerate(DOCUMENTS)]
    match kind:
        case "folder" | "glob":
            for i, text in enumerate(DOCUMENTS):
                (folder / f"{i:03}.txt").write_text(text, encoding="utf-8", newline="")
            return str(folder if kind == "folder" else folder / "*.txt")
        case "jsonl" | "hub":
            (folder / "part.jsonl").write_text("".join(records) + "\n", encoding="utf-8")
            return f"hf:{folder}" if kind == "hub" else str(folder / "part.jsonl")
        case "jsonl.gz":
            (folder / "part.jsonl.gz").write_bytes(gzip.compress("".join(records).encode()))
            return str(folder / "part.jsonl.gz")
        case "parquet":
            table = pyarrow.table({"id": range(len(DOCUMENTS)), "body": DOCUMENTS})
            pyarrow.parquet.write_table(table, folder / "part.parquet")
            return str(folder / "part.parquet")


@pytest.fixture(scope="module")
def by_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("by_folder")
    _, data = prepared(folder, source=sourced(folder, "folder"), val_fraction=0.2, test_fraction=0.1)
    return data


def test_documents_are_held_out_whole_and_end_with_a_token(by_folder):
    data = by_folder
    found = []
    for split, tokens in data.splits.items():
        first, *documents = np.split(tokens.ids, [1, *tokens.ends])
        assert first.tolist() == [data.tokenizer.end]  # the first document too begins behind one
        assert documents.pop().size == 0
        assert all(document[-1] == data.tokenizer.end for document in documents)
        texts = [data.tokenizer.decode(document[:-1].tolist()) for document in documents]
        assert len(texts) == tokens.header.documents > 0
        found += [(text, split) for text in texts]
    assert sorted(text for text, _ in found) == sorted(DOCUMENTS)


@pytest.mark.parametrize(
    ("kind", "streaming"),
    [("glob", False), ("jsonl", False), ("jsonl.gz", False), ("parquet", False), ("hub", False), ("hub", True)],
)
def test_every_source_of_the_same_documents_gives_the_same_files(tmp_path, by_folder, kind, streaming):
    changes = {"field": "body", "val_fraction": 0.2, "test_fraction": 0.1, "streaming": streaming}
    _, data = prepared(tmp_path, source=sourced(tmp_path, kind), **changes)
    assert data.checksums() == by_folder.checksums()


def test_a_separator_divides_documents(tmp_path, by_folder):
    text = f"\n{END}\n".join(DOCUMENTS)
    _, data = prepared(tmp_path, text, separator=END, val_fraction=0.2, test_fraction=0.1)
    stripped = sorted(document.strip("\r\n") for document in DOCUMENTS)
    texts = [part for split in store.SPLITS for part in text_of(data, split).split(END) if part]
    assert sorted(texts) == stripped


def test_copies_of_a_document_are_on_one_side_and_a_seed_chooses_it(tmp_path):
    (tmp_path / "twice").mkdir()
    for i, text in enumerate([*DOCUMENTS, *DOCUMENTS]):
        (tmp_path / "twice" / f"{i}.txt").write_text(text, encoding="utf-8", newline="")
    held_out = []
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        _, data = prepared(tmp_path / str(seed), source=str(tmp_path / "twice"), split_seed=seed, val_fraction=0.2)
        texts = text_of(data, "val").split(END)[1:-1]
        assert all(texts.count(text) == 2 * DOCUMENTS.count(text) for text in texts)
        held_out.append(set(texts))
    assert held_out[0] != held_out[1]


def test_other_sources_hold_out(tmp_path):
    (tmp_path / "val.txt").write_text("val val")
    (tmp_path / "test.txt").write_text("test")
    changes = {"val_source": str(tmp_path / "val.txt"), "test_source": str(tmp_path / "test.txt")}
    _, data = prepared(tmp_path, "train " * 100, **changes)
    assert [text_of(data, split) for split in store.SPLITS] == ["train " * 100, "val val", "test"]


# ---- in pieces, in parallel


@pytest.mark.parametrize("separator", [None, "||", END])
def test_pieces_put_together_are_the_text(tmp_path, monkeypatch, separator):
    monkeypatch.setattr(sources, "PIECE", 64)
    parts = [prose(n, n) for n in (1, 90, 3, 40, 40, 200)]
    path = tmp_path / "source.txt"
    path.write_text((separator or "").join(parts), encoding="utf-8", newline="")
    pieces = list(sources.Source(str(path), "text", separator, None, False).pieces(None, "train"))
    assert max(len(piece.text) for piece in pieces) <= 128 + 16
    for piece in pieces:
        piece.text.decode()  # no character is cut
    found, held = [], b""
    for piece in pieces:
        assert piece.begins == (not held)
        held += piece.text
        if piece.ends:
            found.append(held.decode())
            held = b""
    expected = [part.strip("\r\n") for part in parts] if separator else ["".join(parts)]
    assert found == [text for text in expected if text]
    assert not held


def test_byte_pairs_are_the_same_in_pieces_as_of_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "PIECE", 256)
    text = prose(4000) + "  \n\n  two   spaces\tand tabs 's 'll " * 50
    _, data = prepared(tmp_path, text, tokenizer="bpe", bpe_vocab_size=600, val_fraction=0.1, test_fraction=0)
    train, val = (text_of(data, split) for split in ("train", "val"))
    assert train + val == text
    assert data.splits["train"].ids.tolist() == data.tokenizer.encode(train)


def test_a_text_without_spaces_is_cut_between_characters(monkeypatch):
    data = "日本é€".encode() * 100
    for length in range(90, 130):
        at = sources.safe_cut(data[:length])
        data[:at].decode()
        assert length - 4 < at <= length


@pytest.mark.parametrize("tokenizer", ["characters", "bpe"])
def test_any_number_of_processes_writes_the_same_files(tmp_path, monkeypatch, tokenizer):
    monkeypatch.setattr(preparing, "JOB", 4096)
    checksums = []
    for workers in (1, 3):
        folder = tmp_path / str(workers)
        folder.mkdir()
        text = "|".join(prose(50, seed) for seed in range(100))
        _, data = prepared(folder, text, workers, separator="|", tokenizer=tokenizer, bpe_vocab_size=300)
        checksums.append(data.checksums())
    assert checksums[0] == checksums[1]


# ---- interrupted, damaged, changed


def test_what_is_prepared_stays_as_it_is_until_it_is_to_be_made_anew(tmp_path):
    made, _ = prepared(tmp_path, prose(500))
    before = (tmp_path / "data" / "train.tokens").stat().st_ino
    assert preparing.prepare(made, 1, False, lambda *_: None)[1] is False
    assert (tmp_path / "data" / "train.tokens").stat().st_ino == before
    with pytest.raises(UserError, match=r"prepared with dataset\.tokenizer=characters, not bytes"):
        prepared(tmp_path, prose(500), tokenizer="bytes")
    _, anew = prepared(tmp_path, prose(500), tokenizer="bytes", force=True)
    assert anew.tokenizer.kind == "bytes"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_data_that_another_process_made_meanwhile_is_not_replaced(tmp_path, monkeypatch):
    real = preparing._claim

    def held_back(folder):
        monkeypatch.setattr(preparing, "_claim", real)
        prepared(tmp_path, prose(500), tokenizer="bytes")
        return real(folder)

    monkeypatch.setattr(preparing, "_claim", held_back)
    with pytest.raises(UserError, match=r"prepared with dataset\.tokenizer=bytes, not characters"):
        prepared(tmp_path, prose(500))
    assert store.Prepared(tmp_path / "data").tokenizer.kind == "bytes"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("the power is gone")

    monkeypatch.setattr(store.TokenWriter, "close", fail)
    with pytest.raises(RuntimeError):
        prepared(tmp_path, prose(500))
    assert [path.name for path in tmp_path.iterdir()] == ["source.txt"]


def test_what_a_killed_process_left_is_removed_and_a_living_one_is_respected(tmp_path):
    dead = tmp_path / ".data.preparing-999999999"
    dead.mkdir()
    (dead / "train.tokens").write_bytes(b"half")
    prepared(tmp_path, prose(500))
    assert not dead.exists()
    (tmp_path / f".data.preparing-{os.getppid()}").mkdir()
    with pytest.raises(UserError, match=f"process {os.getppid()} is preparing"):
        prepared(tmp_path, prose(500), force=True)


@pytest.mark.parametrize("damage", ["cut", "header", "tokenizer"])
def test_a_file_that_is_not_whole_is_refused(tmp_path, damage):
    prepared(tmp_path, prose(500))
    path = tmp_path / "data" / "train.tokens"
    if damage == "cut":
        os.truncate(path, path.stat().st_size - 1)
    elif damage == "header":
        with path.open("r+b") as file:
            file.write(bytes(store.HEADER))
    else:
        (tmp_path / "data" / "tokenizer.json").write_text('{"kind": "bytes"}')
    with pytest.raises(UserError, match="again"):
        store.Prepared(tmp_path / "data")


def test_a_changed_token_is_found_by_the_checksum(tmp_path):
    made, _ = prepared(tmp_path, prose(500))
    with (tmp_path / "data" / "train.tokens").open("r+b") as file:
        file.seek(store.HEADER + 10)
        file.write(b"\x00\x01\x00\x01")
    with pytest.raises(UserError, match=r"train\.tokens is damaged"):
        preparing.prepare(made, 1, False, lambda *_: None)


def test_other_peoples_files_are_not_touched(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.tex").write_text("all my work")
    with pytest.raises(UserError, match="holds other files"):
        prepared(tmp_path, prose(500), force=True)
    assert (tmp_path / "data" / "thesis.tex").read_text() == "all my work"


# ---- mistakes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"source": None}, "`dataset.source` is missing"),
        ({"source": "absent.txt"}, "there is no such file"),
        ({"source": "./*.nothing"}, "no file fits"),
        ({"tokenizer": "words"}, "`dataset.tokenizer` must be"),
        ({"val_fraction": 0.0001, "split": "position"}, "no text fell to val"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path, changes, said):
    with pytest.raises(UserError, match=said):
        prepared(tmp_path, "some text", **changes)


def test_records_without_the_field_are_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"body": "x"}\n')
    with pytest.raises(UserError, match=r"a\.jsonl has no field 'text': set dataset\.field to one of body"):
        prepared(tmp_path, source=str(tmp_path / "a.jsonl"))
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n{"text"\n')
    with pytest.raises(UserError, match="line 2, is no JSON"):
        prepared(tmp_path, source=str(tmp_path / "a.jsonl"))


def test_what_is_not_utf8_is_named(tmp_path):
    (tmp_path / "latin.txt").write_bytes("naïve ".encode("latin-1") * 10)
    with pytest.raises(UserError, match=r"latin\.txt is not UTF-8 \(there is a byte 0xef\)"):
        prepared(tmp_path, source=str(tmp_path / "latin.txt"))


@pytest.mark.parametrize(
    ("location", "parts"),
    [
        ("hf:imdb", ("imdb", None, "train")),
        ("hf:a/b:validation", ("a/b", None, "validation")),
        ("hf:a/b@refs/convert/parquet:test", ("a/b", "refs/convert/parquet", "test")),
    ],
)
def test_the_parts_of_the_name_of_a_data_set(location, parts):
    assert sources.parse_hub(location) == parts
    assert sources.Source(location.removeprefix("hf:"), "text", None, None, False).paths is None


# ---- from far away


@pytest.fixture
def server():
    """An HTTP server that sends `body`, and announces `announced` bytes."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(self.server.announced))
            self.end_headers()
            self.wfile.write(self.server.body)
            self.server.asked += 1

        def log_message(self, *_):
            pass

    made = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    made.asked, made.body = 0, prose(500).encode()
    made.announced = len(made.body)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def test_an_address_is_fetched_once(tmp_path, server):
    url = f"http://127.0.0.1:{server.server_port}/input.txt"
    _, data = prepared(tmp_path, source=url)
    assert text_of(data, "train") + text_of(data, "val") + text_of(data, "test") == server.body.decode()
    prepared(tmp_path, source=url, force=True)
    assert server.asked == 1


def test_an_incomplete_download_is_none(tmp_path, server):
    server.announced += 1
    with pytest.raises(UserError, match=r"can't be fetched .* give dataset\.source=<the file>"):
        prepared(tmp_path, source=f"http://127.0.0.1:{server.server_port}/input.txt")
    assert not list((tmp_path / "downloads").iterdir())
    assert not (tmp_path / "data").exists()


def test_a_hub_that_cannot_be_reached_is_one_sentence_and_leaves_nothing(tmp_path):
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf")}
    words = ["data/prepare.py", "dataset=tinystories"]
    done = run_program(*words, cwd=tmp_path, env=nowhere)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "can't be read from the Hugging Face hub" in done.stderr
    assert "dataset.source=<the folder>" in done.stderr
    assert not (tmp_path / "data").exists() or not list((tmp_path / "data").iterdir())


@pytest.mark.parametrize("kind", ["parquet", "hub"])
def test_what_needs_a_package_that_is_not_there_names_it(tmp_path, monkeypatch, kind):
    location = sourced(tmp_path, kind)
    for name in ("datasets", "pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"pip install -e '.*\[hub\]'`$"):
        prepared(tmp_path, source=location, field="body")


def test_settings_say_what_decides_what_data_holds():
    one, other = settings(tokenizer="bytes"), settings(tokenizer="bytes", window=3, confine=True, dir="x")
    assert one.preparation() == other.preparation() != settings().preparation()
