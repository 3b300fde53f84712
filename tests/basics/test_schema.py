"""A configuration is judged once: every mistake is named, in words that say what would be right."""

import json
import math

import pytest
from helpers.configs import toy
from helpers.refusals import SCORE, changed, configurations, mistake, mistakes, subjects
from pydantic import ValidationError

from cleangpt import tasks
from cleangpt.basics.errors import ConfigError
from cleangpt.basics.schema import parse
from cleangpt.config.experiment import Config, resolve
from cleangpt.config.programs import ScoreConfig

GROUPS = ["dataset", "model", "optimizer", "schedule", "schedule.lr", "schedule.grad_accum", "train", "logger"]


# ---- types


@pytest.mark.parametrize("value", [True, False, 2.0, "2", None, [2], math.nan])
def test_a_whole_number_is_nothing_that_resembles_one(value):
    assert mistake(**{"train.steps": value}).startswith("`train.steps` must be a whole number of at least 1, not ")


@pytest.mark.parametrize("value", [True, "0.1", None, math.inf, -math.inf, math.nan])
def test_a_number_is_finite_and_no_truth_value(value):
    assert mistake(**{"optimizer.lr": value}).startswith("`optimizer.lr` must be a number above 0, not ")


@pytest.mark.parametrize("value", [1, 0, 1.0, "true", "yes", None])
def test_a_truth_value_is_true_or_false_only(value):
    assert mistake(**{"model.tied": value}).startswith("`model.tied` must be true or false, not ")
    (sentence,) = mistakes(toy(**{"compile": value}))
    assert sentence.startswith("`compile` must be ")


def test_a_whole_number_will_do_for_a_number():
    assert parse(toy(**{"optimizer.lr": 1}), Config).optimizer.lr == 1


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("value", [None, 3, "adder", []])
def test_a_group_is_not_a_value(group, value):
    data = changed(toy(), group, value)
    (sentence,) = mistakes(data)
    assert sentence.startswith(f"`{group}` must be a group of keys, not ")


def test_a_branch_of_a_union_is_chosen_by_its_name():
    for name in ("gpt", "llama", "lstm"):
        assert type(parse(toy(f"model={name}"), Config).model).__module__ == f"cleangpt.models.{name}"


@pytest.mark.parametrize(("group", "names"), [("model", ["gpt", "llama"]), ("dataset", ["adder", "multiplier"])])
@pytest.mark.parametrize("wrong", [{}, {"name": None}, {"name": "nope"}, {"name": ["gpt"]}])
def test_a_group_without_a_right_name_is_told_the_names_there_are(group, names, wrong):
    data = toy()
    data[group] = wrong
    (sentence,) = mistakes(data)
    assert sentence.startswith(f"`{group}.name` ")
    assert all(name in sentence for name in names)


def test_a_mistyped_choice_gets_the_nearest_one():
    assert mistake(dtype="bfloat").endswith("not bfloat: did you mean bfloat16?")


def test_a_configuration_cannot_be_changed():
    config = parse(toy(), Config)
    for section, name in ((config, "seed"), (config.train, "steps"), (config.schedule.lr, "end")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, name, 7)


def test_a_configuration_survives_json():
    for data in configurations():
        config = parse(data, Config)
        assert parse(json.loads(json.dumps(config.model_dump(mode="json"))), Config) == config


# ---- unknown keys


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("train.stepz", "train.steps"),
        ("train.batchsize", "train.batch_size"),
        ("dataset.digitz", "dataset.digits"),
        ("model.heads", "model.n_head"),
        ("schedule.lr.warm_up", "schedule.lr.warmup"),
        ("sed", "seed"),
        ("optimiser.lr", "optimizer.lr"),
        ("modle.n_layer", "model.n_layer"),
        # the right name at the wrong level
        ("steps", "train.steps"),
        ("digits", "dataset.digits"),
        ("n_layer", "model.n_layer"),
        ("train.lr", "optimizer.lr"),
        ("train.seed", "seed"),
        ("model.digits", "dataset.digits"),
        ("optimizer.grad_clip", "train.grad_clip"),
        ("schedule.warmup", "schedule.lr.warmup"),
        # both at once
        ("bacth_size", "train.batch_size"),
        ("train.warm_up", "schedule.lr.warmup"),
        # a group
        ("modle", "model"),
        ("optimiser", "optimizer"),
        ("schedul", "schedule"),
        ("train.schedule", "schedule"),
    ],
)
def test_an_unknown_key_is_told_the_nearest_right_one(wrong, right):
    assert mistake(**{wrong: 1}) == f"`{wrong}` is not a key: did you mean `{right}`?"


@pytest.mark.parametrize("wrong", ["zzz", "train.qqq", "model.bias", "optimizer.learning_rate", "schedule.lr.qqq"])
def test_an_unknown_key_that_resembles_none_is_told_those_beside_it_and_no_guess(wrong):
    sentence = mistake(**{wrong: 1})
    assert sentence.startswith(f"`{wrong}` is not a key: there are ")
    section = toy()
    prefix = wrong.rpartition(".")[0]
    for part in prefix.split(".") if prefix else []:
        section = section[part]
    told = sentence.partition("there are ")[2].split(", ")
    assert sorted(told) == sorted(f"{prefix}.{name}" if prefix else name for name in section)


def test_a_key_of_another_model_is_unknown():
    assert subjects(mistakes(toy("model=gpt", **{"model.rope_base": 1e4}))) == ["model.rope_base"]
    assert subjects(mistakes(toy("model=llama", **{"model.bias": True}))) == ["model.bias"]


def test_an_unknown_group_is_named_with_its_keys_at_once():
    (sentence,) = mistakes({**toy(), "wandb": {"project": "p"}})
    assert sentence.startswith("`wandb.project` is not a key: ")


@pytest.mark.parametrize("group", ["", *GROUPS])
def test_no_group_lets_an_unknown_key_in(group):
    wrong = f"{group}.qqq".lstrip(".")
    assert subjects(mistakes(toy(**{wrong: None}))) == [wrong]


# ---- what must fit together


@pytest.mark.parametrize(
    ("option", "changes", "key", "words"),
    [
        ("model=gpt", {"model.n_head": 3}, "model.n_head", "must divide model.n_embd=16, and 3 does not"),
        ("model=llama", {"model.n_head": 3}, "model.head_dim", "model.n_embd=16 over model.n_head=3"),
        ("model=llama", {"model.n_head": 16}, "model.head_dim", "is not an even number"),
        ("model=llama", {"model.head_dim": 3}, "model.head_dim", "multiple of 2"),
        ("model=llama", {"model.n_kv_head": 4}, "model.n_kv_head", "must divide model.n_head=2, and 4 does not"),
        (
            "model=llama",
            {"model.block_size": 5},
            "model",
            "shorter than one sample of 6 tokens: set model.block_size=6",
        ),
        ("schedule=cosine", {"schedule.lr.decay": 0.96}, "schedule.lr.decay", "leave room for warmup=0.05"),
        ("schedule=cosine", {"schedule.lr.style": "wsd"}, "schedule.lr.decay", "must be given with style=wsd"),
        (
            "schedule=cosine",
            {"schedule.grad_accum.warmup": 0.7, "schedule.grad_accum.decay": 0.7},
            "schedule.grad_accum.decay",
            "add up to 1, not 1.4",
        ),
        ("dataset=adder", {"dataset.padded": False, "dataset.symbols": False}, "dataset.symbols", "must be true"),
        ("dataset=adder", {"dataset.padded": False, "dataset.end_token": False}, "dataset.end_token", "must be true"),
        ("dataset=adder", {"dataset.val_fraction": 0.9}, "dataset.test_fraction", "leave nothing for train"),
        ("dataset=adder", {"dataset.train_size": 101}, "dataset.train_size", "must be at most "),
    ],
)
def test_values_that_do_not_fit_together_are_refused(option, changes, key, words):
    (sentence,) = mistakes(toy(option, **changes))
    assert sentence.startswith(f"`{key}` ")
    assert words in sentence


@pytest.mark.parametrize(
    ("option", "changes"),
    [
        ("model=gpt", {"model.n_head": 16}),
        ("model=llama", {"model.n_head": 3, "model.head_dim": 4}),
        ("model=llama", {"model.n_head": 4, "model.n_kv_head": 2}),
        ("model=llama", {"model.block_size": 6}),
        ("schedule=cosine", {"schedule.lr.warmup": 0.9, "schedule.lr.decay": 0.1}),
        ("schedule=cosine", {"schedule.lr.warmup": 0.7, "schedule.lr.decay": 0.3}),
        ("schedule=wsd", {"schedule.lr.warmup": 1.0, "schedule.lr.decay": 0.0}),
        ("dataset=adder", {"dataset.symbols": False, "dataset.end_token": False}),
        ("dataset=adder", {"dataset.digits": 20}),
    ],
)
def test_values_that_just_fit_together_are_accepted(option, changes):
    assert mistakes(toy(option, **changes)) == []


def test_a_train_size_may_be_all_that_is_not_held_out_and_no_more():
    most = parse(toy(), Config).dataset.universe().count("train")
    assert mistakes(toy(**{"dataset.train_size": most})) == []
    assert f"must be at most {most}," in mistake(**{"dataset.train_size": most + 1})


# ---- all at once


def test_every_mistake_is_named_once_and_at_the_same_time():
    wrong = {
        "seed": True,
        "dtype": "float23",
        "compile": "on",
        "processes": 0,
        "steps": 4,
        "dataset.digits": 0,
        "dataset.digitz": 2,
        "model.n_head": 3,
        "model.n_kv_head": 2,
        "optimizer.lr": "abc",
        "optimizer.beta2": 1.0,
        "schedule.lr.style": "sine",
        "schedule.weight_decay.decay": 1.5,
        "schedule.grad_accum.begin": 0,
        "train.steps": -5,
        "train.stepz": 3,
        "train.grad_clip": math.nan,
        "logger.samples": 1.5,
    }
    told = {**wrong, "model.head_dim": None}  # what must be given with these heads
    del told["model.n_head"]
    assert subjects(mistakes(toy("model=llama", **wrong))) == sorted(told)


def test_every_wrong_key_of_a_score_is_named():
    wrong = {"run": "", "split": "", "limit": 0, "method": None, "device": "gpu", "runs": "x"}
    assert subjects(mistakes({**SCORE, **wrong}, ScoreConfig)) == sorted(wrong)


# ---- what is left open


@pytest.mark.parametrize("option", ["model=gpt", "model=llama", "schedule=wsd", "schedule=constant"])
def test_a_resolved_configuration_is_complete_and_still_a_right_one(option):
    config = parse(toy(option), Config)
    done = resolve(config, tasks.make(config.dataset))
    off = {"rope_scaling", "logit_softcap", "bigram_embedding"}  # null is what they are, and stands for nothing else
    assert {key for key, value in done.model.model_dump().items() if value is None} <= off
    lr, decay, accum = done.schedule.lr, done.schedule.weight_decay, done.schedule.grad_accum
    assert (lr.begin, decay.begin, accum.begin) == (config.optimizer.lr, config.optimizer.weight_decay, 1)
    assert None not in (lr.end, decay.end, accum.end)
    assert parse(done.model_dump(mode="json"), Config) == done
    assert resolve(done, tasks.make(done.dataset)) == done


def test_what_is_given_is_not_resolved_away():
    given = {
        "model.block_size": 9,
        "model.vocab_size": 20,
        "model.head_dim": 6,
        "model.ffn_dim": 5,
        "model.n_kv_head": 1,
    }
    given |= {"schedule.lr.begin": 0.5, "schedule.lr.end": 0.0, "schedule.weight_decay.end": 0.0}
    config = parse(toy("model=llama", **given), Config)
    done = resolve(config, tasks.make(config.dataset)).model_dump()
    for key, value in given.items():
        section, _, leaf = key.rpartition(".")
        place = done
        for part in section.split("."):
            place = place[part]
        assert place[leaf] == value


def test_a_vocabulary_smaller_than_the_tokenizer_is_refused():
    config = parse(toy(**{"model.vocab_size": 14}), Config)
    with pytest.raises(ConfigError, match=r"`model.vocab_size` must be at least 15"):
        resolve(config, tasks.make(config.dataset))
