"""What is shown on a CPU everywhere else holds on a GPU too: `make test-gpu`.

Without a GPU all of it is skipped. CLEANGPT_GPU_TESTS=cpu runs on a CPU what can be, so that these tests are tested.
"""

import json
import os

import pytest
import torch
from helpers.any_model import TOKENS, made
from helpers.corpora import prepared, prose
from helpers.rote import ALONE
from helpers.trainings import fit, losses, make_trainer, verdicts, weights
from started.programs import TORCHRUN, run_program

from cleangpt import models
from cleangpt.machine.device import Compute
from cleangpt.optimizers import muon
from cleangpt.sample import generate
from cleangpt.score import of_task
from cleangpt.score.evaluate import Judge
from cleangpt.snapshots import snapshot
from cleangpt.tasks.text import Task as Text
from cleangpt.training import compiling
from cleangpt.training.stream import Stream

DEVICE = os.environ.get("CLEANGPT_GPU_TESTS", "cuda")
ON_GPU = DEVICE == "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(ON_GPU and not torch.cuda.is_available(), reason="torch sees no CUDA device here"),
]
only_on_a_gpu = pytest.mark.skipif(not ON_GPU, reason="needs a CUDA device, whatever CLEANGPT_GPU_TESTS says")

HERE = f"device={DEVICE}"
LEARNS = ("train.steps=20", "train.batch_size=64", "optimizer.lr=1e-2", "model.n_embd=32", "train.eval_every=10")
# What rounding may change of a loss, relative to it.
ROUNDING = {"float32": 1e-4, "bfloat16": 0.03, "float16": 0.01}
each_dtype = pytest.mark.parametrize("dtype", ROUNDING)
each_model = pytest.mark.parametrize("name", sorted(models.SETTINGS))
each_optimizer = pytest.mark.parametrize("optimizer", ["adamw", "muon"])


@pytest.fixture(autouse=True)
def exact_products():
    """Keep float32 in float32: TF32 would differ from a CPU by more than rounding."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


# ---- training


@each_dtype
@each_optimizer
def test_losses_are_those_of_a_cpu(tmp_path, dtype, optimizer):
    words = (*LEARNS, f"optimizer={optimizer}", "optimizer.lr=1e-2")
    fit(tmp_path / "here", *words, HERE, f"dtype={dtype}")
    fit(tmp_path / "cpu", *words, "device=cpu", "dtype=float32")
    # Muon's products are of bfloat16 on a GPU, whatever the dtype of the model.
    tolerance = 0.03 if optimizer == "muon" else ROUNDING[dtype]
    here, cpu = losses(tmp_path / "here"), losses(tmp_path / "cpu")
    assert len(here) == 20
    assert here[0] == pytest.approx(cpu[0], rel=ROUNDING[dtype])
    assert here == pytest.approx(cpu, rel=tolerance)
    assert here[-1] < 0.9 * here[0]


@each_dtype
@each_model
def test_a_run_resumes_exactly(tmp_path, name, dtype):
    words = (f"model={name}", HERE, f"dtype={dtype}", "model.n_layer=2", "model.dropout=0.1", "train.snapshot_every=4")
    words += ("schedule.grad_accum.begin=2", "optimizer.lr=0.01")
    whole = fit(tmp_path / "whole", *words)
    again = fit(tmp_path / "again", *words, snapshot=tmp_path / "whole" / "snapshots" / "step_00000004")
    assert torch.equal(weights(whole), weights(again))
    assert losses(tmp_path / "whole")[4:] == losses(tmp_path / "again")


def test_a_snapshot_opens_on_another_device(tmp_path):
    words = (*LEARNS, "train.snapshot_every=10")
    here = fit(tmp_path / "here", *words, HERE)
    folder = tmp_path / "here" / "snapshots" / "step_00000010"
    there = make_trainer(tmp_path / "there", *words, "device=cpu", snapshot=folder)
    assert there.fit() == "completed"
    there.tracker.close()
    assert snapshot.newest_good(there.run)[1] == []
    torch.testing.assert_close(weights(there), weights(here).cpu(), rtol=0.05, atol=0.02)


@pytest.mark.parametrize("how", [True, pytest.param("graphs", marks=only_on_a_gpu)])
@pytest.mark.parametrize("name", ["gpt_tiny", "llama_tiny"])
def test_a_compiled_run_has_the_losses_of_one_that_is_not(tmp_path, name, how):
    words = (*LEARNS, f"model={name}", HERE, "schedule.grad_accum.begin=2")
    fit(tmp_path / "plain", *words)
    trainer = make_trainer(tmp_path / "compiled", *words)
    compiling.apply(how, trainer.model)
    trainer.launches_graphs = how == "graphs"
    trainer.fit()
    trainer.tracker.close()
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "plain"), rel=1e-3)
    torch.compiler.reset()


def test_an_overflow_in_float16_lowers_the_scale_and_skips_the_step(tmp_path):
    trainer = make_trainer(tmp_path, HERE, "dtype=float16")
    trainer.state.loss_scale = 2.0**40
    before = weights(trainer).clone()
    trainer.step(1)
    assert trainer.state.loss_scale == 2.0**39
    assert torch.equal(weights(trainer), before)
    trainer.tracker.close()


def test_muons_directions_are_those_of_exact_arithmetic():
    x = torch.randn(3, 64, 160, generator=torch.Generator().manual_seed(0))
    exact, here = muon.orthogonal(x, 5), muon.orthogonal(x.to(DEVICE), 5).float().cpu()
    cosine = torch.cosine_similarity(exact.flatten(1), here.flatten(1))
    assert cosine.min() > 0.999
    assert torch.linalg.svdvals(here).max() < 1.3


# ---- decoding and scoring


@each_model
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_cache_gives_what_reading_all_anew_gives(name, dtype):
    model, tokens = made(name).to(DEVICE, dtype), TOKENS.to(DEVICE)
    with torch.inference_mode():
        cache = model.new_cache(len(tokens), tokens.shape[1] + 1, None)
        read = [model.following(tokens[:, place : place + 1], cache) for place in range(tokens.shape[1])]
        whole = model(tokens).float()
    size = whole.std().item()
    for place, logits in enumerate(read):
        off = (logits.float() - whole[:, place]).abs().max().item()
        assert off < (1e-3 if dtype == torch.float32 else 0.2) * size, place


@each_model
def test_texts_are_those_of_a_cpu(name):
    model, prompts = made(name), [[1, 2, 3], [4, 5], [6]]
    cpu = generate.greedy(model, prompts, 6)
    assert torch.equal(generate.greedy(model.to(DEVICE), prompts, 6).cpu(), cpu)


@each_dtype
def test_one_pass_gives_the_verdicts_of_decoding_and_of_a_cpu(tmp_path, dtype):
    words = ("dataset.digits=1", "train.steps=60", "train.batch_size=64", "optimizer.lr=0.02", "train.eval_every=null")
    trainer = fit(tmp_path, *words, "logger.samples=0", HERE, f"dtype={dtype}")
    forced, decoded = verdicts(trainer.judge, trainer.task)
    assert (forced == decoded).all()
    there, _ = verdicts(Judge(trainer.model.cpu(), torch.device("cpu"), ALONE), trainer.task)
    assert (there != forced).mean() < 0.02, "only choices by a hair's breadth may differ"


def test_all_problems_are_scored_by_both_ways_alike(tmp_path):
    trainer = fit(tmp_path, *LEARNS, HERE, "train.steps=60")
    ways = ("forced", "generate")
    forced, decoded = (of_task.score(trainer.task, trainer.judge, "test", None, way) for way in ways)
    assert forced["problems"] == trainer.task.size("test")
    assert forced["correct"] == decoded["correct"]


# ---- others' models


@pytest.mark.parametrize("name", ["gpt", "llama"])
def test_transformers_computes_the_same_on_these_weights(name):
    pytest.importorskip("transformers")
    from benchmark import transformers_model

    ours, tokens = made(name).to(DEVICE), TOKENS.to(DEVICE)
    with torch.no_grad():
        theirs = transformers_model.Logits(ours)(tokens)
        torch.testing.assert_close(ours(tokens), theirs, rtol=1e-3, atol=1e-3)


# ---- data


def test_text_lies_on_the_device_and_batches_are_those_of_the_host(tmp_path):
    settings, _ = prepared(tmp_path, prose(2000), val_fraction=0.2)
    host, here = (Text(settings.model_copy(update={"resident": resident}), 16) for resident in (False, True))
    streams = [
        Stream(task, 7, 8, None, ALONE, torch.device(device)) for task, device in ((host, "cpu"), (here, DEVICE))
    ]
    if ON_GPU:
        assert all(ids.is_cuda for ids in here.ids.values())
    for step in range(50):
        (one,), (other,) = (stream.micro_step(step) for stream in streams)
        assert other.inputs.device.type == DEVICE
        assert torch.equal(one.inputs, other.inputs.cpu())
        assert torch.equal(one.targets, other.targets.cpu())


# ---- programs


def test_the_programs_train_score_and_sample(tmp_path):
    words = ["dataset.digits=1", "model=llama_tiny", "train.steps=20", "train.batch_size=16", HERE, "hydra.run.dir=r"]
    for script, *given in (
        ("train.py", *words, "logger.plots=false"),
        ("eval/score.py", "run=r", HERE),
        ("sample.py", "run=r", "prompt=1+2", HERE),
    ):
        done = run_program(script, *given, cwd=tmp_path, real=True)
        assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "r" / "summary.json").read_text())["status"] == "completed"
    machine = json.loads((tmp_path / "r" / "run.json").read_text())["machine"]
    if ON_GPU:
        assert machine["device"] == torch.cuda.get_device_name()
        assert machine["dtype"] in ("bfloat16", "float16")


def test_as_many_processes_as_there_are_gpus_train_what_one_trains(tmp_path):
    count = torch.cuda.device_count() if ON_GPU else 2
    words = ["dataset.digits=1", "model=llama_tiny", "train.steps=8", "train.batch_size=16", HERE, "logger=quiet"]
    words += ["dtype=float32", "train.test_at_end=false", "train.log_every=1"]
    together = (*TORCHRUN, f"--nproc-per-node={count}")
    for name, launcher in (("alone", ()), ("together", together)):
        done = run_program("train.py", *words, f"hydra.run.dir={name}", cwd=tmp_path, launcher=launcher, real=True)
        assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "together") == pytest.approx(losses(tmp_path / "alone"), rel=1e-4)


@only_on_a_gpu
def test_the_peak_of_this_card_is_known_or_its_share_is_not_told():
    from cleangpt.machine import peaks

    found = peaks.peak(Compute(torch.device("cuda"), torch.bfloat16))
    assert found is None or found > 1e13


# ---- memory


@only_on_a_gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["gpt", "llama"])
def test_a_step_takes_the_memory_that_was_imagined(tmp_path, name, dtype):
    from cleangpt.memory import need
    from cleangpt.memory.imagined import Step, imagine

    folder = tmp_path / "text"
    folder.mkdir()
    settings, _ = prepared(folder, prose(60_000), val_fraction=0.1)
    words = (f"model={name}", "model.n_embd=512", "model.n_layer=6", "model.n_head=8", "model.block_size=512")
    words += ("dataset=text", "train.batch_size=16", HERE, f"dtype={dtype}", "compile=false", "train.grad_clip=null")
    before = torch.cuda.memory_allocated()
    trainer = make_trainer(tmp_path / "run", *words, task=Text(settings, 512))
    torch.cuda.reset_peak_memory_stats()
    for number in (1, 2, 3):
        trainer.step(number)
    taken = torch.cuda.max_memory_allocated() - before
    step = Step(trainer.config, need.samples(trainer.task), 16, 1, trainer.compute.dtype, on_gpu=True)
    told = imagine(step)
    print(f"{name} in {dtype}: {max(told.step, told.update) / taken:.3f} of what was taken was imagined")
    assert 0.75 < max(told.step, told.update) / taken < 1.25
