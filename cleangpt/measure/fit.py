"""Whether a training fits, before a GPU is rented: one process of many is imagined on this machine.

It says what it counted, and what it can't know.
"""

import math
from dataclasses import asdict, replace
from typing import Any

import torch

from cleangpt.basics.errors import ConfigError
from cleangpt.basics.words import counted
from cleangpt.config.programs import BenchConfig
from cleangpt.machine import device
from cleangpt.memory.cards import CARDS
from cleangpt.memory.imagined import KINDS, Memory, Step
from cleangpt.memory.need import OTHERS, USABLE, Samples, samples, told
from cleangpt.models.build import build, count_parameters
from cleangpt.optimizers import schedule
from cleangpt.tasks.contract import Task
from cleangpt.terminal.console import for_tables
from cleangpt.terminal.narrow import Table
from cleangpt.terminal.patience import size as in_words

FLOAT = 4
UNKNOWN = (
    "Not counted: buffers of NCCL, workspaces of kernels, what an allocator can't use, torch.compile; and kernels of a "
    "CPU stand in for those of CUDA."
)


def measure(config: BenchConfig, task: Task) -> dict[str, Any]:
    """Imagine a step of the first process, with a micro-batch as asked, smaller, and with checkpointing."""
    train = config.train
    mistakes = [
        f"`train.{key}` is auto, and which GPU it is for is not known here: give what you plan with"
        for key in ("shard", "micro_batch_size")
        if getattr(train, key) == "auto"
    ]
    on_gpu = config.device != "cpu"
    processes = 1 if config.processes == "auto" else config.processes
    if train.batch_size < processes:
        mistakes.append(f"`train.batch_size` must be at least {processes}, one sequence for each process")
    if mistakes:
        raise ConfigError(mistakes)
    parameters = count_parameters(config.model)
    dtype: str = config.dtype
    if dtype == "auto":
        dtype = "bfloat16" if on_gpu else device.fastest_dtype("cpu", parameters)
    share = math.ceil(train.batch_size / processes)
    parts = math.ceil(share / (train.at_once or share))
    rows = math.ceil(share / parts)
    length = config.model.context or task.sequence_length
    read: Samples = {name: ((length,), kind) for name, (_, kind) in samples(task).items()}
    step = Step(config, read, rows, processes, getattr(torch, dtype), on_gpu)
    recomputes = config.model_copy(update={"train": train.model_copy(update={"activation_checkpointing": True})})
    asked = told(step, every_layer=True)
    few, each = _line(step)
    saving = step if train.activation_checkpointing else replace(step, config=recomputes)
    least_few, least_each = _line(saving)
    evaluation = asked.weights + asked.gradients + asked.optimizer + parameters * FLOAT if step.is_divided else 0
    besides = max(asked.update, evaluation)
    peak = max(asked.step, besides)
    micro_steps = schedule.at(config.schedule, train.steps).grad_accum * parts
    half = max(1, rows // 2)
    return {
        "what": "fit",
        "device": "GPU" if on_gpu else "CPU",
        "dtype": dtype,
        "processes": processes,
        "shard": train.shard if processes > 1 else "none",
        "rows": rows,
        "length": length,
        "parameters": parameters,
        "model": config.model.name,
        "memory": asdict(asked),
        "evaluation": evaluation,
        "peak": peak,
        "sent_in_a_step": micro_steps * asked.sent_each + asked.sent_once,
        "micro_steps": micro_steps,
        "snapshot": _snapshot(step, asked, parameters),
        "cards": {
            name: _card(there, peak, besides, (few, each), (least_few, least_each)) for name, there in CARDS.items()
        },
        "saves": {
            **({f"{half} at once": asked.step - (few + half * each)} if rows > 1 else {}),
            **({} if saving is step else {"activation_checkpointing": asked.step - (least_few + rows * least_each)}),
        },
        "torch": torch.__version__,
    }


def _line(step: Step) -> tuple[int, int]:
    """Return what a micro-step takes without a sequence, and what each one adds, from two of them."""
    rows = max(4, step.rows)
    less, more = (told(replace(step, rows=count)).step for count in (rows // 2, rows))
    each = max(1, (more - less) // (rows - rows // 2))
    return more - rows * each, each


def _card(
    there: int, peak: int, besides: int, as_asked: tuple[int, int], recomputing: tuple[int, int]
) -> dict[str, Any]:
    """Count the sequences that a card can take at once; none where what comes between micro-steps does not fit."""
    usable = int(USABLE * (there - OTHERS))
    most = [max(0, (usable - few) // each) if besides <= usable else 0 for few, each in (as_asked, recomputing)]
    return {"fits": peak <= usable, "rows": most[0], "rows_recomputing": most[1]}


def _snapshot(step: Step, asked: Memory, parameters: int) -> dict[str, int]:
    """Count the bytes of a snapshot, which holds best/ too, of the part that one process writes, and of best/."""
    own = asked.weights + asked.optimizer
    model = build(step.config.model, "meta")
    vectors = sum(p.numel() for p in model.parameters() if p.dim() < 2)
    group = (step.config.train.shard_group or step.processes) if step.is_divided else 1
    kept = vectors * FLOAT * asked.optimizer // max(1, asked.weights)
    whole = own if group == 1 else (own - vectors * FLOAT - kept) * group + vectors * FLOAT + kept
    best = parameters * FLOAT
    return {"whole": whole + best, "of_each": own, "weights": best}


def show(found: dict[str, Any]) -> None:
    memory = found["memory"]
    processes = counted(found["processes"], "process")
    title = f"fit: {found['model']}, {found['parameters']:,} parameters, train.shard={found['shard']} on {processes}\n"
    title += f"{counted(found['rows'], 'sequence')} of {counted(found['length'], 'token')} at once, {found['dtype']}"
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("on one device", no_wrap=True)
    table.add_column("bytes", justify="right", no_wrap=True)
    words = {"gathered": "weights of others, gathered", "cast": "weights in the dtype of the arithmetic"}
    for kind in KINDS:
        if memory[kind]:
            table.add_row(words.get(kind, kind), in_words(memory[kind]))
    table.add_row("a micro-step at its peak", in_words(memory["step"]))
    table.add_row("the optimizer's step", in_words(memory["update"]))
    if found["evaluation"]:
        table.add_row("an evaluation, with whole weights", in_words(found["evaluation"]))
    console = for_tables()
    console.print(table, soft_wrap=True)
    cards = Table()
    for name in ("GPU", "fits", "sequences at once", "recomputing activations"):
        cards.add_column(name, justify="left" if name == "GPU" else "right", no_wrap=True)
    for name, card in found["cards"].items():
        cards.add_row(
            name, "yes" if card["fits"] else "no", *(f"{card[key]:,}" for key in ("rows", "rows_recomputing"))
        )
    console.print(cards, soft_wrap=True)
    for sentence in sentences(found):
        console.print(sentence, markup=False, soft_wrap=True)


def sentences(found: dict[str, Any]) -> list[str]:
    said = [f"{name} would save {in_words(max(0, count))}" for name, count in found["saves"].items()]
    snapshot = found["snapshot"]
    own = f", {in_words(snapshot['of_each'])} of it by each process" if found["shard"] == "full" else ""
    said.append(
        f"A snapshot is {in_words(snapshot['whole'])}{own}; best/ and final/ are {in_words(snapshot['weights'])}"
    )
    if found["processes"] > 1:
        steps = counted(found["micro_steps"], "micro-step")
        said.append(f"In a step of {steps} a process sends {in_words(found['sent_in_a_step'])}")
    return [*said, UNKNOWN]
