"""Operations, formats and positions against plain Python: integers, strings and loops, written apart from them."""

import random
import sys
import types
from importlib import metadata

import numpy as np
import pytest
from helpers.sums import laboratory as task
from helpers.sums import questions_of as asked
from helpers.sums import settings

from cleangpt.basics import found
from cleangpt.basics.errors import ConfigError, UserError
from cleangpt.tasks.lab import choices
from cleangpt.tasks.lab.operations import maximum

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def in_base(value: int, base: int) -> str:
    text = ""
    while value or not text:
        text, value = DIGITS[value % base] + text, value // base
    return text


BARE = {"padded": False, "reversed": False}
# What is right, as a person would say it: (changes, answer to the texts of the operands).
OPERATIONS = {
    "sums": ({}, lambda a, b: str(int(a) + int(b))),
    "sums of four": ({"operands": 4, "padded": False}, lambda *x: str(sum(map(int, x)))),
    "binary sums": ({"base": 2, "digits": 7}, lambda a, b: in_base(int(a, 2) + int(b, 2), 2)),
    "hexadecimal products": (
        {"operation": "multiply", "base": 16, "padded": False},
        lambda a, b: in_base(int(a, 16) * int(b, 16), 16),
    ),
    "differences": ({"operation": "subtract"}, lambda a, b: str(int(a) - int(b))),
    "unpadded differences": ({"operation": "subtract", **BARE}, lambda a, b: str(int(a) - int(b))),
    "products": ({"operation": "multiply"}, lambda a, b: str(int(a) * int(b))),
    "4 by 1 products": ({"operation": "multiply", "digits": 4, "digits_b": 1}, lambda a, b: str(int(a) * int(b))),
    "products of three": ({"operation": "multiply", "operands": 3}, lambda a, b, c: str(int(a) * int(b) * int(c))),
    "maximum": ({"operation": "maximum", "operands": 3}, lambda *x: str(max(map(int, x)))),
    "sums modulo 97 in digits": ({"modulus": 97, "digits": 2}, lambda a, b: str((int(a) + int(b)) % 97)),
    "differences modulo 10": (
        {"operation": "subtract", "modulus": 10, "digits": 1},
        lambda a, b: str((int(a) - int(b)) % 10),
    ),
    "copy": ({"operation": "copy", "operands": 1, **BARE}, lambda a: a),
    "reverse": ({"operation": "reverse", "operands": 1, **BARE}, lambda a: a[::-1]),
    "sort": ({"operation": "sort", "operands": 1, **BARE}, lambda a: "".join(sorted(a))),
    "parity": ({"operation": "parity", "operands": 1, "base": 2, "digits": 8, **BARE}, lambda a: str(a.count("1") % 2)),
}  # fmt: skip
SYMBOLS = {"add": "+", "subtract": "-", "multiply": "*", "maximum": ","}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_answer_is_what_python_computes(name):
    changes, right = OPERATIONS[name]
    of = task(**changes)
    symbol = SYMBOLS.get(of.settings.operation)
    for split in ("train", "val", "test"):
        for question in asked(of, split):
            operands = question.text.split(symbol) if symbol else [question.text]
            assert question.read(question.right) == right(*operands), question.text


@pytest.mark.parametrize("operation", ["add", "subtract", "multiply", "divide"])
@pytest.mark.parametrize("p", [5, 97])
def test_modulo_an_odd_number_every_pair_is_in_one_split_and_each_number_is_a_token(operation, p):
    of = task(operation=operation, modulus=p, base=p, digits=1, split="ordered")
    seen = {}
    for split in ("train", "val", "test"):
        batch = of.batch(split, np.arange(of.size(split)))
        assert batch.inputs.shape[1] == of.sequence_length == 5
        for a, b, c in zip(batch.inputs[:, 0], batch.inputs[:, 2], batch.inputs[:, 4], strict=True):
            assert (int(a), int(b)) not in seen
            seen[int(a), int(b)] = int(c)
    pairs = [(a, b) for a in range(p) for b in range(operation == "divide", p)]
    assert sorted(seen) == pairs
    right = {
        "add": lambda a, b: (a + b) % p,
        "subtract": lambda a, b: (a - b) % p,
        "multiply": lambda a, b: a * b % p,
        "divide": lambda a, b: next(q for q in range(p) if q * b % p == a),
    }[operation]
    assert all(seen[a, b] == right(a, b) for a, b in pairs)


@pytest.mark.parametrize("p", [3, 5, 7, 97])
def test_modulo_an_odd_number_both_orders_of_a_pair_are_in_one_split(p):
    of = task(modulus=p, base=p, digits=1, test_fraction=0.3, val_fraction=0.3)
    place = {}
    for split in ("train", "val", "test"):
        batch = of.batch(split, np.arange(of.size(split)))
        place |= {(int(a), int(b)): split for a, b in zip(batch.inputs[:, 0], batch.inputs[:, 2], strict=True)}
    assert len(place) == p * p
    assert all(place[a, b] == place[b, a] for a, b in place)


def test_an_operation_of_an_installed_package_is_found_by_its_name(monkeypatch):
    module = types.ModuleType("minimal")

    class Operation(maximum.Operation):
        symbol, plural = ",", "smallest numbers"

        def _larger(self, a, b):
            return np.where((super()._larger(a, b) == a).all(axis=1)[:, None], b, a)

    module.Operation = Operation
    monkeypatch.setitem(sys.modules, "minimal", module)
    entry = metadata.EntryPoint("minimum", "minimal", "cleangpt.operations")
    monkeypatch.setattr(found, "installed", lambda: metadata.EntryPoints([entry]))
    monkeypatch.setattr(choices, "modules", choices.modules.__wrapped__)  # which has looked before
    assert {"minimum", "add"} <= set(choices.modules("operation"))
    made = choices.load("operation", "minimum")()
    numbers = [np.array([[1, 2], [3, -1]]), np.array([[2, 1], [4, -1]])]
    assert made.answer(numbers).tolist() == [[2, 1], [3, -1]]
    monkeypatch.setitem(sys.modules, "minimal", types.ModuleType("minimal"))
    with pytest.raises(UserError, match=r"dataset\.operation=minimum"):
        choices.load("operation", "minimum")


# ---- slices


def test_the_slices_of_sums_and_differences_are_what_a_person_counts_on_paper():
    for operation in ("add", "subtract"):
        of = task(operation=operation, digits=4)
        index = np.arange(300)
        cuts = {}
        for name, values in of.slices("val", index).items():
            cuts |= values if isinstance(values, dict) else {name: values}
        for row, question in enumerate(asked(of, "val", 300)):
            a, b = map(int, question.text.split("+" if operation == "add" else "-"))
            if operation == "subtract" and a < b:
                a, b = b, a
            flags, nines, carry = [], [], 0
            for k in range(5):
                x, y = a // 10**k % 10, b // 10**k % 10
                total = x + y + carry if operation == "add" else x - y - carry
                nines.append(x + y == 9 and carry and total >= 10)
                carry = int(total >= 10 or total < 0)
                flags.append(carry)
            runs = [len(run) for run in "".join(map(str, flags)).split("0")]
            count, run = ("carries", "run") if operation == "add" else ("borrows", "run")
            assert cuts[count][row] == sum(flags)
            assert cuts[run][row] == max(runs)
            if operation == "add":
                assert cuts["cascade"][row] == max(len(r) for r in "".join("1" if n else "0" for n in nines).split("0"))
            else:
                first, second = map(int, question.text.split("-"))
                assert cuts["negative"][row] == (first < second)


# ---- what makes no sense

WRONG = [
    ({"operation": "divide", "split": "ordered"}, "is modulo a prime"),
    ({"operation": "divide", "modulus": 91, "split": "ordered"}, "is modulo a prime"),
    ({"operation": "divide", "modulus": 97}, "must be ordered"),
    ({"operation": "maximum", "modulus": 97}, "has no meaning modulo"),
    ({"operation": "copy"}, "must be 1 with dataset.operation=copy"),
    ({"operation": "subtract", "operands": 3}, "must be 2 with dataset.operation=subtract"),
    ({"format": "scratchpad", "operation": "multiply"}, "is for sums of two numbers"),
    ({"format": "hints", "base": 16}, "has letters of its own"),
    ({"positions": "coupled", "padded": False, "reversed": False}, "which digit comes first"),
    ({"positions": "abacus", "format": "scratchpad"}, "which digit comes next"),
    ({"position_range": 30}, "has no meaning with dataset.positions=natural"),
    ({"digits": [3, 1]}, "must be a number or [least, most]"),
    ({"digits": [1, 2, 3]}, "must be a number or [least, most]"),
    ({"sets": {"test": {"digits": 3}}}, "a split of its own"),
    ({"sets": {"far": {"digit": 3}}}, "`digit` is not a key"),
    ({"sets": {"far": {"where": {"borrows": 3}}}}, "borrows is no slice of dataset.operation=add"),
    ({"sets": {"far": {"digits": [5, 2]}}}, "must be a number or [least, most]"),
    ({"mixture": [{"lengths": "long"}]}, "lengths must be value, length, pair"),
    ({"padded": False, "symbols": False}, "must be true with dataset.padded=false"),
    ({"format": "icot"}, "is for products of two numbers: set dataset.operation=multiply"),
    ({"format": "scratchpad", "remove_after": 5, "remove_every": 1}, "have no meaning with dataset.format=scratchpad"),
    ({"remove_every": 5}, "belong together"),
    ({"padded": False, "padded_to": 5}, "has no meaning with dataset.padded=false"),
    ({"padded_to": 2}, "must not be less than dataset.digits"),
    ({"remove_after": 10**20}, "below"),
    ({"format": "scratchpad", "end_token": False}, "nothing else tells where its answer ends"),
    ({"format": "scratchpad", "equals": "", "loss": "conclusion"}, "needs dataset.equals"),
    ({"layout": "packed", "mixture": [{"until": 5}, {"since": 5}]}, "must be rows where samples change"),
    ({"mixture": [5], "train_size": 5}, "must be a list of a group of keys"),
    ({"loss": "conclusion"}, "dataset.format=plain has nothing before it"),
    ({"mixture": [{"where": {"carries": "x"}}]}, "`dataset.mixture.0`: carries must be a number or [least, most]"),
    ({"mixture": [{"digits": "x"}]}, "`dataset.mixture.0`: `digits` must be a whole number"),
    ({"mixture": [{"until": 5}]}, "no part to train on from sample 5 on"),
    ({"mixture": [{"since": 5}]}, "no part to train on from sample 0 on"),
    ({"mixture": [{"since": 5, "until": 5}, {}]}, "until must be more than since"),
    ({"mixture": [{"until": 5}, {"since": 5}], "train_size": 100}, "has no meaning where samples change"),
    ({"operator": "5", "padded": "operands"}, "is a digit or the end too"),
    ({"operator": "5", "sets": {"a": {"digits": 4}}}, "where a symbol is a digit"),
    ({"start": "7", "symbols": False, "lengths": "length"}, "is a digit or the end too"),
    ({"equals": "+"}, "is dataset.operator too"),
    ({"start": "="}, "is dataset.equals too"),
    ({"equals": " "}, "is a space, which fills rows up"),
    ({"format": "hints", "operator": "a"}, "is a hint too"),
    ({"operator": "", "padded": False}, "only padded operands tell where they end"),
    ({"equals": "", "padded": False}, "only padded operands tell where they end"),
    ({"base": 37, "digits": 1}, "where a number is one token"),
    ({"base": 97, "modulus": 97, "digits": 2}, "where a number is one token"),
    ({"format": "hints", "digits": 60}, "is for at most 52 digits"),
    ({"positions": "coupled", "position_range": 3}, "need 7 positions"),
    ({"exclude_digits": [[-1, 5]]}, "write [power, digit]"),
    ({"exclude_digits": [[5]]}, "write [power, digit]"),
    ({"mixture": [{"digits": [1, 2], "lengths": [1, 1, 1]}]}, "must be 2 weights"),
    ({"mixture": [{"digits": 0}]}, "from 1 to 1000"),
    ({"mixture": []}, "has no part"),
    ({"sets": {"far": {"digits": 100_000}}}, "from 1 to 1000"),
    ({"sets": {"far": {"where": {"carries": [2, 1]}}}}, "must be a number or [least, most]"),
    ({"sets": {"../x": {"digits": 3}}}, "which names files"),
    ({"sets": {"far": {"digits": 3, "each": 3, "size": 9}}}, "leave one out"),
    ({"operation": "copy", "operands": 1, "digits_b": 2, "padded": False}, "no meaning with one operand"),
    (
        {"operation": "divide", "modulus": 97, "base": 97, "digits": 1, "split": "ordered", "sets": {"z": {"size": 9}}},
        "is for all pairs of numbers",
    ),
]


@pytest.mark.parametrize(("changes", "words"), WRONG, ids=lambda value: str(value)[:60])
def test_a_combination_that_makes_no_sense_is_refused_in_a_sentence(changes, words):
    with pytest.raises(ConfigError) as error:
        settings(name="arithmetic", **changes)
    assert words in str(error.value)


def test_what_the_model_could_not_have_learned_is_refused():
    for changes, text, words in (
        ({}, "12-7", "knows sums only"),
        ({}, "1234+1", "has 4 digits"),
        ({"modulus": 97, "digits": 2}, "98+1", "numbers below 97"),
        ({"base": 2}, "102+1", "digits below 2"),
        ({"operation": "copy", "operands": 1, "padded": False}, "1+2", "knows copies only"),
        ({"operation": "divide", "modulus": 7, "base": 7, "digits": 1, "split": "ordered"}, "5/0", "has no answer"),
    ):
        with pytest.raises(UserError) as error:
            task(**changes).ask(text)
        assert words in str(error.value)


def test_random_problems_are_asked_and_answered_alike_in_every_style():
    chance = random.Random(5)
    for _ in range(30):
        changes = {
            "operation": chance.choice(["add", "subtract", "multiply", "maximum"]),
            "base": chance.choice([2, 7, 10, 16]),
            "digits": chance.choice([2, 3, [1, 3]]),
            "padded": chance.choice([True, False, "operands", "answer"]),
            "reversed": chance.choice([True, False, "operands", "all"]),
            "start": chance.choice(["", "$"]),
            "space": chance.choice(["", " "]),
            "vocabulary": chance.choice(["usual", "used"]),
        }
        of = task(**changes)
        for question in asked(of, "val", 30):
            again = of.ask(question.text)
            assert (again.tokens, again.right) == (question.tokens, question.right), changes
            assert again.is_right([*question.right, of.tokenizer.pad])
