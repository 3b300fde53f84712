"""Stored configurations of earlier versions, brought to today's keys.

`version` in config.json says what keys it is written in; it is no key of a configuration itself. Whoever adds a key,
or changes what one means, raises VERSION and adds to MIGRATIONS what makes a configuration of the version before mean
the same as it did. `python tests/versions/make.py` then keeps a small run of the new version for the tests.
"""

import copy
from collections.abc import Callable
from typing import Any

VERSION = 3


def stamped(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration as it is stored."""
    return {"version": VERSION, **config}


def to_today(stored: dict[str, Any]) -> dict[str, Any]:
    """A stored configuration in today's keys, without its version; a ValueError where that is none that we know."""
    data = copy.deepcopy(stored)
    version = data.pop("version", 1)
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise ValueError(f"its `version` is {version!r}, and not a whole number from 1 on")
    if version > VERSION:
        raise ValueError(
            f"it is of version {version}, and this CleanGPT reads versions up to {VERSION}: use a newer CleanGPT"
        )
    for number in range(version, VERSION):
        MIGRATIONS[number](data)
    return data


def _fill(data: dict[str, Any], section: str, **keys: Any) -> None:
    """Keys that are not there get the value that means what it meant without them."""
    if isinstance(data.get(section), dict):
        data[section] = {**keys, **data[section]}


def _from_1(data: dict[str, Any]) -> None:
    """In the first version no number was stored, and keys were added as time went by."""
    if "source" not in data:  # weights that were imported have no more than a model
        data.setdefault("profile", False)
        data.setdefault("init_from", None)
    name = data["model"].get("name") if isinstance(data.get("model"), dict) else None
    off = {"zero_init": False, "logit_softcap": None, "value_embeddings": False, "bigram_embedding": None}
    own = {"gpt": {"activation": "gelu_tanh"}, "llama": {"activation": "swiglu", "rope_scaling": None}}
    _fill(data, "model", qk_norm=False, **off, **(own.get(name, {}) if isinstance(name, str) else {}))
    _fill(data, "optimizer", layer_decay=1.0)
    _fill(data, "train", stop_when=None, freeze=[])
    train = data.get("train")
    _fill(data, "schedule", steps=train.get("steps") if isinstance(train, dict) else None)
    _fill(data, "logger", norms=None)
    dataset = data.get("dataset")
    if isinstance(dataset, dict) and "tokenizer" in dataset:  # prepared text
        _fill(data, "dataset", windows="cover")


def _from_2(data: dict[str, Any]) -> None:
    """Models lost an option."""
    if isinstance(data.get("model"), dict) and data["model"].pop("value_embeddings", False) is not False:
        raise ValueError(
            "its `model.value_embeddings` is on, which this CleanGPT no longer has: use an earlier one, or train the "
            "model again without it"
        )


MIGRATIONS: dict[int, Callable[[dict[str, Any]], None]] = {1: _from_1, 2: _from_2}  # from this version to the next
