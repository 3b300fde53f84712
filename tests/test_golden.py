"""Nothing that is computed changes by accident: small runs give the golden values that tests/golden/ keeps.

On a kind of machine that has a file of values there, every bit is compared. On another the values of any file serve:
settings, tokens, steps, columns and fields have to be the same, losses nearly so, and what hangs on single bits
(digests of weights, decoded texts, scores) is left out; the name of each test says which of the two it was.
`python tests/golden/make.py` writes the values anew, where a change is meant.
"""

import json

import pytest
from golden import compare, make
from started import programs

FILES = {path.stem: path for path in sorted(make.HERE.glob("*.json"))}
OURS = compare.machine() in FILES
NAMED = "to the bit" if OURS else "nearly, as there are no values of this kind of machine"
FAST = [maker.__name__ for maker in make.FAST]
SLOW = [maker.__name__ for maker in make.SLOW]


def golden():
    return json.loads(FILES[compare.machine() if OURS else next(iter(FILES))].read_text(encoding="utf-8"))


def check(name):
    tolerance = None if OURS else compare.TOLERANCE.get(name, compare.USUAL)
    found = compare.differences(golden()[name], make.values_of(name, started=programs.run), tolerance)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", FAST, ids=lambda name: f"{name} {NAMED}")
def test_what_is_computed_stays(name):
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW, ids=lambda name: f"{name} {NAMED}")
def test_everything_that_is_computed_stays(name):
    check(name)


@pytest.mark.parametrize("file", FILES)
def test_a_resumed_run_is_the_whole_one(file):
    values = json.loads(FILES[file].read_text(encoding="utf-8"))
    resumed = {name.replace("resumed", "growing"): value for name, value in values["resumed"]["here"].items()}
    assert resumed == values["growing"]["here"]


@pytest.mark.parametrize("file", FILES)
def test_two_processes_compute_what_one_does(file):
    values = json.loads(FILES[file].read_text(encoding="utf-8"))
    one, two = values["llama_muon"], values["two_processes"]
    assert compare.near(one["near"]["llama_muon train/loss"], two["near"]["two_processes train/loss"], 1e-4)
    assert one["here"]["llama_muon final weights"] != two["here"]["two_processes final weights"]  # or it was one


@pytest.mark.parametrize("file", FILES)
def test_every_value_is_kept(file):
    assert set(json.loads(FILES[file].read_text(encoding="utf-8"))) == set(make.MAKERS)


VALUES = {
    "anywhere": {"steps": "1 2", "fields": ["a b", "a c"]},
    "settings": {"run": {"model.n_layer": 2, "model.value_embeddings": False, "seed": 0}},
    "near": {"loss": "0x1.0000000000000p+0 0x1.8000000000000p+0"},
    "here": {"weights": "0a", "text": ["a", "b"]},
}


def changed(kind, **values):
    return VALUES | {kind: VALUES[kind] | values}


@pytest.mark.parametrize(
    ("other", "here", "elsewhere"),
    [
        (VALUES, [], []),
        (changed("anywhere", steps="1 3"), *[["steps: was 1 2, is 1 3"]] * 2),
        (changed("anywhere", fields=["a b", "a d"]), *[["fields: 2 of 2 was a c, is a d"]] * 2),
        (changed("anywhere", more="1"), *[["more: is new"]] * 2),
        (changed("settings", run={"model.n_layer": 2, "seed": 0, "model.new": 1}), [], []),
        (changed("settings", run={"model.n_layer": 3, "seed": 0}), *[["run model.n_layer: was 2, is 3"]] * 2),
        (changed("settings", run={"model.n_layer": 2}), *[["run seed: was 0, is gone"]] * 2),
        (
            changed("near", loss="0x1.0000000000000p+0 0x1.8000000000001p+0"),
            ["loss: 2 of 2 was 1.5, is 1.5000000000000002"],
            [],
        ),
        (changed("near", loss="0x1.0000000000000p+0 0x1.9p+0"), *[["loss: 2 of 2 was 1.5, is 1.5625"]] * 2),
        (changed("near", loss="0x1.0000000000000p+0"), *[["loss: was ['1.0', '1.5'], is ['1.0']"]] * 2),
        (changed("here", weights="0b"), ["weights: was 0a, is 0b"], []),
        ("train.py ended with 1", *[[f"was {VALUES}, is train.py ended with 1"]] * 2),
    ],
)
def test_differences_are_told(other, here, elsewhere):
    assert compare.differences(VALUES, other) == here
    assert compare.differences(VALUES, other, tolerance=1e-3) == elsewhere
