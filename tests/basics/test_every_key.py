"""Each key is refused what it can't be, in words that agree with its type and bounds."""

import copy
import math
import re

import pytest
from helpers.configs import has, toy
from helpers.refusals import SCORE, changed, configurations, mistake, mistakes
from pydantic import ValidationError, create_model

from cleangpt.basics.schema import Section, expected, keys, parse
from cleangpt.config.experiment import Config
from cleangpt.config.programs import ScoreConfig


def example(key: str, schema: type[Section]) -> dict:
    """Take a valid configuration that has this key."""
    examples = configurations() if schema is Config else [SCORE]
    return copy.deepcopy(next(data for data in examples if has(data, key)))


EVERY_KEY = [(schema, key) for schema in (Config, ScoreConfig) for key in keys(schema)]
NAMED = {"null": None, "true": True, "false": False}
CHOICES = sorted({word for schema, key in EVERY_KEY for word in re.findall(r"[a-z0-9_]+", expected(keys(schema)[key]))})
NUMBERS = [-1, 0, 1, 2, 3, 19, 20, 21, 2**63 - 1, 2**63, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 1e9]
NOT_FINITE = [math.inf, -math.inf, math.nan]
OTHERS = [None, True, False, "", "some text", "3", [], [1], {}, {"a": 1}]
VALUES = [*NUMBERS, *NOT_FINITE, *OTHERS, *CHOICES]


def number(words: str) -> float:
    base, _, exponent = words.partition("^")
    return int(base) ** int(exponent) if exponent else int(base) if base.isdigit() else float(base)


def words_accept(words: str, value) -> bool:
    """Test whether a person who believes these words would write this value."""
    return any(_branch_accepts(branch, value) for branch in words.split(" or "))


def _branch_accepts(words: str, value) -> bool:
    if words.startswith("a list of "):
        return isinstance(value, list) and all(words_accept(words.removeprefix("a list of "), item) for item in value)
    if words.startswith("a ") and "number" in words:
        whole = type(value) is int
        if not (whole or (type(value) is float and math.isfinite(value) and not words.startswith("a whole"))):
            return False
        found = re.findall(r"(at least|above|up to|below|multiple of) ([\d.e+^]+)", words)
        bounds = {name: number(bound) for name, bound in found}
        return (
            bounds.get("at least", value) <= value <= bounds.get("up to", value)
            and ("above" not in bounds or value > bounds["above"])
            and ("below" not in bounds or value < bounds["below"])
            and ("multiple of" not in bounds or value % bounds["multiple of"] == 0)
        )
    if words == "a group of keys":
        return isinstance(value, dict)
    if words.startswith("text of at most "):
        return isinstance(value, str) and len(value) <= int(words.split()[4])
    if words.startswith("text"):
        return isinstance(value, str) and (value != "" or words == "text")
    choices = [NAMED.get(choice, choice) for choice in words.removeprefix("one of ").split(", ")]
    return any(value is choice or (isinstance(value, str) and value == choice) for choice in choices)


@pytest.mark.parametrize(("schema", "key"), EVERY_KEY, ids=lambda part: getattr(part, "__name__", part))
def test_the_words_of_a_key_agree_with_what_its_type_and_bounds_accept(schema, key):
    field = keys(schema)[key]
    alone = create_model("Alone", __base__=Section, value=(field.annotation, field))
    disagree = []
    for value in VALUES:
        try:
            alone(value=value)
            accepted = True
        except ValidationError:
            accepted = False
        if accepted != words_accept(expected(field), value):
            disagree.append((value, "accepted" if accepted else "refused"))
    assert not disagree, expected(field)


def test_the_words_accept_every_value_of_conf():
    told = {key: expected(field) for key, field in keys(Config).items()}
    for data in configurations():
        assert mistakes(data) == []
        for key, words in told.items():
            if has(data, key):
                value = data
                for part in key.split("."):
                    value = value[part]
                assert words_accept(words, value), (key, value, words)


@pytest.mark.parametrize(("schema", "key"), EVERY_KEY, ids=lambda part: getattr(part, "__name__", part))
def test_a_value_that_a_key_cannot_have_is_refused_in_one_sentence_about_the_key(schema, key):
    words = expected(keys(schema)[key])
    for value in VALUES:
        if not words_accept(words, value):
            found = mistakes(changed(example(key, schema), key, value), schema)
            assert len(found) == 1, (value, found)
            assert found[0].startswith(f"`{key}` must be "), (value, found)


ONE_OF_TWO = ("train.stop_when.at_least", "train.stop_when.at_most")


def test_a_goal_has_one_bound():
    whole = {"metric": "val/loss", "at_least": None, "at_most": 1.5, "times": 2}
    for left_out in ("at_least", None):
        given = {key: value for key, value in whole.items() if key != left_out}
        assert parse(toy(**{"train.stop_when": given}), Config).train.stop_when.at_most == 1.5
    for wrong in ({"at_most": None}, {"at_least": 0.5}):
        assert mistake(**{"train.stop_when": {**whole, **wrong}}) == (
            "`train.stop_when.at_most` and train.stop_when.at_least: one has to be a number and the other null"
        )
    never = {"train.stop_when": whole, "train.eval_every": None}
    assert mistake(**never).startswith("`train.stop_when` is judged at evaluations, and there are none before the end")


@pytest.mark.parametrize(("schema", "key"), EVERY_KEY, ids=lambda part: getattr(part, "__name__", part))
def test_a_missing_key_is_named_with_what_it_may_be(schema, key):
    if key in ONE_OF_TWO:
        return
    data = example(key, schema)
    *path, leaf = key.split(".")
    section = data
    for part in path:
        section = section[part]
    del section[leaf]
    (sentence,) = mistakes(data, schema)
    assert f"`{key}`" in sentence
    assert key.endswith(".name") or sentence.endswith(expected(keys(schema, data)[key]))
