"""Small texts, prepared for tests."""

import itertools
import random
from pathlib import Path
from typing import Any

from cleangpt.basics.schema import parse
from cleangpt.corpus import store
from cleangpt.corpus.prepare import prepare
from cleangpt.tasks.text import Settings
from helpers.configs import toy

WORDS = ("the", "king", "of", "night", "shall", "not", "speak", "O", "crown;", "naïve", "– my", "lord!", "日本語", "42")


def prose(words: int, seed: int = 0) -> str:
    """Lines of words, some of them beyond ASCII."""
    draw = random.Random(seed)
    found = itertools.chain.from_iterable((draw.choice(WORDS), draw.choice(" " * 6 + "\n")) for _ in range(words))
    return "".join(found)


def settings(**changes: Any) -> Settings:
    return parse({**toy("dataset=text")["dataset"], **changes}, Settings)


def prepared(folder: Path, text: str | None = None, workers: int = 1, force: bool = False, **changes: Any):
    """Settings whose data lies in folder/data, and the data."""
    if text is not None:
        (folder / "source.txt").write_text(text, encoding="utf-8", newline="")
        changes.setdefault("source", str(folder / "source.txt"))
    given = {"tokenizer": "characters", "dir": str(folder / "data"), **changes}
    made = settings(**given)
    return made, prepare(made, workers, force, lambda *_: None)[0]


def text_of(data: store.Prepared, split: str) -> str:
    return data.tokenizer.decode(data.splits[split].ids.tolist())
