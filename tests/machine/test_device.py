"""Dtype, threads and compilation are chosen for the machine."""

import random
import sys
import time

import pytest
import torch
from helpers.trainings import AMX, OLD, ZEN4, composed, cpuinfo, make_trainer

from cleangpt import tasks
from cleangpt.basics.errors import UserError
from cleangpt.config import experiment
from cleangpt.disk import record
from cleangpt.disk.rundir import RunDir
from cleangpt.machine import compiler, device, launcher, process, processor
from cleangpt.machine.device import Compute
from cleangpt.models.build import build, count_parameters
from cleangpt.training import compiling, whole

CPU = Compute(torch.device("cpu"), torch.float32)
CUDA = Compute(torch.device("cuda"), torch.bfloat16)


# ---- dtype

LARGE, SMALL = device.LARGE, device.LARGE - 1
MILLIONS = ("model=gpt_small", "model.n_embd=384")  # ten


@pytest.mark.parametrize(
    ("flags", "key", "parameters", "wanted"),
    [
        (AMX, "flags", LARGE, "bfloat16"),
        (AMX, "flags", SMALL, "float32"),
        (ZEN4, "flags", LARGE, "bfloat16"),
        (ZEN4, "flags", SMALL, "float32"),
        (OLD, "flags", LARGE, "float32"),
        (OLD, "flags", SMALL, "float32"),
        ("fp asimd i8mm bf16", "Features", LARGE, "bfloat16"),
        ("fp asimd i8mm bf16", "Features", SMALL, "float32"),
        ("fp asimd asimdhp", "Features", 10 * LARGE, "float32"),
    ],
)
def test_on_a_cpu_the_flags_of_the_processor_and_the_size_of_the_model_decide(
    tmp_path, monkeypatch, flags, key, parameters, wanted
):
    cpuinfo(monkeypatch, tmp_path, flags, key)
    assert device.decided_dtype("auto", "cpu", parameters) == wanted
    for asked in ("float32", "bfloat16", "float16"):
        assert device.decided_dtype(asked, "cpu", parameters) == asked, "what was asked for stays"


def test_a_system_that_does_not_tell_of_its_processor_computes_in_float32(tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "nothing")
    assert processor.flags() == frozenset()
    assert processor.name()
    assert device.decided_dtype("auto", "cpu", 10 * LARGE) == "float32"


def test_a_gpu_decides_by_what_it_is_alone(tmp_path, monkeypatch):
    cpuinfo(monkeypatch, tmp_path, OLD)
    for native, wanted in ((True, "bfloat16"), (False, "float16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda _, native=native: native)
        assert [device.decided_dtype("auto", "cuda", size) for size in (1, LARGE)] == [wanted, wanted]
    assert device.decided_dtype("auto", "mps", LARGE) == "float32"


@pytest.mark.parametrize("flags", [AMX, OLD])
def test_the_same_command_decides_the_same_however_a_clock_lies(tmp_path, monkeypatch, flags):
    cpuinfo(monkeypatch, tmp_path, flags)
    settings = experiment.parse({**composed(*MILLIONS), "dtype": "auto", "device": "cpu"})
    settings = experiment.resolve(settings, tasks.make(settings.dataset))
    lies = random.Random(0)
    for name in ("perf_counter", "monotonic", "time", "process_time"):
        monkeypatch.setattr(time, name, lambda: lies.uniform(-1e9, 1e9))
    found = {whole._dtype(settings, RunDir(tmp_path), None) for _ in range(20)}
    assert found == {"bfloat16" if flags == AMX else "float32"}


@pytest.mark.parametrize("name", ["gpt_tiny", "llama_tiny"])
def test_a_model_is_counted_without_making_its_weights(name):
    settings = experiment.parse(composed(f"model={name}"))
    settings = experiment.resolve(settings, tasks.make(settings.dataset))
    made = sum(parameter.numel() for parameter in build(settings.model).parameters())
    assert count_parameters(settings.model) == made
    assert count_parameters(settings.model.model_copy(update={"vocab_size": 1 << 40})) > 1e13, "no memory holds these"


def test_a_run_whose_configuration_says_auto_has_the_dtype_that_its_record_tells(tmp_path, monkeypatch):
    settings = experiment.parse({**composed(), "dtype": "auto"})
    for known in ("float32", "bfloat16"):
        part = {"machine": {"dtype": known, "device_type": "cuda"}}
        monkeypatch.setattr(record, "begun", lambda _, part=part: part)
        assert whole._dtype(settings, RunDir(tmp_path), tmp_path) == known
    asked = experiment.parse({**composed(), "dtype": "float16"})
    assert whole._dtype(asked, RunDir(tmp_path), tmp_path) == "float16"


@pytest.mark.parametrize(
    ("flags", "dtype", "kept", "said"),
    [
        (AMX, "bfloat16", True, None),
        (AMX, "float32", False, None),
        (OLD, "float32", True, None),
        (
            AMX,
            "float32",
            True,
            "dtype stays float32, as the run has it, where one that begins here would take bfloat16",
        ),
        (
            OLD,
            "bfloat16",
            True,
            "dtype stays bfloat16, as the run has it, where one that begins here would take float32; "
            "this processor has no instructions for bfloat16, and is slow",
        ),
        (
            OLD,
            "bfloat16",
            False,
            "this processor has no instructions for bfloat16, and is slow: dtype=float32 is faster",
        ),
        (
            ZEN4,
            "float16",
            False,
            "this processor has no instructions for float16, and is slow: dtype=bfloat16 is faster",
        ),
    ],
)
def test_a_dtype_that_this_machine_would_not_choose_is_told(tmp_path, monkeypatch, flags, dtype, kept, said):
    cpuinfo(monkeypatch, tmp_path, flags)
    assert device.dtype_remark(Compute(torch.device("cpu"), getattr(torch, dtype)), LARGE, kept) == said


def test_rank_0_decides_and_the_others_take_what_it_says(tmp_path, monkeypatch):
    cpuinfo(monkeypatch, tmp_path, OLD)
    settings = experiment.parse({**composed(), "dtype": "auto"})
    monkeypatch.setattr(launcher, "broadcast_from_rank0", lambda key, say: "bfloat16")
    assert whole._dtype(settings, RunDir(tmp_path), None) == "bfloat16"


def test_bfloat16_on_a_cpu_learns_and_casts_weights_once_a_step(tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path, "dtype=bfloat16", "schedule.grad_accum.begin=3", "model=gpt_tiny")
    parameters = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    casts: list[str] = []
    with Casts(parameters, casts):
        row, _ = trainer.step(1)
    matrices = [name for name in casts if "blocks" in name]
    assert sorted(matrices) == sorted(set(matrices)), "each at most once, in three micro-steps"
    assert len(matrices) >= 4
    assert row["train/loss"] == pytest.approx(make_trainer(tmp_path, *F32).step(1)[0]["train/loss"], rel=0.01)


F32 = ("dtype=float32", "schedule.grad_accum.begin=3", "model=gpt_tiny")


class Casts(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes which parameters are cast to another dtype."""

    def __init__(self, parameters, found):
        super().__init__()
        self.places = {}
        self.parameters, self.found = parameters, found

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._to_copy.default and id(args[0]) in self.parameters:
            self.found.append(self.parameters[id(args[0])])
        return func(*args, **(kwargs or {}))


# ---- threads


@pytest.mark.parametrize("busy", [True, False])
def test_threads_that_wait_give_way_to_others_unless_somebody_said_how(monkeypatch, busy):
    monkeypatch.setattr(process, "others_are_busy", lambda: busy)
    for name in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", process.SPINS_NAME):
        monkeypatch.setenv(name, "1")  # put back afterwards
        monkeypatch.delenv(name)
    process.before_torch()
    assert process.os.environ.pop(process.SPINS_NAME, None) == (process.SPINS if busy else None)
    for name in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS"):
        with monkeypatch.context() as other:
            other.setenv(name, "1")
            process.before_torch()
            assert process.SPINS_NAME not in process.os.environ


def test_others_are_busy_where_they_need_more_cores_than_there_are_to_spare(monkeypatch):
    monkeypatch.setattr(process.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(process.os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    for running, wanted in (("1", False), ("3", False), ("4", True)):
        monkeypatch.setattr(process.Path, "read_text", lambda _, n=running: f"0.5 0.5 0.5 {n}/100 4242")
        assert process.others_are_busy() is wanted


# ---- compilation


def test_compile_auto_is_on_for_long_runs_on_a_gpu_and_says_so(monkeypatch):
    monkeypatch.setattr(compiler, "has_compiler", lambda: True)
    assert compiling.decide("auto", CPU, 1e6) == (False, None)
    short, reason = compiling.decide("auto", CUDA, 30)
    assert not short
    assert reason == "compile=auto: off, a run of about 30 s would not win back the compilation"
    long, reason = compiling.decide("auto", CUDA, 3000)
    assert long
    assert reason == "compile=auto: on, a run of about 3,000 s wins back the compilation"
    monkeypatch.setattr(compiler, "has_compiler", lambda: False)
    assert compiling.decide("auto", CUDA, 3000) == (False, "compile=auto: off, there is no C++ compiler here")


def test_what_can_not_be_compiled_is_refused_in_a_sentence(monkeypatch):
    with pytest.raises(UserError, match="`compile` is graphs, which only a CUDA device has: use compile=true"):
        compiling.decide("graphs", CPU, 1)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match="`compile` is true, which needs a C\\+\\+ compiler"):
        compiling.decide(True, CPU, 1)
    assert compiling.decide(False, CPU, 1) == (False, None)


def test_the_time_of_a_run_grows_with_its_steps_its_layers_and_its_width(tmp_path):
    def seconds(*overrides, micro_steps=1000):
        trainer = make_trainer(tmp_path, *overrides)
        length = trainer.task.sequence_length
        return compiling.eager_seconds(trainer.config, trainer.model, length, CUDA, 1, micro_steps)

    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(compiling.peaks, "peak", lambda _: None)
    small = seconds()
    assert seconds(micro_steps=3000) == pytest.approx(3 * small)
    assert seconds("model.n_layer=6") == pytest.approx(3 * small)  # bound by launches
    assert seconds("train.micro_batch_size=2") == pytest.approx(4 * small)
    wide = seconds("model.n_embd=512", "train.batch_size=512")
    assert seconds("model.n_embd=512", "train.batch_size=1024") == pytest.approx(2 * wide)  # by arithmetic
    monkeypatch.undo()


def test_blocks_are_compiled_once_for_all_layers_and_never_for_an_evaluation(tmp_path, monkeypatch):
    from torch._dynamo.testing import CompileCounter

    counter, real = CompileCounter(), torch.compile
    monkeypatch.setattr(torch, "compile", lambda *a, **how: real(*a, backend=counter, **how))
    trainer = make_trainer(tmp_path, "model.n_layer=3", "schedule.grad_accum.begin=2")
    eager = make_trainer(tmp_path / "eager", "model.n_layer=3", "schedule.grad_accum.begin=2")
    compiling.apply(True, trainer.model)
    for step in (1, 2, 3):
        assert trainer.step(step)[0]["train/loss"] == pytest.approx(eager.step(step)[0]["train/loss"], rel=1e-5)
    assert counter.frame_count == 2, "a block and the loss"
    trainer.evaluate()
    trainer.step(4)
    assert counter.frame_count == 2, "nothing is compiled anew after warm-up"
    torch.compiler.reset()


def test_what_is_compiled_is_chosen_by_rule_and_not_by_the_clock(tmp_path, monkeypatch):
    from torch._inductor import config as inductor

    monkeypatch.setattr(inductor, "deterministic", False)
    monkeypatch.delenv("TORCHINDUCTOR_DETERMINISTIC", raising=False)
    trainer = make_trainer(tmp_path)
    monkeypatch.setattr(torch, "compile", lambda module, **_: module)
    for block in trainer.model.blocks:
        monkeypatch.setattr(block, "compile", lambda **_: None)
    compiling.apply(False, trainer.model)
    assert not inductor.deterministic
    compiling.apply(True, trainer.model)
    assert inductor.deterministic


def test_compile_auto_decides_for_the_whole_run_wherever_it_stands(tmp_path, monkeypatch):
    trainer, asked = make_trainer(tmp_path), []
    monkeypatch.setattr(compiling, "eager_seconds", lambda *arguments: asked.append(arguments[-1]) or 1.0)
    for micro_step in (0, 5):
        trainer.state.micro_step = micro_step
        compiling.prepare(trainer)
    assert asked == [8, 8]


def test_a_program_starts_without_torchs_compiler():
    import subprocess

    from started.programs import ROOT

    code = (
        "import sys; sys.path[:0] = ['.', 'tests']\n"
        "from pathlib import Path\nimport tempfile\nfrom helpers.trainings import fit\n"
        "for optimizer in ('muon', 'adamw'):\n"
        "    fit(Path(tempfile.mkdtemp()), 'train.steps=2', f'optimizer={optimizer}')\n"
        "    print('loaded', sorted({'torch._dynamo', 'sympy', 'torch.optim.adamw'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = [line for line in done.stdout.splitlines() if line.startswith("loaded ")]
    assert len(loaded) == 2
    assert {*loaded} <= {"loaded []", "loaded ['torch.optim.adamw']"}, loaded
