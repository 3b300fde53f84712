"""What is refused, and in which words."""

import re
from functools import cache

import pytest
from started.programs import ROOT

from cleangpt.basics.errors import ConfigError, UserError
from cleangpt.basics.schema import parse
from cleangpt.config.experiment import Config
from helpers.configs import toy
from helpers.limits import within

SCORE = {"run": "latest", "split": "test", "data": None, "limit": None, "method": "auto", "device": "auto"}
SCORE |= {"suite": "own", "tasks": None, "fewshot": None, "include": None, "sets": None}
SCORE |= {"ask": {"prefix": "", "temperature": 0.0, "top_k": None, "samples": 1}}


def mistakes(data, schema=Config) -> list[str]:
    try:
        parse(data, schema)
    except ConfigError as error:
        return error.mistakes
    return []


def mistake(**changes) -> str:
    """Parse a toy configuration with these changes, and return the one sentence on it."""
    (sentence,) = mistakes(toy(**changes))
    return sentence


def subjects(sentences: list[str]) -> list[str]:
    """List the keys that the sentences are about."""
    return sorted(re.match(r"`([^`]*)`", sentence)[1] for sentence in sentences)


def refused(action) -> str:
    """Do what ends with one sentence, within seconds, and return the sentence."""
    with within(20), pytest.raises(UserError) as found:
        action()
    said = str(found.value)
    assert said.isprintable(), said
    return said


@cache
def configurations() -> tuple[dict, ...]:
    """Compose one valid configuration for each model, data set and optimizer of conf/."""
    groups = ("model", "dataset", "optimizer", "experiment")
    options = [f"{group}={path.stem}" for group in groups for path in (ROOT / "conf" / group).glob("*")]
    return (toy(), *(toy(option) for option in sorted(options)))


def changed(data: dict, key: str, value) -> dict:
    *path, leaf = key.split(".")
    section = data
    for part in path:
        section = section[part]
    section[leaf] = value
    return data
