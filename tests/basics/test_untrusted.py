"""Files of somebody else are read as data, and refused in one sentence where they are not what they say."""

import json
import os
import shutil

import pytest
import torch
from attacks import openings
from helpers.limits import within
from helpers.refusals import refused
from helpers.trainings import composed
from safetensors.torch import load_file, save_file

from cleangpt.basics import files, untrusted
from cleangpt.config import experiment
from cleangpt.disk import record, weights
from cleangpt.disk.rundir import RunDir
from cleangpt.models.build import build, count_parameters, parameter_counts
from cleangpt.snapshots import snapshot
from cleangpt.tokens import tokenizers

pytestmark = pytest.mark.usefixtures("blank_pictures")

TINY = ("model=llama_tiny", "model.n_layer=1", "model.n_embd=8", "model.n_head=1", "model.n_kv_head=1")
TINY += ("dataset.digits=1", "train.steps=2", "train.batch_size=4", "train.eval_every=2", "logger.plots=false")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert openings.train_new(folder, *TINY) == 0
    return folder


@pytest.fixture
def run(tmp_path, trained, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(trained, tmp_path / "run")


def changed(path, **keys):
    """A JSON file with other values at dotted keys."""
    data = json.loads(path.read_text())
    for key, value in keys.items():
        *groups, last = key.split("__")
        section = data
        for group in groups:
            section = section[group]
        section[last] = value
    path.write_text(json.dumps(data))


# ---- configurations and records

MANY = '{"a":' * 100_000
TEXTS = ["", "5", "null", "[]", '"x"', "{", "\x00", MANY, "[" * 100_000, "9" * 5000, '{"seed": NaN}', '{"seed": 1e999}']


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:12])
def test_a_configuration_that_is_none_is_refused(run, text):
    for path in (run / "best" / "config.json", run / "config.json"):
        path.write_text(text)
    for opens in (openings.sample, openings.score, openings.train, lambda path: openings.export(path, path / "hf")):
        assert "config.json" in refused(lambda opens=opens: opens(run))
    assert openings.report(run, run / "report") == 0, "a report shows what it can"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model__n_embd", 2**40),
        ("model__n_layer", 10**9),
        ("model__n_layer", 999),
        ("model__vocab_size", 10**12),
        ("model__vocab_size", 2**62),
        ("model__ffn_dim", 10**15),
        ("model__vocab_size", None),
        ("model__block_size", None),
        ("model__n_head", 10**9),
    ],
)
def test_sizes_that_the_weights_do_not_have_are_refused_before_anything_is_made(run, key, value):
    for path in (run / "best" / "config.json", run / "config.json"):
        changed(path, **{key: value})
    for opens in (openings.sample, openings.score, lambda path: openings.export(path, path / "hf")):
        said = refused(lambda opens=opens: opens(run))
        assert "model" in said


@pytest.mark.parametrize(
    "words", [("model.n_embd=1099511627776",), ("model.vocab_size=1000000000000",), ("train.batch_size=1000000000000",)]
)
def test_a_training_that_no_memory_holds_is_refused_before_anything_is_made(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    said = refused(lambda: openings.train_new(tmp_path / "run", *TINY, *words))
    assert "memory" in said
    assert "lower " in said


def test_layers_are_counted_and_not_made():
    for name in ("gpt", "llama"):
        data = composed(f"model={name}_tiny")
        section = experiment.parse(data).model.model_copy(
            update={"block_size": 8, "position_rows": 8, "vocab_size": 11}
        )
        more = {"n_kv_head": 4, "head_dim": 4, "ffn_dim": 40} if name == "llama" else {}
        for count in (1, 2, 3, 4, 9):
            for options in ({}, {"bigram_embedding": 7, "qk_norm": True, "tied": False}):
                one = section.model_copy(update={"n_layer": count, **more, **options})
                assert count_parameters(one) == parameter_counts(build(one, "meta"))["total"]


@pytest.mark.parametrize(
    ("key", "value"),
    [("machine", 5), ("resumed", {"a": 1}), ("overrides", [1]), ("world_size", 0), ("parameters", []), ("data", 7)],
)
def test_a_record_that_is_none_is_refused(run, key, value):
    changed(run / "run.json", **{key: value})
    assert f"run.json can't be read as the record of a run: its `{key}" in refused(lambda: openings.train(run))
    assert openings.report(run, run / "report") == 0


def test_a_record_of_an_earlier_version_may_lack_things(run):
    (run / "run.json").write_text('{"command": ["train.py"], "world_size": 2}')
    found = record.begun(run / "run.json")
    assert found["local_world_size"] == 2
    assert openings.train(run, "train.steps=3") == 0
    assert "unknown" not in (run / "card.md").read_text().partition("## Machine")[2], "the newest part says it"


def test_weights_with_other_names_or_shapes_are_not_exported(run, tmp_path):
    path = run / "best" / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 2 and len(set(tensor.shape)) == 2)
    for changed in (
        {"\x1b[2J" if one == name else one: tensor for one, tensor in tensors.items()},
        {one: tensor.T.contiguous() if one == name else tensor for one, tensor in tensors.items()},
    ):
        save_file(changed, path)
        assert "does not fit the model" in refused(lambda: openings.export(run, tmp_path / "hf"))
        assert not (tmp_path / "hf").exists()


def test_a_run_with_a_number_beyond_all_bounds_does_not_take_the_report_with_it(run, tmp_path):
    summary = files.read_json(run / "summary.json")
    huge = dict.fromkeys(("tokens", "seconds", "step", "val/loss", "best/step"), 10**400)
    (run / "summary.json").write_text(json.dumps({**summary, **huge}))
    assert openings.report(run, tmp_path / "report") == 0


# ---- tokenizers


def tokenizer(**keys):
    return {"kind": "characters", "tokens": ["a", "b", "\n"], "end": "\n", "pad": None, **keys}


BYTES = [__import__("base64").b64encode(bytes([byte])).decode() for byte in range(256)]


def tiktoken(**keys):
    return {"kind": "tiktoken", "pattern": r"\w+|\W+", "tokens": BYTES, "special": {"<|endoftext|>": 256}, **keys}


def library(**model):
    return {"model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a", **model}}


@pytest.mark.parametrize(
    "data",
    [
        *(tokenizer(tokens=wrong) for wrong in ([], [1, 2], "ab", {"a": 1}, None, ["a", "a", "\n"], ["\ud800", "\n"])),
        *(tokenizer(end=wrong) for wrong in ("z", 5, [], True)),
        tokenizer(kind=[]),
        tokenizer(kind="\x1b[2Jpickle"),
        tokenizer(more=1),
        {"kind": "bytes", "with_end": "no"},
        *(tiktoken(tokens=wrong) for wrong in ([], BYTES[1:], ["%%%"], [1], BYTES + BYTES, None)),
        *(tiktoken(special=wrong) for wrong in ({"x": -1}, {"x": 2**40}, {"x": 3}, {"x": "y"}, [], None)),
        *(tiktoken(pattern=wrong) for wrong in ("(", "[", 5, None)),
        *(library(vocab=wrong) for wrong in ({}, {"a": -1}, {"a": 2**40}, {"a": "x"}, [], 5, None)),
        {"model": []},
        {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b c", "x y"]}},
        {"kind": "tokenizers", "tokenizer": 5},
        {"kind": "tokenizers", "tokenizer": library(), "end": 5},
    ],
    ids=lambda data: json.dumps(data)[:60],
)
def test_a_tokenizer_that_is_none_is_refused(tmp_path, data):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(data))
    assert "tokenizer" in refused(lambda: tokenizers.load(path))


@pytest.mark.parametrize("number", [10**9, 10**5])
def test_a_token_of_a_billion_is_refused_in_every_program(run, number):
    for data in (library(vocab={"a": 0, "b": number}), tiktoken(special={"<|endoftext|>": number})):
        (run / "best" / "tokenizer.json").write_text(json.dumps(data))
        for opens in (openings.sample, openings.score, lambda path: openings.train_from(path, path / "new", *TINY)):
            assert "token" in refused(lambda opens=opens: opens(run))


def test_ids_without_a_token_are_read_as_nothing():
    made = tokenizers.from_json(tiktoken(special={"<|endoftext|>": 300}), "here")
    assert made.vocab_size == 301
    assert made.decode([97, 280, 98]) == "ab"
    assert made.bytes_of(280) == b""


def test_a_panic_of_a_library_is_a_sentence(monkeypatch):
    class PanicException(BaseException):  # as pyo3's is: no Exception
        pass

    class Panics:
        def encode_ordinary(self, text):
            raise PanicException("called `Option::unwrap()` on a `None` value")

    made = tokenizers.from_json(tiktoken(), "here")
    made.encoding = Panics()
    assert "the library that reads it failed" in refused(lambda: made.encode("text"))
    with pytest.raises(KeyboardInterrupt), untrusted.reading("here", "a file"):
        raise KeyboardInterrupt


# ---- weights


def rewrite(path, change):
    tensors = load_file(path)
    with __import__("safetensors").safe_open(path, framework="pt") as file:
        about = file.metadata()
    name = "norm.weight"
    tensors[name] = change(tensors[name])
    save_file(tensors, path, about)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(run, value):
    rewrite(run / "best" / "model.safetensors", lambda tensor: tensor.index_fill(0, torch.tensor([1]), value))
    for opens in (
        openings.sample,
        openings.score,
        lambda path: openings.export(path, path / "hf"),
        lambda path: openings.train_from(path, path / "new", *TINY),
    ):
        said = refused(lambda opens=opens: opens(run))
        assert "model.safetensors has norm.weight with numbers that are not finite" in said


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.bool, torch.uint8, torch.float8_e4m3fn])
def test_weights_that_are_no_floating_point_numbers_are_refused_by_name(run, dtype):
    rewrite(run / "best" / "model.safetensors", lambda tensor: tensor.to(dtype))
    assert f"norm.weight in {str(dtype)[6:]}, and weights are in" in refused(lambda: openings.sample(run))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_weights_of_another_floating_type_are_cast(run, dtype):
    path = run / "best" / "model.safetensors"
    rewrite(path, lambda tensor: tensor.to(dtype))
    assert {tensor.dtype for tensor in weights.read(path.parent).values()} == {torch.float32}
    assert openings.sample(run) == 0


def test_imported_weights_are_looked_at_as_well(run, tmp_path):
    assert openings.export(run, tmp_path / "hf") == 0
    path = tmp_path / "hf" / "model.safetensors"
    whole = path.read_bytes()
    for change, words in (
        (lambda tensor: tensor * float("nan"), "not finite"),
        (lambda tensor: tensor.long(), "in int64"),
    ):
        path.write_bytes(whole)
        tensors = load_file(path)
        tensors["model.norm.weight"] = change(tensors["model.norm.weight"])
        save_file(tensors, path, {"format": "pt"})
        said = refused(lambda: openings.export(tmp_path / "hf", tmp_path / "ours", format="cleangpt"))
        assert f"model.norm.weight {'with' if 'finite' in words else 'in'}" in said
        assert words in said


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", 10**9),
        ("hidden_size", 2**40),
        ("num_attention_heads", 0),
        ("rope_parameters", 5),
        ("rope_parameters", {"rope_theta": "x"}),
        ("layer_types", 5),
        ("model_type", ["llama"]),
        ("vocab_size", 1e400),
        ("head_dim", 10**400),
    ],
)
def test_a_configuration_of_hugging_face_is_read_as_carefully(run, tmp_path, key, value):
    assert openings.export(run, tmp_path / "hf") == 0
    path = tmp_path / "hf" / "config.json"
    changed(path, **{key: value})
    said = refused(lambda: openings.export(tmp_path / "hf", tmp_path / "x", format="cleangpt"))
    assert str(tmp_path / "hf") in said or "the model is larger than any memory" in said


@pytest.mark.parametrize(
    "index", ["[]", '{"weight_map": 5}', '{"weight_map": {"a": 5}}', '{"weight_map": {"a": "../b"}}']
)
def test_an_index_that_is_none_is_refused(run, tmp_path, index):
    assert openings.export(run, tmp_path / "hf") == 0
    (tmp_path / "hf" / "model.safetensors").unlink()
    (tmp_path / "hf" / "model.safetensors.index.json").write_text(index)
    said = refused(lambda: openings.export(tmp_path / "hf", tmp_path / "x", format="cleangpt"))
    assert "model.safetensors.index.json" in said


# ---- snapshots whose manifest agrees


@pytest.mark.parametrize(
    "change",
    [
        {"step": "2"},
        {"step": 10**30},
        {"step": -1},
        {"step": 1},
        {"micro_step": None},
        {"best": 5},
        {"best": {"val/loss": "x"}},
        {"tokens": True},
        {"seconds": []},
        {"unevaluated": 5},
    ],
    ids=str,
)
def test_a_state_that_is_none_is_refused(run, change):
    from attacks.fuzz import agree

    (folder,) = RunDir(run).snapshot_folders()
    changed(folder / "state.json", **change)
    agree(folder / "state.json")
    assert "state.json can't be read as the state of a training" in refused(
        lambda: openings.train(run, "train.steps=3")
    )


def test_another_optimizer_is_refused(run):
    from attacks.fuzz import agree

    (folder,) = RunDir(run).snapshot_folders()
    path = folder / "optimizer.safetensors"
    tensors = load_file(path)
    for change in (lambda: tensors.pop(min(tensors)), lambda: tensors.update({max(tensors): torch.zeros(3)})):
        change()
        save_file(tensors, path)
        agree(path)
        assert "does not fit the optimizer" in refused(lambda: openings.train(run, "train.steps=3"))


@pytest.mark.parametrize("name", ["/dev/zero", "../../config.json", "a/../../x", "", ".", "pipe"])
def test_a_manifest_lists_files_of_its_snapshot_only(run, name):
    (folder,) = RunDir(run).snapshot_folders()
    os.mkfifo(folder / "pipe")  # reading it would wait without end
    changed(folder / "manifest.json", files={**files.read_json(folder / "manifest.json")["files"], name: {"bytes": 0}})
    with within(20):
        assert "which is no file of it" in snapshot.damage(folder)


def test_a_stored_number_of_processes_is_not_started_blindly(run):
    changed(run / "config.json", processes=10**9)
    assert "`processes` must be" in refused(lambda: openings.train(run))


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity"])
def test_a_number_that_no_file_of_ours_could_hold_makes_a_file_unreadable(run, number):
    run_json = run / "run.json"
    run_json.write_text(run_json.read_text().replace('"world_size": 1', f'"world_size": 1, "more": [{number}]', 1))
    assert "is not finite" in refused(lambda: record.read(run_json))
