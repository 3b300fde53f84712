"""What a training is said to need is what it takes."""

import gc
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.trainings import composed
from torch.profiler import ProfilerActivity, profile

from cleangpt import tasks
from cleangpt.basics.errors import UserError
from cleangpt.config import experiment
from cleangpt.machine.device import Compute
from cleangpt.memory import imagined, need
from cleangpt.memory.imagined import Memory, Step, imagine, outline
from cleangpt.models.build import build, count_parameters
from cleangpt.optimizers import optim
from cleangpt.sharding import make
from cleangpt.sharding.pretend import pretended

SIZE = ("model.n_embd=128", "model.block_size=128", "model.vocab_size=512")
CPU = Compute(torch.device("cpu"), torch.float32)


def step_of(*words: str, rows: int = 8, processes: int = 1, dtype=torch.float32, length: int = 128) -> Step:
    config = experiment.parse(composed(*SIZE, *words))
    task = tasks.make(config.dataset, config.model.block_size)
    read = {"tokens": ((length,), torch.int64), "targets": ((length,), torch.int64)}
    return Step(experiment.resolve(config, task), read, rows, processes, dtype, on_gpu=False)


def taken(step: Step, folder: Path) -> int:
    """Make two micro-steps, and ask torch's allocator what they took at most."""
    config, compute = step.config, Compute(torch.device("cpu"), step.dtype)
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as measured:
        model = build(config.model, "cpu")
        model.initialise(torch.Generator().manual_seed(1))
        optim.freeze(model, config.train.freeze)
        model.checkpointing = config.train.activation_checkpointing
        optimizer, gradients, *_ = make.parts(config, model, None, None, compute)
        rows = {name: torch.zeros((step.rows, *shape), dtype=kind) for name, (shape, kind) in step.samples.items()}
        gradients.begin()
        for _ in range(2):
            with compute.autocast():
                loss = model(**rows)
                with compute.no_autocast():
                    loss.backward()
            del loss
            gradients.collect()
    assert optimizer.state
    measured.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    bytes_at = [event["args"] for event in events if event.get("name") == "[memory]"]
    before = bytes_at[0]["Total Allocated"] - bytes_at[0]["Bytes"]
    return max(event["Total Allocated"] for event in bytes_at) - before


@pytest.mark.parametrize(
    ("words", "dtype"),
    [
        (("model=gpt", "model.n_layer=4"), torch.float32),
        (("model=llama", "model.n_layer=4", "optimizer=adamw", "model.tied=true"), torch.float32),
        (("model=gpt", "model.n_layer=3", "model.dropout=0.1"), torch.bfloat16),
        (("model=llama", "model.n_layer=4", "train.activation_checkpointing=true"), torch.float32),
        (("model=gpt", "model.n_layer=2", "model.vocab_size=40000"), torch.float32),
        (("model=gpt", "model.n_layer=4", "train.freeze=[token_embedding,blocks.0]"), torch.float32),
    ],
)
def test_what_is_imagined_is_within_a_tenth_of_what_the_allocator_gave(words, dtype, tmp_path):
    step = step_of(*words, dtype=dtype)
    assert imagine(step).step == pytest.approx(taken(step, tmp_path), rel=0.1)


def test_of_an_lstm_less_is_imagined_than_it_takes_since_its_kernel_keeps_what_nobody_sees(tmp_path):
    step = step_of("model=lstm", "model.n_layer=2")
    assert 0.3 * taken(step, tmp_path) < imagine(step).step < taken(step, tmp_path)


def test_each_kind_is_told():
    step = step_of("model=gpt", "model.n_layer=2", "optimizer=adamw")
    found, parameters = imagine(step), count_parameters(step.config.model)
    assert found.weights == 4 * parameters
    assert found.gradients == pytest.approx(4 * parameters, rel=0.01), "with what aligns them, and the sums of a step"
    assert found.optimizer == pytest.approx(8 * parameters, rel=0.001)
    assert found.logits > 4 * 8 * 128 * 512
    assert sum(getattr(found, kind) for kind in imagined.KINDS) == found.step
    assert (found.sent_each, found.sent_once) == (0, 0)
    assert imagine(replace(step, processes=4)).sent_once == pytest.approx(2 * 3 / 4 * found.gradients, rel=0.01)


def test_layers_and_rows_are_told_by_a_few():
    deep = step_of("model=llama", "model.n_layer=9", "train.activation_checkpointing=true")
    assert need.told(deep) == imagine(deep)
    many = step_of("model=gpt", "model.n_layer=2", "model.vocab_size=60000", rows=24)
    told, exact = need.told(many), imagine(many)
    assert told.step == pytest.approx(exact.step, rel=0.02)
    assert told.weights == exact.weights
    frozen = step_of("model=gpt", "model.n_layer=8", "train.freeze=['blocks.[2-7]']")
    assert need.told(frozen) == imagine(frozen)
    small = step_of("model=gpt", "model.n_layer=2")
    bound = outline(small)
    assert imagine(small).step <= bound.step <= 1.5 * imagine(small).step


@pytest.mark.parametrize(
    ("words", "dtype"),
    [(("model=gpt", "optimizer=adamw"), torch.float32), (("model=llama", "optimizer=muon"), torch.bfloat16)],
)
def test_what_one_of_many_holds_is_told_without_them(words, dtype):
    divided = step_of(*words, "model.n_layer=6", "train.shard=full", processes=8, rows=2, dtype=dtype)
    told, exact = need.estimate(divided, None), imagine(divided)
    assert told.memory.weights == pytest.approx(exact.weights, rel=0.05)
    assert told.memory.gradients == pytest.approx(exact.gradients, rel=0.1)
    assert told.memory.step == pytest.approx(exact.step, rel=0.15)
    whole = count_parameters(divided.config.model) * 4
    assert exact.weights == pytest.approx(whole / 8, rel=0.1)
    assert told.evaluation > whole
    assert 0.9 * exact.update < told.memory.update < 1.6 * exact.update
    assert exact.sent_each > 2 * whole * 7 / 8 * dtype.itemsize / 4, "gathered twice, and gradients summed"


@pytest.mark.parametrize("rank", [0, 100, 255])
def test_any_of_256_processes_makes_its_step(rank):
    step = step_of("model=llama", "train.shard=full", "train.batch_size=256", processes=256, rows=1)
    found = imagine(replace(step, rank=rank))
    assert 0 < found.weights <= imagine(step).weights, "the last ones have fewer rows"
    assert found.step > found.activations > 0


def test_pretended_processes_leave_nothing_behind():
    with pretended(4, rank=2):
        assert torch.distributed.get_rank() == 2
    assert not torch.distributed.is_initialized()


# ---- what auto means


def flat(monkeypatch, fixed: int, each: int) -> None:
    """Have a training need so much, and so much more for each sequence; divided an eighth of what is fixed."""

    def needs(step: Step, there: int | None) -> need.Need:
        held = fixed // 8 if step.config.train.shard == "full" and step.processes > 1 else fixed
        memory = Memory(held, 0, 0, 0, 0, 0, 0, held + each * step.rows, held, 0, 0)
        return need.Need(memory, 0, False, there)

    monkeypatch.setattr(need, "estimate", needs)


def choice(there: int | None, *words: str, processes: int = 4) -> need.Choice:
    step = step_of("model=gpt", "train.batch_size=64", *words)
    return need.Choice(step.config, step.samples, processes, CPU, there)


@pytest.mark.parametrize(
    ("there", "rows"), [(10**9, None), (1150, 8), (1059, 4), (1050, 4), (1041, 4), (1040, 4), (1039, 3), (10, 1)]
)
def test_the_largest_micro_batch_that_fits_is_taken(monkeypatch, there, rows):
    flat(monkeypatch, 1000, 10)
    if there == 1150:
        there = 1080
    found = choice(there, "train.micro_batch_size=auto")
    assert found.config().train.micro_batch_size == rows
    assert f"train.micro_batch_size=auto: {rows or 'null, all of it fits'}" in found.remarks()


@pytest.mark.parametrize(
    ("there", "processes", "shard"), [(2000, 4, "none"), (1159, 4, "full"), (1159, 1, "none"), (None, 4, "none")]
)
def test_a_model_is_divided_where_it_does_not_fit_whole(monkeypatch, there, processes, shard):
    flat(monkeypatch, 1000, 10)
    found = choice(there, "train.shard=auto", "train.batch_size=64", processes=processes)
    assert found.config().train.shard == shard
    said = [remark for remark in found.remarks() if "train.shard=auto" in remark]
    assert len(said) == (processes > 1)
    if said:
        assert (
            f"train.shard=auto: {shard}, 1.2 kB for a whole model {'fits' if shard == 'none' else 'does not'}"
            in said[0]
        )


def test_both_are_chosen_together(monkeypatch):
    flat(monkeypatch, 1000, 10)
    found = choice(170, "train.shard=auto", "train.micro_batch_size=auto").config().train
    assert (found.shard, found.micro_batch_size) == ("full", 4)
    found = choice(1010, "train.shard=auto", "train.micro_batch_size=auto").config().train
    assert (found.shard, found.micro_batch_size) == ("none", 1)


def test_what_is_asked_for_is_not_changed():
    found = choice(10**9, "train.micro_batch_size=3")
    assert found.config() == found.asked
    assert found.remarks() == [found.needs().sentence()]
    assert "needs at most" in found.remarks()[0]


def test_a_model_that_can_not_be_imagined_is_trained_all_the_same(monkeypatch):
    step = step_of("model=gpt")
    task = tasks.make(step.config.dataset, step.config.model.block_size)

    def fails(*_):
        raise RuntimeError("needs a value")

    monkeypatch.setattr(need, "estimate", fails)
    from cleangpt.machine.launcher import world

    assert need.settle(step.config, task, world(), CPU) == (step.config, [])
    train = step.config.train.model_copy(update={"micro_batch_size": "auto"})
    with pytest.raises(UserError, match=r"train\.micro_batch_size.*needs a value"):
        need.settle(step.config.model_copy(update={"train": train}), task, world(), CPU)


def test_the_presets_have_the_published_numbers_of_parameters():
    published = {"llama_1b": 1_235_814_400, "llama_3b": 3_212_749_824, "llama_7b": 6_738_415_616}
    for name, count in published.items():
        config = experiment.parse(composed_as_it_is(name))
        task = tasks.make(config.dataset, config.model.block_size)
        assert count_parameters(experiment.resolve(config, task).model) == count


def composed_as_it_is(model: str) -> dict:
    from hydra import compose, initialize_config_dir

    from cleangpt.config import cli, composition

    cli.register_resolvers(experiment.Config)
    with initialize_config_dir(composition.CONF, version_base=None):
        return composition.plain(compose("train", [f"model={model}"]))
