"""Bring stored configurations of earlier versions to today's keys.

`version` in config.json says what keys it is written in; it is no key of a configuration itself. Whoever adds a key,
or changes what one means, raises VERSION and adds to MIGRATIONS what makes a configuration of the version before mean
the same as it did. `python tests/versions/make.py` then keeps a small run of the new version for the tests.
"""

import copy
from typing import Any

VERSION = 5


def stamped(config: dict[str, Any]) -> dict[str, Any]:
    """Add to a configuration what is stored with it."""
    return {"version": VERSION, **config}


def to_today(stored: dict[str, Any]) -> dict[str, Any]:
    """Bring a stored configuration to today's keys, without its version; a ValueError where we don't know that."""
    data = copy.deepcopy(stored)
    version = data.pop("version", 1)
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise ValueError(f"its `version` is {version!r}, and not a whole number from 1 on")
    if version > VERSION:
        raise ValueError(
            f"it is of version {version}, and this CleanGPT reads versions up to {VERSION}: use a newer CleanGPT"
        )
    for migrate in MIGRATIONS[version - 1 :]:
        migrate(data)
    return data


def _section(data: dict[str, Any], name: str) -> dict[str, Any]:
    found = data.get(name)
    return found if isinstance(found, dict) else {}


def _fill(data: dict[str, Any], name: str, **keys: Any) -> None:
    """Give the keys that a section lacks the value that means what it meant without them."""
    if isinstance(data.get(name), dict):
        data[name] = {**keys, **data[name]}


def _from_1(data: dict[str, Any]) -> None:
    """Add the keys that came before configurations had a version."""
    if "source" not in data:  # weights that were imported have no more than a model
        data.setdefault("profile", False)
        data.setdefault("init_from", None)
    _fill(data, "model", qk_norm=False, zero_init=False, logit_softcap=None, value_embeddings=False)
    _fill(data, "model", bigram_embedding=None)
    own: dict[str, dict[str, Any]]
    own = {"gpt": {"activation": "gelu_tanh"}, "llama": {"activation": "swiglu", "rope_scaling": None}}
    _fill(data, "model", **own.get(str(_section(data, "model").get("name")), {}))
    _fill(data, "optimizer", layer_decay=1.0)
    _fill(data, "train", stop_when=None, freeze=[])
    _fill(data, "schedule", steps=_section(data, "train").get("steps"))
    _fill(data, "logger", norms=None)
    if "tokenizer" in _section(data, "dataset"):  # prepared text
        _fill(data, "dataset", windows="cover")


def _from_2(data: dict[str, Any]) -> None:
    """Take away an option that models have lost."""
    if _section(data, "model").pop("value_embeddings", False) is not False:
        raise ValueError(
            "its `model.value_embeddings` is on, which this CleanGPT no longer has: use an earlier one, or train the "
            "model again without it"
        )


def _from_3(data: dict[str, Any]) -> None:
    """Add the keys of arithmetic, of which there were sums and products, of positions and of best/."""
    _fill(data, "train", best="val/loss", eval_train=None)
    model = _section(data, "model")
    if model.get("name") == "gpt":
        _fill(data, "model", positions="learned", position_rows=model.get("block_size"))
    elif model.get("name") == "llama":
        _fill(data, "model", positions="rotary")
    name = _section(data, "dataset").get("name")
    if name in ("adder", "multiplier"):
        operation = "add" if name == "adder" else "multiply"
        _fill(data, "dataset", operation=operation, modulus=None, base=10, operands=2, format="plain")
        _fill(data, "dataset", operator=None, equals="=", start="", space="", vocabulary="usual")
        _fill(data, "dataset", digits_b=None, lengths="value", mixture=None, exclude_operands=None, exclude_digits=None)
        _fill(data, "dataset", layout="rows", window=None, confine=False, average="tokens")
        _fill(data, "dataset", remove_after=None, remove_every=None, padded_to=None)
        _fill(data, "dataset", source=None, positions="natural", position_range=None, sets=None, test_size=10_000)


def _from_4(data: dict[str, Any]) -> None:
    """Add where weights, gradients and optimizer lie."""
    _fill(data, "train", shard="none", shard_group=None)


MIGRATIONS = (_from_1, _from_2, _from_3, _from_4)  # from version 1 to 2, from 2 to 3, …
