"""Tokenizers that are exported say what ours say."""

import random

import pytest
import transformers
from helpers.architectures_of_others import ARITHMETIC, END, OURS, TEXT, VOCABULARY, our_section, save_ours

from cleangpt.basics.errors import UserError
from cleangpt.hf import folder
from cleangpt.tokens import exchange, tokenizers


def random_texts(alphabet, number=150):
    drawn = random.Random(0)
    return ["".join(drawn.choices(alphabet, k=drawn.randrange(25))) for _ in range(number)]


UNICODE = [*"abcxyz  .,!'tsre019\n\t\r", "é", "日", "本", "🙂", "\u00a0", "\u0301", "ß", "the", " quick", "'ll"]


def tiktoken_of(learned):
    """Store byte pairs as tiktoken does."""
    import base64

    letters = {letter: byte for byte, letter in enumerate(exchange._letters())}
    vocabulary = {word: i for word, i in learned.data["model"]["vocab"].items() if word != END}
    order = sorted(vocabulary, key=vocabulary.__getitem__)
    stored = [base64.b64encode(bytes(letters[letter] for letter in word)).decode() for word in order]
    return tokenizers.Tiktoken(exchange.GPT2_PATTERNS[0], stored, {END: len(stored)})


def byte_pairs(pattern):
    return lambda: tokenizers.Tiktoken(
        pattern or exchange.GPT2_PATTERNS[0], tiktoken_of(tokenizers.train_bpe([TEXT], VOCABULARY)).tokens, {END: 299}
    )


KINDS = {
    "arithmetic": (lambda: tokenizers.Characters(ARITHMETIC, end="\n", pad=" "), ARITHMETIC),
    "characters": (lambda: tokenizers.characters_of("".join(x for x in UNICODE if len(x) == 1), True), UNICODE[:21]),
    "bytes": (lambda: tokenizers.Bytes(), UNICODE),
    "bytes-without-end": (lambda: tokenizers.Bytes(with_end=False), UNICODE),
    "gpt2-like": (byte_pairs(None), UNICODE),
    "other-pattern": (byte_pairs(r"\p{N}{1,3}|[^\r\n\p{L}\p{N}]?\p{L}+|\s+|[^\s\p{L}\p{N}]+"), UNICODE),
    "learned": (lambda: tokenizers.train_bpe([TEXT], VOCABULARY), UNICODE),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ["gpt", "llama"])
def test_an_exported_tokenizer_says_what_ours_says(kind, architecture, tmp_path):
    make, alphabet = KINDS[kind]
    ours = make()
    section = our_section(**OURS[architecture]).model_copy(update={"vocab_size": ours.vocab_size})
    save_ours(tmp_path / "ours", section, ours)
    folder.export_folder(tmp_path / "ours", tmp_path / "out", "float32")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert theirs.eos_token_id == ours.end
    assert len(theirs) == ours.vocab_size
    drawn = random.Random(1)
    for text in random_texts(alphabet):
        ids = ours.encode(text)
        assert theirs(text, add_special_tokens=False)["input_ids"] == ids, repr(text)
        assert theirs.decode(ids, skip_special_tokens=False) == ours.decode(ids) == text
        anything = [drawn.randrange(ours.vocab_size) for _ in range(12)]
        assert theirs.decode(anything, skip_special_tokens=False) == ours.decode(anything)
    read = exchange.read(tmp_path / "out")
    assert read.end == ours.end
    assert exchange.difference(ours, read) is None


def test_an_exported_tokenizer_of_characters_refuses_what_ours_refuses(tmp_path):
    ours = tokenizers.Characters(ARITHMETIC, end="\n", pad=" ")
    with pytest.raises(UserError, match="can't write 'a'"):
        tokenizers.HuggingFace(exchange.library(ours)).encode("a")


def test_tokenizers_that_mean_something_else_are_told_apart(tokenizer):
    other = tokenizers.train_bpe([TEXT[::-1]], VOCABULARY)
    assert "token " in exchange.difference(tokenizer, other)
    assert exchange.difference(tokenizers.Bytes(with_end=False), tokenizer) == "256 tokens here, 300 there"
    assert exchange.difference(tokenizer, tiktoken_of(tokenizer)) is not None  # the end has another id
