"""Every key of conf/: its type, its bounds, its meaning, and what must fit together.

Hydra composes; `schema.parse` checks the result against `Config` once. Torch is not imported here, so that a
refused configuration answers at once.
"""

import re
import typing
from typing import Annotated, Any, ClassVar, Literal, Union

from pydantic import ConfigDict, Field, field_validator, model_validator

from cleangpt.basics import schema
from cleangpt.basics.errors import ConfigError
from cleangpt.basics.schema import Section
from cleangpt.models.settings import GPTConfig, LlamaConfig, ModelConfig
from cleangpt.optimizers.settings import AdamWConfig, MuonConfig, ScheduleConfig
from cleangpt.tasks import SETTINGS as TASK_SETTINGS


class StopWhen(Section):
    """What ends a run as completed before its last step."""

    metric: str = Field(min_length=1, description="a score of the evaluations")
    at_least: float | None = Field(description="what it has to reach; null: see at_most")
    at_most: float | None = Field(description="what it has to fall to; null: see at_least")
    times: int = Field(ge=1, description="evaluations in a row that have to show it")

    @model_validator(mode="before")
    @classmethod
    def _one_bound_is_enough(cls, given: Any) -> Any:
        return {"at_least": None, "at_most": None, **given} if isinstance(given, dict) else given

    @field_validator("at_most")
    @classmethod
    def _one_bound(cls, at_most: float | None, info) -> float | None:
        if "at_least" in info.data and (at_most is None) == (info.data["at_least"] is None):
            raise ValueError("and train.stop_when.at_least: one has to be a number and the other null")
        return at_most


class TrainConfig(Section):
    steps: int = Field(ge=1, description="optimizer steps")
    batch_size: int = Field(ge=1, description="sequences in one micro-step, over all processes")
    micro_batch_size: int | None = Field(ge=1, description="most sequences on one device at once; null: no cap")
    grad_clip: float | None = Field(gt=0, description="largest norm of the gradient; null: no clipping")
    eval_every: int | None = Field(ge=1, description="steps between evaluations; null: only at the end")
    log_every: int = Field(ge=1, description="steps between lines of metrics.jsonl")
    snapshot_every: int | None = Field(ge=1, description="steps between snapshots; null: only at the end")
    snapshot_minutes: float | None = Field(gt=0, description="minutes between snapshots, at most; null: no limit")
    keep_snapshots: int | None = Field(ge=1, description="newest snapshots that are kept; null: all")
    early_stopping: int | None = Field(ge=1, description="evaluations without a better val/loss; null: off")
    stop_when: StopWhen | None
    freeze: list[str] = Field(description="parameters that stay as they are: names, parts of names, or patterns")
    nonfinite: Literal["stop", "skip"] = Field(description="what to do with a step whose gradient is not finite")
    nonfinite_limit: int = Field(ge=1, description="steps in a row that nonfinite=skip may skip")
    activation_checkpointing: bool = Field(description="recompute activations instead of storing them")
    test_at_end: bool = Field(description="score the best weights on the test split when training ends")

    @field_validator("stop_when")
    @classmethod
    def _is_looked_at(cls, stop_when: StopWhen | None, info) -> StopWhen | None:
        if stop_when is not None and info.data.get("eval_every", 1) is None:
            raise ValueError("is judged at evaluations, and there are none before the end: set train.eval_every")
        return stop_when


class LoggerConfig(Section):
    progress: bool | Literal["auto"] = Field(description="a bar; auto: on a terminal only")
    samples: int = Field(ge=0, description="samples shown at each evaluation")
    tensorboard: bool = Field(description="event files in tensorboard/")
    wandb: bool = Field(description="a run of Weights & Biases, offline where there is no key")
    csv: bool = Field(description="metrics.csv beside metrics.jsonl")
    project: str = Field(min_length=1, description="the project of wandb")
    plots: bool = Field(description="draw plots/ anew at each evaluation, and the pictures of the score at the end")
    norms: int | None = Field(ge=1, description="steps between norms of weights and updates, by layer; null: never")


Device = Literal["auto", "cpu", "cuda", "mps"]
# A task brings its own settings; the union is over whatever lies in cleangpt/tasks/.
DatasetConfig = Annotated[Union[tuple(TASK_SETTINGS.values())], Field(discriminator="name")]  # noqa: UP007


class Config(Section):
    """One experiment: what conf/train.yaml composes to, and what config.json holds."""

    seed: int = Field(ge=0, lt=2**63, description="of initialisation, data order and dropout")
    device: Device = Field(description="where to compute; auto: the fastest there is")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        description="of the arithmetic, weights stay float32; auto: bfloat16 where the hardware has it and it pays"
    )
    compile: bool | Literal["auto", "graphs"] = Field(
        description="torch.compile; auto: where it pays within the run; graphs: with CUDA graphs, for small models"
    )
    processes: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        description="processes that `python train.py` starts; auto: one for each visible GPU"
    )
    profile: bool = Field(description="trace a few steps for Perfetto, into profile/, then go on")
    resume: str | None = Field(description="a run or snapshot to continue; auto: the one in hydra.run.dir; null: none")
    init_from: str | None = Field(description="a run whose weights to start from; null: random weights")
    dataset: DatasetConfig
    model: Annotated[GPTConfig | LlamaConfig, Field(discriminator="name")]
    optimizer: Annotated[AdamWConfig | MuonConfig, Field(discriminator="name")]
    train: TrainConfig
    schedule: ScheduleConfig
    logger: LoggerConfig

    @field_validator("model")
    @classmethod
    def _context_holds_a_sample(cls, model: ModelConfig, info) -> ModelConfig:
        needed = getattr(info.data.get("dataset"), "sequence_length", None)
        if model.block_size and needed and model.block_size < needed:
            raise ValueError(
                f"block_size={model.block_size} is shorter than one sample of {needed} tokens: "
                f"set model.block_size={needed} or null"
            )
        return model


class Imported(Section):
    """What config.json holds beside weights that were not trained here, but imported."""

    source: str = Field(min_length=1, description="where the weights come from")
    dataset: None = Field(description="no data set")
    model: Annotated[GPTConfig | LlamaConfig, Field(discriminator="name")]


class BenchConfig(Config):
    """What conf/bench.yaml composes to: a training configuration and what to measure of it."""

    refuses: ClassVar = ("sweep", "resume", "init_from")

    what: Literal["train", "decode", "score"] = Field(description="what to measure")
    against: Literal["plain", "transformers", "litgpt"] | None = Field(
        description="a plain loop (decoding without a cache, scoring by decoding) or somebody else's; null: nothing"
    )
    batches: list[Annotated[int, Field(ge=1)]] = Field(min_length=1, description="texts at once with what=decode")
    rounds: int = Field(ge=1, description="turns of each side, A B B A …")
    seconds: float = Field(gt=0, description="length of a turn")
    startup: bool = Field(description="with what=train also time from the command to the first step, twice")
    suite: dict[str, str] | None = Field(description="several measurements: a name, and the words of each")

    @field_validator("against")
    @classmethod
    def _does_what_is_measured(cls, against: str | None, info) -> str | None:
        does = {"transformers": ("train", "decode"), "litgpt": ("train",)}.get(against)
        if does and info.data.get("what") not in does:
            raise ValueError(f"is {against}, which is for what={' or '.join(does)}: set that, or against=plain")
        return against


class ScoreConfig(Section):
    """What conf/score.yaml composes to."""

    run: str = Field(min_length=1, description="a run directory, one of its snapshots, best/ or final/, or latest")
    suite: Literal["own", "lm-eval"] = Field(description="on the task it was trained for, or by lm-evaluation-harness")
    tasks: list[str] | str | None = Field(description="tasks of suite=lm-eval, several as [one,two]")
    fewshot: int | None = Field(ge=0, description="examples before each question of suite=lm-eval; null: the task's")
    include: str | None = Field(description="a folder with tasks of your own for suite=lm-eval")
    split: Literal["test", "val", "train"] | None = Field(description="which part; null: test, or val without one")
    data: str | None = Field(min_length=1, description="another folder of prepared text to score on; null: the run's")
    limit: int | None = Field(ge=1, description="how many; null: all, or a large fixed sample of a huge set")
    method: Literal["auto", "forced", "generate"] = Field(
        description="one forward pass a problem, or real decoding; auto: the fast one where it is exact"
    )
    device: Device = Field(description="where to compute; auto: the fastest there is")


class ExportConfig(Section):
    """What conf/export.yaml composes to."""

    run: str = Field(
        min_length=1,
        description="a run, one of its folders, or latest; with format=cleangpt, a folder or repository of others",
    )
    format: Literal["hf", "cleangpt"] = Field(description="Hugging Face's, for others to open, or ours")
    out: str | None = Field(description="the folder to write; null: hf/ in the run, or outputs/<name>")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(description="of the weights with format=hf")


class ReportConfig(Section):
    """What conf/report.yaml composes to."""

    runs: str | list[str] = Field(
        min_length=1, description="run directories, folders that hold some, patterns with *, or latest"
    )
    out: str | None = Field(min_length=1, description="folder to write to; null: report/ in the folder around the runs")
    metric: str | None = Field(
        min_length=1, description="what judges the runs; null: val/accuracy where there is one, else val/loss"
    )
    curves: list[str] = Field(description="columns of metrics.jsonl to draw too, as in [lr,grad_norm,'weight_norm/*']")
    title: str | None = Field(min_length=1, description="heading of the page; null: the name of the folder")


class PrepareConfig(Section):
    """What conf/prepare.yaml composes to."""

    refuses: ClassVar = tuple(
        f"dataset={name}"
        for task in TASK_SETTINGS.values()
        if not hasattr(task, "preparation")
        for name in typing.get_args(task.model_fields["name"].annotation)
    )

    dataset: DatasetConfig
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        description="processes that tokenize; auto: one for each core where there is much to do"
    )
    force: bool = Field(description="prepare anew what is prepared already")


class TemplateConfig(Section):
    """What is put around a prompt: a file of conf/template/, with a key for each `{name}` in its pattern."""

    model_config = ConfigDict(extra="allow")

    pattern: str = Field(description="the prompt is {text}; {name} is template.name, whatever names a template has")

    @model_validator(mode="after")
    def _values_are_those_of_the_pattern(self) -> "TemplateConfig":
        names = re.findall(r"\{(\w+)\}", self.pattern)
        if names.count("text") != 1:
            raise ValueError(f"needs a pattern with one {{text}} in it, and {self.pattern!r} has {names.count('text')}")
        if lacking := sorted(set(names) - {"text"} - set(self.values)):
            raise ValueError(f"has no value for {lacking[0]} of its pattern: add template.{lacking[0]}=…")
        if unused := sorted(set(self.values) - set(names)):
            there = ", ".join(name for name in names if name != "text") or "no names but text"
            raise ValueError(
                f"has a value for {unused[0]}, which its pattern {self.pattern!r} lacks: there are {there}"
            )
        return self

    @property
    def values(self) -> dict[str, Any]:
        return self.__pydantic_extra__ or {}


class SampleConfig(Section):
    """What conf/sample.yaml composes to."""

    verbatim: ClassVar = ("run", "prompt", "prompts", "output", "stop", "template.*")

    run: str = Field(min_length=1, description="a run directory, one of its snapshots, best/ or final/, or latest")
    prompt: str | None = Field(description="what to go on with; @file reads it from a file, - from standard input")
    prompts: str | None = Field(min_length=1, description="a file with a prompt a line")
    output: str | None = Field(min_length=1, description="where the texts go, a .jsonl or .txt; null: here")
    interactive: bool = Field(description="a conversation")
    template: TemplateConfig
    max_new_tokens: int = Field(ge=1, description="the longest text, in tokens")
    num_samples: int = Field(ge=1, description="texts for each prompt")
    batch_size: int = Field(ge=1, description="texts that are written at once")
    temperature: Annotated[float, Field(ge=0)] | Literal["auto"] = Field(
        description="0: always the likeliest token; auto: 0 where an answer is right or wrong, else 0.8"
    )
    top_k: int | None = Field(ge=1, description="choose among so many of the likeliest tokens")
    top_p: float | None = Field(gt=0, le=1, description="choose among the likeliest that have this mass together")
    min_p: float | None = Field(ge=0, le=1, description="choose among those at least so likely, next to the likeliest")
    repetition_penalty: float = Field(gt=0, description="above 1: tokens that were there before are less likely")
    stop: str | list[str] | None = Field(description=r"texts to stop before; \n is the end of a line")
    seed: int = Field(ge=0, lt=2**63, description="the same seed gives the same text")
    device: Device = Field(description="where to compute; auto: the fastest there is")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(description="of weights and arithmetic")
    compile: bool = Field(description="torch.compile, which pays for long texts")

    @field_validator("prompts")
    @classmethod
    def _one_way_in(cls, prompts: str | None, info) -> str | None:
        if prompts is not None and info.data.get("prompt") is not None:
            raise ValueError("and prompt are two ways to say the same: leave one out")
        return prompts

    @field_validator("output")
    @classmethod
    def _known_format(cls, output: str | None) -> str | None:
        if output is not None and not output.endswith((".jsonl", ".txt")):
            raise ValueError(f"must end with .jsonl or .txt, and {output} does not")
        return output

    @field_validator("interactive")
    @classmethod
    def _a_conversation_alone(cls, interactive: bool, info) -> bool:
        others = [key for key in ("prompt", "prompts", "output") if info.data.get(key) is not None]
        if interactive and others:
            raise ValueError(f"asks for the prompts itself: leave out {', '.join(others)}")
        return interactive


def parse(data: dict[str, Any]) -> Config:
    """The checked configuration of an experiment, or a ConfigError that names every mistake."""
    return schema.parse(data, Config)


def resolve(config: Config, task: Any) -> Config:
    """Fill in every null that stands for a value derived from others, so that config.json is complete."""
    model = {
        "block_size": config.model.block_size or task.sequence_length,
        "vocab_size": config.model.vocab_size or task.tokenizer.vocab_size,
    }
    if model["vocab_size"] < task.tokenizer.vocab_size:
        raise ConfigError(
            [
                f"`model.vocab_size` must be at least {task.tokenizer.vocab_size}, the size of the tokenizer, "
                f"or null, not {model['vocab_size']}"
            ]
        )
    if isinstance(config.model, LlamaConfig):
        width = config.model.n_embd
        model["head_dim"] = config.model.head_dim or width // config.model.n_head
        model["n_kv_head"] = config.model.n_kv_head or config.model.n_head
        usual = 4 * width if config.model.activation == "relu2" else -(-8 * width // (3 * 32)) * 32
        model["ffn_dim"] = config.model.ffn_dim or usual
    optimizer = config.optimizer
    if isinstance(optimizer, MuonConfig):
        optimizer = optimizer.model_copy(update={"matrix_lr": optimizer.matrix_lr or 2 * optimizer.lr})
    ramps = {}
    first = {"lr": config.optimizer.lr, "weight_decay": config.optimizer.weight_decay, "grad_accum": 1}
    for name, default in first.items():
        ramp = getattr(config.schedule, name)
        begin = default if ramp.begin is None else ramp.begin
        end = begin if ramp.end is None else ramp.end
        ramps[name] = ramp.model_copy(update={"begin": begin, "end": end})
    return config.model_copy(
        update={
            "dataset": task.settings,
            "model": config.model.model_copy(update=model),
            "optimizer": optimizer,
            "schedule": config.schedule.model_copy(
                update={**ramps, "steps": config.schedule.steps or config.train.steps}
            ),
        }
    )
