"""bench.py: both sides compute the same, take turns, and are measured for each `what` and `against`."""

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.configs import look_ahead, toy
from helpers.trainings import AMX, cpuinfo
from omegaconf import OmegaConf
from started.programs import ROOT, run_program

from benchmark import peers, sides
from benchmark.plain_loop import Loop, mean_loss
from cleangpt import tasks
from cleangpt.basics import verbs
from cleangpt.basics.errors import ConfigError, UserError
from cleangpt.basics.schema import parse
from cleangpt.config.experiment import resolve
from cleangpt.config.programs import BenchConfig
from cleangpt.machine import device
from cleangpt.measure import bench, matmul, page, random_tokens, run, score, turns
from cleangpt.models.build import build
from cleangpt.models.contract import LanguageModel

CPU = device.Compute(torch.device("cpu"), torch.float32)
QUICK = {"rounds": 1, "runs": 3, "seconds": 0.02, "startup": False, "suite": None, "batches": [1, 2]}
TEXT = {"dataset.window": None, "dataset.dir": "nothing/prepared/here", "model.block_size": 16}
MODELS = {
    "gpt": ("model=gpt", {}),
    "gpt without biases": ("model=gpt", {"model.bias": False, "model.tied": False}),
    "llama": ("model=llama", {}),
    "llama, grouped": ("model=llama", {"model.n_head": 4, "model.n_kv_head": 2, "model.tied": True}),
    "llama, normed": ("model=llama", {"model.qk_norm": True, "model.head_dim": 12}),
}


def settings(*options: str, what: str = "train", against: str | None = "plain", **changes) -> BenchConfig:
    changes = {**({} if "dataset=adder" in options else TEXT), "model.n_layer": 2, **changes}
    return parse({**toy(*options, **changes), **QUICK, "what": what, "against": against}, BenchConfig)


def test_the_page_is_measured_over_made_up_runs(monkeypatch):
    monkeypatch.setattr(page, "ROWS", 150)
    monkeypatch.setattr(page, "POLLS", 0.6)
    monkeypatch.setattr(page, "TRIES", 2)
    found = bench.bench(settings("dataset=adder", what="page", against=None, runs=3), [])
    told = found["page"]
    assert (told["runs"], told["rows"]) == (3, 150)
    assert told["curve_again_seconds"] > 0
    assert told["listed_seconds"] > 0
    assert set(found["sides"]) == {"cleangpt", page.BESIDE}
    assert told["training_loses"]["median"] == pytest.approx(1 - 1 / found["sides"][page.BESIDE]["ratio"]["median"])


def telling(config: BenchConfig, task) -> LanguageModel:
    """A model whose weights are so large that every part of it shows in the loss."""
    model = build(resolve(config, task).model)
    model.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5) if parameter.dim() >= 2 else parameter.add_(0.1)
    return model


# ---- both sides compute the same


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("against", ["plain", "transformers", "litgpt"])
def test_the_loss_of_a_peer_is_ours_on_the_same_weights(name, against):
    if against != "plain":
        pytest.importorskip(against)
    option, changes = MODELS[name]
    config = settings("dataset=adder", option, **{"model.block_size": 24, **changes})
    ours = telling(config, tasks.make(config.dataset, 24))
    if against == "litgpt" and (ours.config.name == "gpt" or ours.config.tied):
        with pytest.raises(UserError, match="litgpt"):
            peers.build(against, ours)
        return
    tokens = torch.randint(15, (4, 24), generator=torch.Generator().manual_seed(1))
    inputs, targets = tokens[:, :-1], tokens[:, 1:].contiguous()
    wanted = ours(inputs, targets) / targets.numel()
    assert abs(wanted - math.log(15)) > 0.02  # the loss of equal odds
    assert mean_loss(peers.build(against, ours)(inputs), targets).item() == pytest.approx(wanted.item(), abs=1e-5)


def test_what_is_not_the_same_is_not_compared(monkeypatch):
    config = settings("dataset=adder", "model=gpt")
    ours = telling(config, tasks.make(config.dataset))
    erf = torch.nn.functional.gelu
    with monkeypatch.context() as other:
        other.setattr(torch.nn.GELU, "forward", lambda self, x: erf(x) * 1.01)
        with pytest.raises(UserError, match="logits differ"):
            peers.build("plain", ours)
    peers.build("plain", ours)
    scaled = settings("dataset=adder", "model=llama_long")
    with pytest.raises(UserError, match="rope_scaling"):
        peers.insist_on_equality("plain", resolve(scaled, tasks.make(scaled.dataset)).model)


@pytest.mark.parametrize("dataset", ["adder", "shakespeare_char"])
def test_the_plain_loop_learns(dataset):
    config = settings(f"dataset={dataset}", "model=gpt", **{"optimizer.lr": 0.01, "train.steps": 30})
    with random_tokens.data(config) as (config, _):
        task = tasks.make(config.dataset, 16)
        if dataset != "adder":
            task.ids["train"] = task.ids["train"] % 4  # something to be learned of random tokens
        config = resolve(config, task)
        loop = Loop(config, task, peers.build("plain", telling(config, task)), CPU)
        tokens = [loop.step() for _ in range(30)]
    assert set(tokens) == {8 * task.sequence_length}
    assert loop.losses[-1] < 0.7 * loop.losses[0]


# ---- turns


def test_sides_take_turns_in_an_order_that_changes(monkeypatch):
    order, clock = [], [0.0]
    monkeypatch.setattr(turns.time, "perf_counter", lambda: clock[0])

    def side(name, seconds, group=""):
        def work():
            order.append(name)
            clock[0] += seconds
            return 100

        return turns.Side(name, lambda: work, torch.float32, group)

    both = [side(turns.OURS, 0.002), side("slow", 0.02)]
    turns.run(both, 3, 0.001, 1, CPU)
    assert order[:2] == [turns.OURS, "slow"]  # warm up
    rest = order[2:]
    assert rest == [turns.OURS, "slow", "slow", turns.OURS, turns.OURS, "slow"]
    found = turns.found(both)
    assert found["slow"]["ratio"]["median"] == pytest.approx(10)
    assert "ratio" not in found[turns.OURS]
    assert found["slow"]["step_ms"]["median"] == pytest.approx(20)
    assert 0.05 < found[turns.OURS]["memory_gb"] < 20


def test_the_spread_leaves_out_a_tenth_at_each_end():
    assert turns.spread([3.0, 1.0, 2.0]) == {"median": 2.0, "low": 1.0, "high": 3.0}
    assert turns.spread([*map(float, range(1, 20)), 1e9]) == {"median": 10.5, "low": 3.0, "high": 18.0}


def test_the_peak_is_that_of_a_matmul():
    found = matmul.peak(CPU, torch.float32, 0.05)
    x = torch.randn(512, 512)
    began = time.perf_counter()
    for _ in range(5):
        x @ x
    assert 0.3 * 5 * 2 * 512**3 / (time.perf_counter() - began) < found < 1e14


# ---- what is measured


def test_dtype_auto_is_decided_as_for_a_training(tmp_path, monkeypatch):
    cpuinfo(monkeypatch, tmp_path, AMX)
    asked = settings("dataset=shakespeare_char", what="decode", against=None, dtype="auto")
    with random_tokens.data(asked) as (config, _):
        for large, wanted in ((0, "bfloat16"), (10**9, "float32")):
            monkeypatch.setattr(device, "LARGE", large)
            assert run.measure(config)["dtype"] == wanted


@pytest.mark.parametrize(
    ("dataset", "model", "against"),
    [
        ("adder", "llama", "plain"),
        ("adder", "gpt", None),
        pytest.param("shakespeare_char", "gpt", "plain", marks=pytest.mark.slow),
        pytest.param("shakespeare_char", "llama", "transformers", marks=pytest.mark.slow),
        pytest.param("shakespeare_char", "llama", "litgpt", marks=pytest.mark.slow),
    ],
)
def test_training_is_measured(dataset, model, against):
    if against in ("transformers", "litgpt"):
        pytest.importorskip(against)
    config = settings(f"dataset={dataset}", f"model={model}", against=against, dtype="bfloat16")
    result = bench.bench(config, [])
    names = ["cleangpt", peers.NAMES[against]] if against else ["cleangpt"]
    assert list(result["sides"]) == names
    assert [side["dtype"] for side in result["sides"].values()] == (
        ["bfloat16", "float32" if against == "plain" else "bfloat16"][: len(names)]
    )
    for side in result["sides"].values():
        flops = side["median"] * result["flops_per_token"]
        assert side["mfu"] == pytest.approx(flops / 1e12 / result["peak_tflops"][side["dtype"]])
        assert 0 < side["mfu"] < 1
        assert side["step_ms"]["low"] <= side["step_ms"]["median"] <= side["step_ms"]["high"]
    assert result["sides"]["cleangpt"]["memory_gb"] > 0.05
    assert result["random_tokens"] == (dataset != "adder")
    assert result["threads"] == torch.get_num_threads()
    assert result["model"]["layers"] == 2


def test_scoring_is_that_of_the_task(monkeypatch):
    config = settings("dataset=adder", "model=llama", what="score", **{"dataset.digits": 2})
    result = bench.bench(config, [])
    assert list(result["sides"]) == ["cleangpt", sides.DECODED]
    whole = tasks.make(config.dataset).size("test")
    complete = result["complete"]
    assert (complete["of"], complete["measured"], complete["split"]) == (whole, True, "test")
    assert 0 < complete["seconds"] <= 1.01 * whole / result["sides"]["cleangpt"]["median"]
    monkeypatch.setattr(score, "LONGEST", 0.0)
    monkeypatch.setattr(score, "ENOUGH", 0.0)
    assert run.measure(config)["complete"]["measured"] is False


def test_scoring_of_text_counts_windows():
    config = settings("dataset=shakespeare", "model=gpt", what="score", **{"dataset.tokenizer": "bytes"})
    result = bench.bench(config, [])
    assert result["unit"] == "windows a second"
    assert list(result["sides"]) == ["cleangpt"]
    assert result["complete"]["of"] == (1 << 17) // 16


def test_decoding_is_compared_for_each_batch(capsys):
    pytest.importorskip("transformers")
    found = bench.bench(settings("dataset=adder", what="decode", against="transformers"), [])["sides"]
    lines = capsys.readouterr().out.splitlines()
    ways = ("cleangpt", "transformers", "without a cache")
    assert list(found) == [f"{way}, batch {batch}" for batch in (1, 2) for way in ways]
    assert all(("ratio" in side) != label.startswith("cleangpt") for label, side in found.items())
    assert sum("times as fast as transformers" in line for line in lines) == 2


def test_a_profile_is_one_of_our_steps(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    bench.bench(settings("dataset=adder", against=None, profile=True), [])
    assert "steps 6 to 8" in " ".join(capsys.readouterr().out.split())
    assert {path.name for path in (tmp_path / "profile").iterdir()} == {"trace.json", "table.txt"}


def test_a_key_that_would_change_nothing_is_refused():
    changes = {"resume": "auto", "init_from": "there", "processes": 2, "profile": True}
    with pytest.raises(ConfigError) as refused:
        bench.bench(settings("dataset=adder", what="decode", **changes), [])
    assert [mistake.split("`")[1] for mistake in refused.value.mistakes] == [
        "resume",
        "init_from",
        "processes",
        "profile",
    ]
    (mistake,) = look_ahead("what=score", "against=litgpt", schema=BenchConfig, config_name="bench")
    assert "what=train" in mistake


@pytest.mark.parametrize(("tokenizer", "size"), [("gpt2", 50257), ("bpe", 4096), ("bytes", 257), ("characters", 65)])
def test_random_tokens_have_the_vocabulary_of_the_text(tokenizer, size, tmp_path):
    config = settings("dataset=text", **{"dataset.tokenizer": tokenizer})
    random_tokens.write(tmp_path, config.dataset, 10, seed=0)
    task = tasks.make(config.dataset.model_copy(update={"dir": str(tmp_path)}), 16)
    assert task.tokenizer.vocab_size == size
    tokens = task.batch("train", torch.arange(1000).numpy()).inputs
    assert 0.9 * size < tokens.max() < size


def test_what_is_not_in_the_package_is_refused_in_a_sentence_and_ours_is_measured(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "benchmark")
    monkeypatch.delitem(sys.modules, "benchmark.sides")
    monkeypatch.setattr(sys, "path", [place for place in sys.path if Path(place or ".").resolve() != ROOT])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="against=plain needs benchmark/"):
        run.measure(settings("dataset=adder"))
    assert list(run.measure(settings("dataset=adder", against=None))["sides"]) == ["cleangpt"]


def test_the_package_imports_nothing_of_the_benchmark():
    """Also by a way that the contract of rooms can't see: only when `against=` asks for it."""
    seen = "import sys, cleangpt.measure.run; print([name for name in sys.modules if name.startswith('benchmark')])"
    done = subprocess.run([sys.executable, "-c", seen], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


# ---- the program


@pytest.mark.slow
def test_starts_are_timed_and_a_suite_has_one_result(tmp_path):
    small = ["model.n_layer=1", "model.n_embd=16", "model.block_size=16", "train.batch_size=4", "rounds=1"]
    words = ["dataset=shakespeare_char", "model=gpt", "device=cpu", "seconds=0.02", *small]
    done = run_program("bench.py", "suite={text: 'against=null'}", *words, cwd=tmp_path, real=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == {"text"}
    starts = found["text"]["startup_seconds"]
    assert all(0.3 < starts[name] < 100 for name in ("cold", "warm"))
    assert found["text"]["model"]["context"] == 16
    assert list(tmp_path.iterdir()) == []


def test_a_suite_ends_with_what_fails(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, found = bench.run_suite({"wrong": "what=nothing", "never": "rounds=1"}, [])
    assert (status, found) == (2, {})
    assert "`what` must be one of" in capfd.readouterr().err


@pytest.mark.parametrize("path", sorted((ROOT / "conf" / "bench" / "suite").glob("*.yaml")), ids=lambda path: path.stem)
def test_each_of_a_suite_composes(path):
    suite = OmegaConf.to_container(OmegaConf.load(path))
    assert len(suite) > 4
    for words in suite.values():
        words = [word for word in words.split() if not bench.VARIABLE.match(word) and word != "device=cuda"]
        assert look_ahead(*words, schema=BenchConfig, config_name="bench") == []


def test_a_suite_has_variables_as_in_a_shell_and_leaves_out_what_needs_a_gpu(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verbs, "command", lambda verb: [sys.executable, tmp_path / "told.py"])
    told = "import json, os, sys; print(json.dumps([os.environ['OMP_NUM_THREADS'], *sys.argv[1:]]))"
    (tmp_path / "told.py").write_text(told)
    monkeypatch.setattr(bench, "_no_gpu", lambda: "there is none")
    suite = {"one": "OMP_NUM_THREADS=7 rounds=1", "other": "what=decode device=cuda"}
    status, found = bench.run_suite(suite, ["suite=x", "seconds=1"])
    assert (status, found) == (0, {"one": ["7", "rounds=1", "seconds=1"], "other": {"left_out": "there is none"}})
    printed = capfd.readouterr().out
    assert f"one: OMP_NUM_THREADS=7 {verbs.shown('bench')} rounds=1 seconds=1" in printed
    assert "Left out: there is none" in printed
