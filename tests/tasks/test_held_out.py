"""Questions by number: all of them, each in one split, written and read as a person would."""

import random
import re
from collections import Counter
from itertools import product
from typing import Any

import numpy as np
import pytest
from helpers.configs import toy
from started.programs import ROOT

from cleangpt import tasks
from cleangpt.basics.errors import ConfigError, UserError
from cleangpt.basics.schema import parse
from cleangpt.tasks import copy, sort, strings
from cleangpt.tasks.held_out import SPLITS, Numbers
from cleangpt.tasks.strings import Strings

MODULES = {"copy": copy, "sort": sort}
SMALL = {"copy": {"letters": 3, "length": 4}, "sort": {"base": 4, "length": 3}}
RIGHT = {"copy": lambda text: text, "sort": lambda text: "".join(sorted(text))}


def settings(name: str, **changes: Any) -> Any:
    return parse({**toy(f"dataset={name}")["dataset"], **changes}, MODULES[name].Settings)


def make(name: str, **changes: Any) -> Any:
    return tasks.make(settings(name, **SMALL[name] | changes))


def questions(task: Any, split: str) -> list[str]:
    return [question.text for question in task.questions(task.batch(split, np.arange(task.size(split))))]


@pytest.mark.parametrize(("val", "test"), [(0.02, 0.15), (0.3, 0.3), (0.01, 0.97)])
@pytest.mark.parametrize("total", [3, 40, 1001])
def test_each_number_is_in_exactly_one_split(total, val, test):
    cut = Numbers(total, 0, val, test)
    found = [cut.items(split, np.arange(cut.count(split))) for split in SPLITS]
    assert np.array_equal(np.sort(np.concatenate(found)), np.arange(total))
    other = Numbers(total, 1, val, test)
    if total > 1000:
        assert len(found[0]) == pytest.approx((1 - val - test) * total, abs=2)
        assert not np.array_equal(other.items("test", np.arange(other.count("test"))), found[2])


@pytest.mark.parametrize("name", MODULES)
def test_the_splits_of_a_task_hold_every_string_once(name):
    task = make(name)
    alphabet, length = task.settings.strings.alphabet, task.settings.strings.longest
    every = ["".join(letters) for n in range(1, length + 1) for letters in product(alphabet, repeat=n)]
    assert Counter(text for split in SPLITS for text in questions(task, split)) == Counter(every)
    assert all(task.size(split) > 0 for split in SPLITS)


@pytest.mark.parametrize("name", MODULES)
def test_a_row_is_a_question_and_its_answer(name):
    task = make(name)
    for split in SPLITS:
        batch = task.batch(split, np.arange(task.size(split)))
        assert batch.inputs.shape == (task.size(split), task.sequence_length)
        for inputs, targets, answer, weights, real in zip(
            batch.inputs, batch.targets, batch.answer, batch.loss_weights, batch.real, strict=True
        ):
            text = task.tokenizer.decode([inputs[0], *targets]).rstrip(" ")
            asked, said = text.split("=")
            assert said == RIGHT[name](asked) + "\n"
            assert task.tokenizer.decode([*inputs, targets[-1]])[: len(text)] == text
            places = np.arange(1, task.sequence_length + 1)
            assert answer.tolist() == weights.tolist() == ((places > len(asked)) & (places < len(text))).tolist()
            assert real.tolist() == (places - 1 < len(text)).tolist()


@pytest.mark.parametrize("name", MODULES)
def test_what_a_person_asks_is_asked_as_in_training(name):
    task = make(name)
    for question in task.questions(task.batch("test", np.arange(10))):
        for typed in (question.text, f" {question.text}=\n"):
            asked = task.ask(typed)
            assert (asked.text, asked.tokens, asked.right) == (question.text, question.tokens, question.right)
        answer = RIGHT[name](question.text)
        assert asked.verdict(asked.right) == f"{question.text} = {answer} ✓"
        assert asked.verdict([0, 0, 0]).endswith(f"✗ it is {answer}") or set(answer) == {task.tokenizer.tokens[0]}
        assert len(asked.right) <= asked.new_tokens == task.answer_length
    shown = task.examples(3)
    assert [question.text for question in shown] == questions(task, "val")[:3]


@pytest.mark.parametrize("text", ["", "xyz", "aaaaaa", "a b", "9", "A"])
@pytest.mark.parametrize("name", MODULES)
def test_what_is_no_question_is_refused_in_a_sentence(name, text):
    with pytest.raises(UserError, match=r"this model knows strings of at most \d of \w+, and .* is none: write it"):
        make(name).ask(text)


@pytest.mark.parametrize("name", MODULES)
def test_keys_that_leave_nothing_are_refused_by_name(name):
    for changes, key in (
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "test_fraction"),
        ({"train_size": 10**6}, "train_size"),
        ({"length": 0}, "length"),
        ({"val_size": 0}, "val_size"),
    ):
        with pytest.raises(ConfigError) as error:
            settings(name, **SMALL[name] | changes)
        assert [mistake.split("`")[1] for mistake in error.value.mistakes] == [key]


@pytest.mark.parametrize("name", MODULES)
def test_what_is_held_out_does_not_depend_on_what_is_trained_on(name):
    whole, few = make(name), make(name, train_size=5)
    assert few.size("train") == few.count("train") == 5
    assert set(questions(few, "train")) < set(questions(whole, "train"))
    for split in ("val", "test"):
        assert questions(few, split) == questions(whole, split)
    assert (make(name, val_size=2).val_size, make(name, val_size=None).val_size) == (2, whole.size("val"))


def test_what_is_held_out_never_changes():
    """A model that was trained yesterday must not meet its training problems in tomorrow's test set."""
    found = {name: questions(tasks.make(settings(name)), "test")[:3] for name in MODULES}
    assert found == {"copy": ["fghbd", "hhb", "babee"], "sort": ["26866", "25981", "89188"]}


def test_strings_are_numbered_by_length_and_alphabet():
    found = Strings("ab", 3)
    rows = ["".join("ab"[n] for n in row if n >= 0) for row in found.letters(np.arange(found.count))]
    assert rows == ["a", "b", "aa", "ab", "ba", "bb", "aaa", "aab", "aba", "abb", "baa", "bab", "bba", "bbb"]
    assert [found.number(text) for text in rows] == list(range(14))


def test_more_strings_than_a_machine_can_count_are_numbered_and_split():
    task = make("copy", letters=26, length=40)
    assert task.count("test") > 10**54
    chance = random.Random(0)
    index = np.array([chance.randrange(task.size("test")) for _ in range(20)])
    texts = [question.text for question in task.questions(task.batch("test", index))]
    assert len(set(texts)) == 20
    numbers = task.numbers("test", index).tolist()
    assert [task.settings.strings.number(text) for text in texts] == numbers
    assert all(task.ask(text).text == text for text in texts)


def test_repeats_and_inversions_are_those_of_each_string():
    found = Strings("0123", 5)
    letters = found.letters(np.arange(found.count))
    texts = [[n for n in row if n >= 0] for row in letters.tolist()]
    assert strings.repeats(letters).tolist() == [len(text) - len(set(text)) for text in texts]
    pairs = [sum(a > b for n, a in enumerate(text) for b in text[n + 1 :]) for text in texts]
    assert strings.inversions(letters).tolist() == pairs


@pytest.mark.parametrize("name", MODULES)
def test_a_task_is_one_short_file_that_nothing_else_names(name):
    assert len((ROOT / "cleangpt" / "tasks" / f"{name}.py").read_text().splitlines()) <= 60
    assert (ROOT / "conf" / "dataset" / f"{name}.yaml").exists()
    named = re.compile(rf"""["'=]{name}["'\s]|tasks\.{name}\b|tasks import .*\b{name}\b""")
    places = [*ROOT.glob("*.py"), *(ROOT / "eval").glob("*.py"), *(ROOT / "cleangpt").rglob("*.py")]
    found = {path.name for path in places if named.search(path.read_text())}
    assert found == {f"{name}.py"}
