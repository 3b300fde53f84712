"""Which problems are trained on, held out and scored besides: drawn by key, numbered, or read from a file."""

from collections import Counter

import numpy as np
import pytest
from helpers.sums import settings

from cleangpt.basics.errors import ConfigError, UserError
from cleangpt.tasks.arithmetic import Task

SYMBOLS = "+-*,"


def task(**changes) -> Task:
    return Task(settings(name="arithmetic", **changes))


def texts(of: Task, split: str, count: int = 1000) -> list[str]:
    index = np.arange(min(count, of.size(split)))
    return [question.text for question in of.questions(of.batch(split, index))]


def operands(text: str) -> list[str]:
    for symbol in SYMBOLS:
        text = text.replace(symbol, " ")
    return text.split()


DRAWN = {
    "lengths": {"digits": [1, 4], "lengths": "length"},
    "pairs of lengths": {"digits": [1, 4], "lengths": "pair"},
    "weights": {"digits": [1, 3], "lengths": [1.0, 0.0, 3.0]},
    "from 2 digits on, by value": {"digits": [2, 3]},
    "three operands": {"operands": 3, "digits": 2},
    "4 by 1": {"operation": "multiply", "digits": 4, "digits_b": 1},
    "binary": {"base": 2, "digits": [1, 9], "lengths": "pair"},
    "modulo": {"modulus": 97, "digits": [1, 2], "lengths": "pair"},
    "a mixture": {"mixture": [{"digits": 1}, {"digits": 3, "where": {"carries": [2, 3]}, "weight": 4}]},
    "without some": {"exclude_operands": [5, 17], "exclude_digits": [[2, 7]]},
    "differences": {"operation": "subtract", "digits": [1, 4], "lengths": "pair"},
    "strings": {"operation": "reverse", "operands": 1, "digits": [2, 4], "lengths": "length", "reversed": False},
}


@pytest.mark.parametrize("name", DRAWN)
def test_no_held_out_problem_is_trained_on_in_any_order_of_its_operands(name):
    of = task(**{"padded": False, "test_size": 400, "val_size": 200, **DRAWN[name]})
    found = {split: texts(of, split) for split in ("train", "val", "test")}
    sets = {split: {tuple(sorted(operands(text))) for text in found[split]} for split in found}
    assert not sets["train"] & sets["val"]
    assert not sets["train"] & sets["test"]
    assert not sets["val"] & sets["test"]
    for split in ("val", "test"):
        assert len(set(found[split])) == len(found[split]) == of.size(split)


def test_split_by_ordered_pair_leaks_and_unordered_does_not():
    sizes = {"digits": [1, 2], "lengths": "pair", "padded": False}
    for split, leaks in (("ordered", True), ("unordered", False)):
        of = task(split=split, **sizes)
        train = set(texts(of, "train", 6_000))
        mirrored = {"+".join(reversed(text.split("+"))) for text in texts(of, "test")}
        assert bool(train & mirrored) == leaks


@pytest.mark.parametrize("name", ["lengths", "pairs of lengths", "weights", "from 2 digits on, by value"])
def test_problems_have_the_lengths_that_were_asked_for_as_often_as_was_said(name):
    changes = DRAWN[name]
    of = task(padded=False, val_fraction=0.01, test_fraction=0.01, test_size=50, val_size=50, **changes)
    index = np.random.default_rng(0).integers(1 << 50, size=3_000)
    pairs = [tuple(map(len, operands(q.text))) for q in of.questions(of.batch("train", index))]
    found = Counter(pairs)
    if name == "lengths":
        expected = {(k, k): 0.25 for k in range(1, 5)}
    elif name == "pairs of lengths":
        expected = {(a, b): 1 / 16 for a in range(1, 5) for b in range(1, 5)}
    elif name == "weights":
        expected = {(a, b): (1 if a == 1 else 3) * (1 if b == 1 else 3) / 16 for a in (1, 3) for b in (1, 3)}
    else:
        expected = {(a, b): (0.1 if a == 2 else 0.9) * (0.1 if b == 2 else 0.9) for a in (2, 3) for b in (2, 3)}
    assert set(found) == set(expected)
    for pair, share in expected.items():
        assert found[pair] / 3_000 == pytest.approx(share, abs=0.04)


def test_digits_are_drawn_alike_and_a_number_does_not_begin_with_zero():
    of = task(digits=[3, 3], lengths="length", padded=False, test_size=50, val_size=50)
    index = np.random.default_rng(1).integers(1 << 50, size=4_000)
    numbers = [number for q in of.questions(of.batch("train", index)) for number in operands(q.text)]
    for place in range(3):
        found = Counter(number[place] for number in numbers)
        assert set(found) == set("123456789" if place == 0 else "0123456789")
        assert max(found.values()) < 1.3 * min(found.values())


def test_conditions_and_exclusions_hold_for_all_that_is_trained_on():
    of = task(**DRAWN["a mixture"], padded=False)
    kinds = Counter()
    for text in texts(of, "train"):
        a, b = map(int, text.split("+"))
        carries = sum((a % 10**k + b % 10**k) >= 10**k for k in (1, 2, 3))
        assert max(a, b) < 10 or carries in (2, 3)
        kinds[max(a, b) >= 10] += 1
    assert kinds[True] / 1000 == pytest.approx(0.8, abs=0.05)
    of = task(**DRAWN["without some"])
    for text in texts(of, "train"):
        for number in map(int, text.split("+")):
            assert number not in (5, 17)
            assert number // 100 != 7
    held_out = {number for text in texts(of, "test", 10_000) for number in map(int, text.split("+"))}
    assert {5, 17} & held_out
    assert any(number // 100 == 7 for number in held_out)


def test_a_sample_is_a_function_of_its_index_whatever_else_is_asked_for():
    of, again = task(digits=[1, 9], lengths="pair"), task(digits=[1, 9], lengths="pair")
    index = np.array([5, 1 << 40, 77, 5])
    whole = of.batch("train", index)
    for row in range(4):
        alone = again.batch("train", index[row : row + 1])
        assert np.array_equal(whole.inputs[row], alone.inputs[0])
    other = task(digits=[1, 9], lengths="pair", split_seed=1).batch("train", index)
    assert not np.array_equal(whole.inputs, other.inputs)


def test_a_training_set_of_drawn_problems_may_be_a_fixed_one():
    of = task(digits=[1, 5], lengths="pair", train_size=40)
    assert of.size("train") == 40
    assert len(set(texts(of, "train"))) > 30


# ---- sets


def test_a_set_holds_what_it_says_and_nothing_that_is_trained_on():
    sets = {
        "longer": {"digits": [3, 5], "lengths": "length", "each": 20},
        "grid": {"digits": [1, 3], "lengths": "pair", "each": 5},
        "nines": {"digits": [2, 2], "where": {"cascade": [1, 2]}, "size": 50},
    }
    for changes in ({"digits": 2}, {"digits": [1, 2], "lengths": "pair"}):
        of = task(padded=False, sets=sets, **changes)
        assert of.sets == list(sets)
        lengths = Counter(tuple(map(len, operands(text))) for text in texts(of, "longer"))
        assert lengths == {(k, k): 20 for k in (3, 4, 5)}
        grid = Counter(tuple(map(len, operands(text))) for text in texts(of, "grid"))
        assert set(grid) == {(a, b) for a in (1, 2, 3) for b in (1, 2, 3)}
        assert max(grid.values()) == 5
        train = set(texts(of, "train", 8_000)) | set(texts(of, "val", 8_000))
        for name in sets:
            assert len(set(texts(of, name))) == of.size(name)
            for text in texts(of, name):
                a, b = text.split("+")
                assert not {text, f"{b}+{a}"} & train
        for text in texts(of, "nines"):
            a, b = map(int, text.split("+"))
            assert a % 10 + b % 10 == 9 or a // 10 + b // 10 == 9
        assert of.slices("longer", np.arange(60))["digits"].tolist() == [3] * 20 + [4] * 20 + [5] * 20
        assert of.trained_to["digits"] == 2
        assert of.batch("longer", np.arange(60)).inputs.shape[1] <= of.sequence_length


def test_a_set_that_nothing_fits_is_refused_and_does_not_hang():
    of = task(digits=2, sets={"none": {"digits": [2, 2], "where": {"carries": 9}}})
    with pytest.raises(UserError, match=r"dataset\.sets\.none"):
        of.size("none")


def test_conditions_that_nothing_meets_are_refused_and_do_not_hang():
    with pytest.raises(UserError, match="leaves nothing for val"):
        task(mixture=[{"digits": 2, "where": {"carries": 9}}])


def test_what_is_rare_is_found():
    of = task(digits=5, mixture=[{}, {"where": {"cascade": [3, 5]}, "weight": 0.1}], test_size=10, val_size=10)
    cascades = of.slices("train", np.arange(600))["cascade"]
    assert (cascades >= 3).sum() == pytest.approx(600 / 11, abs=30), "one in a thousand without a mixture"


# ---- files


def test_problems_of_a_file_are_held_out_by_what_they_ask(tmp_path):
    path = tmp_path / "problems.txt"
    pairs = [(a, b) for a in range(40) for b in range(40)]
    path.write_text("".join(f"{a}+{b}={a + b}\n" if a % 2 else f" {a} + {b}\r\n" for a, b in pairs) + "\n7+8=15\n")
    of = task(source=str(path), digits=2, padded=False)
    found = {split: texts(of, split, 2000) for split in ("train", "val", "test")}
    everything = [text for split in found for text in found[split]]
    assert sorted(everything) == sorted(f"{a}+{b}" for a, b in pairs)
    place = {text: split for split in found for text in found[split]}
    assert all(place[f"{a}+{b}"] == place[f"{b}+{a}"] for a, b in pairs)
    assert len(found["test"]) == pytest.approx(0.15 * 1600, abs=60)
    before = of.fingerprint()
    assert before == task(source=str(path), digits=2).fingerprint()
    path.write_text(path.read_text() + "40+40\n")
    assert task(source=str(path), digits=2).fingerprint() != before
    assert task().fingerprint() == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1+2=4\n", "line 1: '1+2=4' is wrong, it is 3"),
        ("1+2\n3*4\n", "line 2: this model knows sums only"),
        ("1+2\n1234+1\n", "line 2: 1234 has 4 digits"),
        ("\n\n", "holds no problem"),
    ],
)
def test_a_file_with_a_mistake_is_refused_by_its_line(tmp_path, text, words):
    path = tmp_path / "problems.txt"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        task(source=str(path))
    assert words in str(error.value)
    path.write_text("1+2\n3+4\n")
    with pytest.raises(ConfigError, match=r"has no meaning with dataset\.source"):
        task(source=str(path), exclude_operands=[5])
    with pytest.raises((UserError, ConfigError), match="can't be read"):
        task(source=str(tmp_path / "none.txt"))


def test_a_set_may_be_a_file(tmp_path):
    path = tmp_path / "hard.txt"
    path.write_text("99999+1\n1+99999=100000\n")
    of = task(digits=2, padded=False, sets={"hard": {"source": str(path)}})
    assert texts(of, "hard") == ["99999+1", "1+99999"]
    assert of.sequence_length >= len("99999+99999=199998")
    path.write_text("".join(f"{a}+{b}\n" for a in range(20) for b in range(20)))
    of = task(digits=2, padded=False, sets={"known": {"source": str(path)}})
    assert 0 < of.size("known") < 400
    assert not set(texts(of, "known")) & (set(texts(of, "train", 6_000)) | set(texts(of, "val", 6_000)))


MIRRORED = [
    ({"digits": 2, "digits_b": 1}, {"s": {"digits": 2, "digits_b": 2, "size": 300}, "r": {"digits": 1, "digits_b": 2}}),
    (
        {"mixture": [{"digits": [2, 2], "digits_b": 1}, {"digits": [3, 3]}]},
        {"f": {"digits": [1, 3], "lengths": "pair"}},
    ),
    ({"operation": "reverse", "operands": 1, "reversed": False, "digits": 3}, {"s": {"size": 60, "digits": 4}}),
]


@pytest.mark.parametrize(("changes", "sets"), MIRRORED, ids=str)
def test_a_set_holds_nothing_that_is_trained_on_the_other_way_round(changes, sets):
    of = task(padded=False, sets=sets, **changes)
    known = {tuple(sorted(operands(text))) for split in ("train", "val") for text in texts(of, split, 6_000)}
    for name in sets:
        assert of.size(name)
        assert not {tuple(sorted(operands(text))) for text in texts(of, name)} & known
