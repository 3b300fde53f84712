"""Text ↔ tokens: every kind gives back what it read, alone and after a journey through JSON."""

import base64
import itertools
import json

import numpy as np
import pytest
from helpers.corpora import prose

from cleangpt.basics.errors import UserError
from cleangpt.tokens import tokenizers

TEXT = prose(400) + "\r\n\t <|endoftext|> \U0001f600 e\u0301"


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """A file like GPT-2's, of as many merges."""
    pairs = (bytes(pair) for pair in itertools.product(range(256), repeat=2))
    tokens = [*(bytes([b]) for b in range(256)), *itertools.islice(pairs, 50_000)]
    path = tmp_path_factory.mktemp("ranks") / "r50k_base.tiktoken"
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % i for i, token in enumerate(tokens)))
    return path


@pytest.fixture(params=["characters", "characters with an end", "bytes", "bytes without an end", "tiktoken", "bpe"])
def tokenizer(request, ranks):
    return {
        "characters": lambda: tokenizers.characters_of(TEXT, with_end=False),
        "characters with an end": lambda: tokenizers.characters_of(TEXT, with_end=True),
        "bytes": lambda: tokenizers.Bytes(),
        "bytes without an end": lambda: tokenizers.Bytes(with_end=False),
        "tiktoken": lambda: tokenizers.gpt2(str(ranks)),
        "bpe": lambda: tokenizers.train_bpe([TEXT], 300),
    }[request.param]()


def test_what_is_read_is_given_back(tokenizer):
    ids = tokenizer.encode(TEXT)
    assert tokenizer.decode(ids) == TEXT
    assert 0 <= min(ids) <= max(ids) < tokenizer.vocab_size
    assert tokenizer.end is None or tokenizer.end not in ids  # text that spells the end is text
    assert tokenizer.encode("") == []


def test_much_text_gives_the_same_tokens_in_the_smallest_type(tokenizer):
    array = tokenizer.array(TEXT)
    assert array.tolist() == tokenizer.encode(TEXT)
    assert array.dtype == tokenizers.smallest_type(tokenizer.vocab_size)
    assert tokenizer.array("").dtype == array.dtype


def test_it_is_stored_as_json_and_is_the_same_afterwards(tokenizer, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(tokenizer.to_json()), encoding="utf-8")
    again = tokenizers.load(path)
    assert type(again) is type(tokenizer)
    assert (again.vocab_size, again.end) == (tokenizer.vocab_size, tokenizer.end)
    assert again.encode(TEXT) == tokenizer.encode(TEXT)
    assert tokenizers.named(str(path)).encode(TEXT) == tokenizer.encode(TEXT)


@pytest.mark.parametrize(
    ("size", "name"), [(2, "uint8"), (256, "uint8"), (257, "uint16"), (65536, "uint16"), (65537, "uint32")]
)
def test_the_smallest_type_holds_the_largest_token_and_no_smaller_one_does(size, name):
    assert tokenizers.smallest_type(size) == np.dtype(name)


@pytest.mark.parametrize("read", ["encode", "array"])
def test_a_character_that_is_unknown_is_shown(read):
    with pytest.raises(UserError, match="no 'x', 'é'"):
        getattr(tokenizers.Characters(list("abc")), read)("abxcé")


def test_an_unknown_piece_of_a_foreign_tokenizer_is_shown():
    model = {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1, "b": 2}, "unk_token": "[UNK]"}
    foreign = tokenizers.HuggingFace({"version": "1.0", "pre_tokenizer": {"type": "Whitespace"}, "model": model})
    assert foreign.encode("a b a") == [1, 2, 1]
    with pytest.raises(UserError, match="no 'zebra'"):
        foreign.encode("a zebra b")


def test_byte_pairs_are_learned_to_the_size_that_was_asked_for_and_know_every_byte():
    learned = tokenizers.train_bpe([TEXT], 300)
    assert learned.vocab_size == 300
    strange = "".join(map(chr, range(1, 3000)))
    assert learned.decode(learned.encode(strange)) == strange
    assert len(learned.encode(TEXT)) < len(TEXT.encode()) / 2


@pytest.mark.parametrize("content", ["", "[1]", '{"kind": "pickle"}', '{"kind": "characters"}', '{"model": {}}'])
def test_what_is_no_tokenizer_is_refused_by_its_name(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        tokenizers.load(path)


def test_a_vocabulary_that_is_not_gpt2s_is_refused(ranks, tmp_path):
    short = tmp_path / "short.tiktoken"
    short.write_bytes(b"".join(ranks.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match="does not hold GPT-2's"):
        tokenizers.named(f"gpt2:{short}")
    with pytest.raises(UserError, match="can't be read from"):
        tokenizers.named(f"gpt2:{tmp_path / 'absent'}")


def test_without_a_network_it_is_said_what_to_fetch(monkeypatch, tmp_path):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"can't be fetched .* fetch https://.* and use dataset\.tokenizer=gpt2:"):
        tokenizers.gpt2()
