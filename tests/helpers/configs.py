"""Whole configurations at toy size, and what a program says about a command line."""

import copy
import sys
from functools import cache
from typing import Any

# A plain model has none of the options that make it learn faster.
_OFF = {"qk_norm": False, "zero_init": False, "logit_softcap": None, "bigram_embedding": None}


PLAIN = {
    "gpt": {**_OFF, "activation": "gelu_tanh", "positions": "learned"},
    "llama": {**_OFF, "activation": "swiglu", "positions": "rotary"},
}


SMALL = {
    "model.n_layer": 1,
    "model.n_embd": 16,
    "model.n_head": 2,
    "model.n_kv_head": None,
    "model.head_dim": None,
    "model.ffn_dim": None,
    "model.block_size": None,
    "dataset.digits": 1,
    "dataset.train_size": None,
    "train.steps": 4,
    "train.batch_size": 8,
    "train.micro_batch_size": None,
    "device": "cpu",
    "processes": 1,
}


def toy(*options: str, **changes: Any) -> dict[str, Any]:
    """A complete configuration at toy size, from conf/: `toy("model=gpt", **{"train.steps": 2})`."""
    data = copy.deepcopy(_composed(*options))
    for key, value in {**small(data), **changes}.items():
        section, leaf = data, key.rpartition(".")[2]
        for part in key.split(".")[:-1]:
            section = section.setdefault(part, {})
        section[leaf] = value
    return data


def small(data: dict[str, Any]) -> dict[str, Any]:
    """The changes that make a configuration small, as far as it has these keys."""
    left = {"dataset.digits"} if data.get("dataset", {}).get("mixture") else set()  # which its conditions need
    return {key: value for key, value in SMALL.items() if has(data, key) and key not in left}


def has(data: Any, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(data, dict) or part not in data:
            return False
        data = data[part]
    return True


@cache
def _composed(*options: str) -> dict[str, Any]:
    from hydra import compose, initialize_config_dir

    from cleangpt.config import composition

    with initialize_config_dir(composition.CONF, version_base=None):
        return composition.plain(compose("train", ["logger=quiet", *options]))


def look_ahead(*words: str, schema: Any = None, config_name: str = "train") -> list[str]:
    """What a program would say about this command line: its mistakes."""
    from hydra._internal.utils import get_args_parser

    from cleangpt.basics.errors import ConfigError
    from cleangpt.config import cli, command_line, composition
    from cleangpt.config import look_ahead as ahead
    from cleangpt.config.experiment import Config
    from cleangpt.sweeps import settings as sweeps

    schema = schema or Config
    cli.register_resolvers(schema, sweeps)
    before = sys.argv
    try:
        sys.argv, composition.program = sys.argv[:1], config_name
        arguments = command_line.options(get_args_parser(), list(words), schema)
        composition.own = arguments.config_dir
        ahead.check(arguments, schema, config_name, sweeps)
    except ConfigError as error:
        return error.mistakes
    finally:
        sys.argv, composition.own, composition.program = before, None, "train"
    return []
