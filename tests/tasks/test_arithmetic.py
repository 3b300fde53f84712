"""Problems as tokens, exactly and against a plain reference; and which settings make sense."""

import random
from itertools import product

import numpy as np
import pytest
from helpers.sums import ADDER, arithmetic, encode, settings, written

from cleangpt.basics.errors import ConfigError
from cleangpt.basics.schema import parse
from cleangpt.tasks.arithmetic import Settings, Task

# The problem 7 and 95 in every format: (padded, reversed, symbols, end_token), prompt|answer.
FORMATS = {
    "adder": {
        (True, False, True, True): "007+095=|0102\n",
        (True, False, True, False): "007+095=|0102",
        (True, False, False, True): "007095|0102\n",
        (True, False, False, False): "007095|0102",
        (True, True, True, True): "007+095=|2010\n",
        (True, True, True, False): "007+095=|2010",
        (True, True, False, True): "007095|2010\n",
        (True, True, False, False): "007095|2010",
        (False, False, True, True): "7+95=|102\n    ",
        (False, True, True, True): "7+95=|201\n    ",
    },
    "multiplier": {
        (True, False, True, True): "007*095=|000665\n",
        (True, False, True, False): "007*095=|000665",
        (True, False, False, True): "007095|000665\n",
        (True, False, False, False): "007095|000665",
        (True, True, True, True): "007*095=|566000\n",
        (True, True, True, False): "007*095=|566000",
        (True, True, False, True): "007095|566000\n",
        (True, True, False, False): "007095|566000",
        (False, False, True, True): "7*95=|665\n      ",
        (False, True, True, True): "7*95=|566\n      ",
    },
}
KEYS = ("padded", "reversed", "symbols", "end_token")
ROWS = [
    ({"name": name, "loss": loss, **dict(zip(KEYS, key, strict=True))}, text)
    for name, rows in FORMATS.items()
    for key, text in rows.items()
    for loss in ("answer", "all")
]
MEANINGFUL = [dict(zip(KEYS, key, strict=True)) for key in FORMATS["adder"]]


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64 if max(values) < 2**62 else object)


def refused(**changes) -> str:
    with pytest.raises(ConfigError) as error:
        settings(**changes)
    return str(error.value)


@pytest.mark.parametrize(("changes", "text"), ROWS, ids=lambda value: repr(value) if isinstance(value, str) else "")
def test_a_row_reads_exactly_so_and_its_masks_cover_the_answer(changes, text):
    task = arithmetic(**changes)
    batch = encode(task, ints(7), ints(95))
    prompt, answer = text.split("|")
    tokens = prompt + answer
    assert task.tokenizer.decode(batch.inputs[0].tolist()) == tokens[:-1]
    assert task.tokenizer.decode(batch.targets[0].tolist()) == tokens[1:]
    assert batch.inputs.shape == (1, task.sequence_length)
    # Of the targets, that is, of the text without its first token:
    is_answer = ([0] * len(prompt) + [int(c != " ") for c in answer])[1:]
    assert batch.answer[0].astype(int).tolist() == is_answer
    is_text = [int(c != " ") for c in tokens]
    counts = is_answer if changes["loss"] == "answer" else is_text[1:]
    assert batch.loss_weights[0].tolist() == counts
    assert batch.real[0].astype(int).tolist() == is_text[:-1]


def test_the_formats_above_are_all_that_are_accepted():
    for name, key in product(FORMATS, product((True, False), repeat=4)):
        changes = {"name": name, **dict(zip(KEYS, key, strict=True))}
        if key in FORMATS[name]:
            settings(**changes)
        else:
            refused(**changes)


def reference(s: Settings, a: int, b: int) -> dict[str, list]:
    """One row, token by token."""
    prompt, answer = written(s, a, b)
    width = 2 * s.digits + 2 * s.symbols + (s.digits + 1 if s.name == "adder" else 2 * s.digits) + s.end_token
    text = (prompt + answer).ljust(width)
    length = len(prompt) + len(answer)
    rows = {"inputs": [], "targets": [], "loss_weights": [], "answer": [], "real": []}
    for place in range(1, width):  # of the target
        rows["inputs"].append("0123456789+*=\n ".index(text[place - 1]))
        rows["targets"].append("0123456789+*=\n ".index(text[place]))
        rows["answer"].append(len(prompt) <= place < length)
        rows["loss_weights"].append(float(rows["answer"][-1] or (s.loss == "all" and place < length)))
        rows["real"].append(place - 1 < length)
    return rows


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("digits", range(1, 21))
def test_the_encoder_agrees_with_the_plain_reference(name, digits):
    chance = random.Random(digits)
    numbers = [0, 1, 10**digits - 1, *(chance.randrange(10 ** chance.randint(1, digits)) for _ in range(5))]
    problems = list(product(numbers, repeat=2))
    a, b = (np.array([problem[i] for problem in problems], ints(10**digits).dtype) for i in (0, 1))
    for changes, loss in product(MEANINGFUL, ("answer", "all")):
        s = settings(name=name, digits=digits, loss=loss, **changes)
        batch = encode(Task(s), a, b)
        slow = [reference(s, *problem) for problem in problems]
        for field in slow[0]:
            found = getattr(batch, field)
            assert np.array_equal(found, np.array([row[field] for row in slow])), field
        assert batch.inputs.dtype == batch.targets.dtype == np.int64
        assert batch.loss_weights.dtype == np.float32
        assert batch.answer.dtype == batch.real.dtype == bool


@pytest.mark.parametrize("changes", MEANINGFUL, ids=str)
@pytest.mark.parametrize("name", FORMATS)
def test_an_answer_is_read_back_as_the_number_it_is(name, changes):
    task = arithmetic(name=name, **changes)
    for a, b in ((0, 0), (7, 95), (100, 900), (999, 999)):
        _, answer = written(task.settings, a, b)
        assert task.read_answer(task.tokenizer.encode(answer)) == str(a + b if name == "adder" else a * b)


def test_an_answer_that_is_no_number_is_shown_as_it_is():
    task = arithmetic()
    assert task.read_answer(task.tokenizer.encode("1=2\n")) == "1=2"
    assert task.read_answer(task.tokenizer.encode("\n0123")) == ""


def test_a_question_is_written_for_a_person():
    assert arithmetic().question("7", "95") == "7+95"
    assert arithmetic(name="multiplier").question("7", "95") == "7*95"


def test_a_batch_holds_the_problems_of_these_indices():
    task = arithmetic()
    index = np.array([5, 0, 5])
    for split in ("train", "val", "test"):
        batch, expected = task.batch(split, index), task.encode(task.problems(split, index))
        assert np.array_equal(batch.inputs, expected.inputs)
        assert np.array_equal(batch.inputs[0], batch.inputs[2])


def test_unpadded_without_symbols_is_refused():
    assert "`symbols`" in refused(padded=False, symbols=False)


def test_unpadded_without_end_token_is_refused():
    assert "`end_token`" in refused(padded=False, end_token=False)


@pytest.mark.parametrize(("val", "test"), [(0.5, 0.5), (0.02, 0.98), (0.9, 0.2)])
def test_fractions_that_hold_out_everything_are_refused(val, test):
    assert "`test_fraction`" in refused(val_fraction=val, test_fraction=test)


@pytest.mark.parametrize("split", ["unordered", "ordered"])
@pytest.mark.parametrize("digits", [1, 2, 20])
def test_settings_leave_a_problem_in_each_split_or_are_refused(digits, split):
    empty = []
    for val, test in ((0.39, 0.6), (0.01, 0.98), (0.005, 0.99), (0.5, 0.499999), (1e-9, 1e-9)):
        try:
            s = settings(digits=digits, split=split, val_fraction=val, test_fraction=test)
        except ConfigError:
            continue
        empty += [(val, test, name) for name in ("train", "val", "test") if not Task(s).size(name)]
    assert not empty


@pytest.mark.parametrize("split", ["unordered", "ordered"])
@pytest.mark.parametrize("digits", [1, 3, 20])
def test_a_training_set_larger_than_there_is_is_refused(digits, split):
    available = settings(digits=digits, split=split).universe().count("train")
    if digits < 10:
        assert settings(digits=digits, split=split, train_size=available).train_size == available
    message = refused(digits=digits, split=split, train_size=available + 1)
    assert "`train_size`" in message
    assert str(available) in message


def test_the_size_of_a_split_is_that_of_the_universe_unless_a_training_size_is_given():
    task = arithmetic(train_size=50)
    assert task.size("train") == 50
    assert task.size("test") == arithmetic().size("test") == task.universe.count("test")
    assert arithmetic().size("train") == 1_000_000 - task.size("test") - task.size("val")


def test_an_evaluation_looks_at_val_size_problems_or_at_all_there_are():
    assert arithmetic(val_size=100).val_size == 100
    assert arithmetic(digits=1, val_size=2000).val_size == arithmetic(digits=1).size("val")
    assert arithmetic(val_size=None).val_size == arithmetic().size("val")


@pytest.mark.parametrize(("key", "value"), [("digits", 0), ("digits", 1001), ("val_fraction", 0.0), ("train_size", 0)])
def test_values_out_of_bounds_are_refused_by_name(key, value):
    assert f"`{key}`" in refused(**{key: value})


def test_every_mistake_is_named():
    with pytest.raises(ConfigError) as error:
        parse({**ADDER, "digits": 0, "loss": "some", "padding": True}, Settings)
    assert [mistake.split("`")[1] for mistake in error.value.mistakes] == ["digits", "loss", "padding"]
