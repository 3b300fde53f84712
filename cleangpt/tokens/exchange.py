"""Exchange tokenizers with the `tokenizers` library: its tokenizer.json says the same of every text as ours.

GPT-2's becomes byte pairs with their merges, characters become words of one character each, and bytes become byte
pairs without a merge. One thing differs, and is meant: in text, the library takes the name of a special token for it.
"""

import base64
import json
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cleangpt.basics import untrusted
from cleangpt.basics.errors import UserError
from cleangpt.tokens import tokenizers
from cleangpt.tokens.tokenizers import Bytes, Characters, HuggingFace, Tiktoken, Tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Library

ANY_CHARACTER = r"[\s\S]"
# GPT-2's pattern, as tiktoken has written it over time: what the library's ByteLevel does by itself.
GPT2_PATTERNS = (
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
)
GPT2 = "gpt2"
TEXTS = ("Hello, world's 12 + 345 = 357!\n", "naïve  日本語 🙂\t<|x|>\r\n\n", "0123456789+*= the The\u00a0THE")


def library(tokenizer: Tokenizer) -> dict[str, Any]:
    """Write a tokenizer as tokenizer.json."""
    match tokenizer:
        case HuggingFace():
            return tokenizer.data
        case Characters():
            made = _characters(tokenizer)
        case Bytes():
            made = _bytes(tokenizer)
        case Tiktoken():
            made = _byte_pairs(tokenizer)
    return json.loads(made.to_str())


def _characters(tokenizer: Characters) -> "Library":
    from tokenizers import Regex, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Library

    made = Library(models.WordLevel(dict(tokenizer.ids)))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(ANY_CHARACTER), "isolated")
    made.decoder = decoders.Fuse()
    return _with_special(made, [token for token in (tokenizer.end_token, tokenizer.pad_token) if token is not None])


def _bytes(tokenizer: Bytes) -> "Library":
    vocabulary = {letter: byte for byte, letter in enumerate(_letters())}
    return _with_special(_byte_level(vocabulary, [], None), [tokenizers.END] if tokenizer.end is not None else [])


def _byte_pairs(tokenizer: Tiktoken) -> "Library":
    letters = _letters()
    ranks = {base64.b64decode(token): rank for rank, token in enumerate(tokenizer.tokens)}

    def word(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    merges = [(word(a), word(b)) for a, b in (_halves(ranks, token) for token in ranks if len(token) > 1)]
    vocabulary = {word(token): rank for token, rank in ranks.items()}
    pattern = GPT2 if tokenizer.pattern in GPT2_PATTERNS else tokenizer.pattern
    special = sorted(tokenizer.special, key=tokenizer.special.__getitem__)
    return _with_special(_byte_level(vocabulary | tokenizer.special, merges, pattern), special)


def _halves(ranks: dict[bytes, int], token: bytes) -> tuple[bytes, bytes]:
    """Find the two tokens that are merged into this one: what its bytes become by the merges before it."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        found = [(ranks.get(a + b, ranks[token]), i) for i, (a, b) in enumerate(pairwise(parts))]
        rank, i = min(found)
        if rank >= ranks[token]:
            raise UserError(
                f"this tokenizer's token {token!r} is no merge of two others, and tokenizer.json has no place for such "
                "a vocabulary: it can't be exported"
            )
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts[0], parts[1]


def _byte_level(vocabulary: dict[str, int], merges: list[tuple[str, str]], pattern: str | None) -> "Library":
    """Make byte pairs over bytes that are written as letters. The pattern cuts words; None leaves the text whole."""
    from tokenizers import Regex, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Library

    made = Library(models.BPE(vocabulary, merges))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern == GPT2)
    words = None if pattern in (GPT2, None) else pre_tokenizers.Split(Regex(pattern), "isolated")
    made.pre_tokenizer = pre_tokenizers.Sequence([words, level]) if words else level
    made.decoder = decoders.ByteLevel()
    return made


def _with_special(made: "Library", special: list[str]) -> "Library":
    from tokenizers import AddedToken

    made.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in dict.fromkeys(special)])
    return made


def _letters() -> list[str]:
    """Write the 256 bytes as in a byte-level vocabulary: printable ones as themselves (GPT-2's convention)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def special_ids(tokenizer: Tokenizer) -> dict[str, int | None]:
    """Number the tokens that begin, end and fill up a text. GPT-2's begins a text as it ends one."""
    first = tokenizer.end if isinstance(tokenizer, Tiktoken) else begin(tokenizer)
    return {"bos_token_id": first, "eos_token_id": tokenizer.end, "pad_token_id": getattr(tokenizer, "pad", None)}


def configuration(tokenizer: Tokenizer, block_size: int) -> dict[str, Any]:
    """Fill in a tokenizer_config.json."""
    special = {key.removesuffix("_id"): i for key, i in special_ids(tokenizer).items() if i is not None}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{key: tokenizer.decode([i]) for key, i in special.items()},
        "model_max_length": block_size,
        "clean_up_tokenization_spaces": False,
        "add_prefix_space": False,
    }


def begin(tokenizer: Tokenizer) -> int | None:
    """Find the token that a tokenizer.json puts before every text, as Llama's does; None without one."""
    if not isinstance(tokenizer, HuggingFace):
        return None
    ids = tokenizer.tokenizer.encode("", add_special_tokens=True).ids
    return ids[0] if ids and ids[0] != tokenizer.end else None


def read(folder: Path) -> HuggingFace | None:
    """Read the tokenizer of a model in Hugging Face's format, if it brings one."""
    if not (folder / "tokenizer.json").exists():
        return None
    try:
        about = untrusted.json_object(folder / "tokenizer_config.json")
    except (OSError, ValueError):
        about = {}
    end = about.get("eos_token")
    end = end.get("content") if isinstance(end, dict) else end
    with untrusted.reading(folder / "tokenizer.json", "a tokenizer"):
        return HuggingFace(untrusted.json_object(folder / "tokenizer.json"), end if isinstance(end, str) else None)


def difference(one: Tokenizer, other: Tokenizer) -> str | None:
    """Say why two tokenizers don't mean the same by their tokens; None where they do."""
    if one.to_json() == other.to_json():
        return None
    vocabularies = [_vocabulary(tokenizer) for tokenizer in (one, other)]
    if vocabularies[0] != vocabularies[1]:
        sizes = [len(vocabulary) for vocabulary in vocabularies]
        if sizes[0] != sizes[1]:
            return f"{sizes[0]} tokens here, {sizes[1]} there"
        here, there = ({i: token for token, i in vocabulary.items()} for vocabulary in vocabularies)
        i = min(i for i in here.keys() | there.keys() if here.get(i) != there.get(i))
        return f"token {i} is {here.get(i)!r} here and {there.get(i)!r} there"
    for text in TEXTS:
        found = [_ids(tokenizer, text) for tokenizer in (one, other)]
        if found[0] != found[1]:
            return f"{text!r} becomes {found[0]} here and {found[1]} there"
    return None


def _vocabulary(tokenizer: Tokenizer) -> dict[str, int]:
    from tokenizers import Tokenizer as Library

    return Library.from_str(json.dumps(library(tokenizer))).get_vocab(with_added_tokens=True)


def _ids(tokenizer: Tokenizer, text: str) -> list[int] | None:
    try:
        return list(tokenizer.encode(text))
    except UserError:
        return None  # it has no token for some character
