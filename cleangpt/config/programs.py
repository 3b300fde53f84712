"""The keys of the programs beside train.py: their types, bounds and meaning."""

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from cleangpt.basics.schema import Section
from cleangpt.config.experiment import Config, DatasetConfig, Device
from cleangpt.tasks import SETTINGS as TASK_SETTINGS

Status = Literal["running", "completed", "early_stopped", "stopped", "failed", "cut_off", "pruned", "unreadable"]


class BenchConfig(Config):
    """The keys of conf/bench.yaml: those of a training, and what to measure of it."""

    refuses: ClassVar = ("sweep", "resume", "init_from")

    what: Literal["train", "decode", "score", "page", "fit"] = Field(
        description="what to measure; page: the page over made-up runs, and a training beside it; fit: the memory of a "
        "training, imagined"
    )
    against: Literal["plain", "transformers", "litgpt"] | None = Field(
        description="a plain loop (decoding without a cache, scoring by decoding) or somebody else's; null: nothing"
    )
    batches: list[Annotated[int, Field(ge=1)]] = Field(min_length=1, description="texts at once with what=decode")
    runs: int = Field(ge=2, description="made-up runs with what=page")
    rounds: int = Field(ge=1, description="turns of each side, A B B A …")
    seconds: float = Field(gt=0, description="length of a turn")
    startup: bool = Field(description="with what=train also time from the command to the first step, twice")
    suite: dict[str, str] | None = Field(description="several measurements: a name, and the words of each")

    @field_validator("against")
    @classmethod
    def _does_what_is_measured(cls, against: str | None, info: ValidationInfo) -> str | None:
        does = {"transformers": ("train", "decode"), "litgpt": ("train",)}.get(str(against))
        if does and info.data.get("what") not in does:
            raise ValueError(f"is {against}, which is for what={' or '.join(does)}: set that, or against=plain")
        return against


class _OfRun(Section):
    """The key of what is done with one model."""

    run: str = Field(min_length=1, description="a run directory, one of its snapshots, best/ or final/, or latest")


class _OfRuns(Section):
    """The key of what is done with many runs."""

    runs: str | list[str] = Field(
        min_length=1, description="run directories, folders that hold some, patterns with *, or latest"
    )


class AskConfig(Section):
    """Ways to ask a trained model."""

    prefix: str = Field(description=r"what stands before each problem; \n is the end of a line")
    temperature: float = Field(ge=0, description="0: the likeliest answer; above: the chance to draw a right one")
    top_k: int | None = Field(ge=1, description="draw among so many of the likeliest tokens; null: all")
    samples: int = Field(ge=1, description="tries: the chance that one of them is right comes too")

    @field_validator("samples", "top_k")
    @classmethod
    def _of_what_is_drawn(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value not in (None, 1) and info.data.get("temperature") == 0:
            raise ValueError("needs ask.temperature above 0: at 0 every answer is the likeliest one")
        return value


class ScoreConfig(_OfRun):
    """The keys of conf/score.yaml."""

    verbatim: ClassVar = ("ask.prefix",)

    suite: Literal["own", "lm-eval"] = Field(description="on the task it was trained for, or by lm-evaluation-harness")
    tasks: list[str] | str | None = Field(description="tasks of suite=lm-eval, several as [one,two]")
    fewshot: int | None = Field(ge=0, description="examples before each question of suite=lm-eval; null: the task's")
    include: str | None = Field(description="a folder with tasks of your own for suite=lm-eval")
    split: str | None = Field(
        min_length=1, description="test, val, train, or a set of the task; null: test, or val without one"
    )
    data: str | None = Field(min_length=1, description="another folder of prepared text to score on; null: the run's")
    sets: list[str] | dict[str, Any] | None = Field(
        description="further sets of the task to score, [] for none, or other ones, as in dataset.sets; null: all"
    )
    ask: AskConfig
    limit: int | None = Field(ge=1, description="how many; null: all, or a large fixed sample of a huge set")
    method: Literal["auto", "forced", "generate"] = Field(
        description="one forward pass a problem, or real decoding; auto: the fast one where it is exact"
    )
    device: Device = Field(description="where to compute; auto: the fastest there is")


class ExportConfig(Section):
    """The keys of conf/export.yaml."""

    run: str = Field(
        min_length=1,
        description="a run, one of its folders, or latest; with format=cleangpt, a folder or repository of others",
    )
    format: Literal["hf", "cleangpt"] = Field(description="Hugging Face's, for others to open, or ours")
    out: str | None = Field(description="the folder to write; null: hf/ in the run, or outputs/<name>")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(description="of the weights with format=hf")


class ReportConfig(_OfRuns):
    """The keys of conf/report.yaml."""

    out: str | None = Field(min_length=1, description="folder to write to; null: report/ in the folder around the runs")
    metric: str | None = Field(
        min_length=1, description="what judges the runs; null: val/accuracy where there is one, else val/loss"
    )
    curves: list[str] = Field(description="columns of metrics.jsonl to draw too, as in [lr,grad_norm,'weight_norm/*']")
    title: str | None = Field(min_length=1, description="heading of the page; null: the name of the folder")


class RunsConfig(_OfRuns):
    """The keys of conf/runs.yaml."""

    status: list[Status] | None = Field(description="list only those that stand so, as [running,cut_off]; null: all")
    sort: Literal["started", "name", "status"] = Field(description="the newest first, or by name, or by status")
    limit: int | None = Field(ge=1, description="list so many at most; null: all")


class PrepareConfig(Section):
    """The keys of conf/prepare.yaml."""

    refuses: ClassVar = tuple(
        f"dataset={name}" for name, task in TASK_SETTINGS.items() if not hasattr(task, "preparation")
    )

    dataset: DatasetConfig
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        description="processes that tokenize; auto: one for each core where there is much to do"
    )
    force: bool = Field(description="prepare anew what is prepared already")


class _AddressConfig(Section):
    """The keys of what listens at an address."""

    host: str = Field(
        min_length=1, description="address to listen at; 0.0.0.0: all of this machine, for whoever has the token"
    )
    port: int | None = Field(ge=0, le=65535, description="null: the first free one from 6160 on; 0: any that is free")
    hosts: list[str] = Field(description="further names by which it is reached")
    token: str | None = Field(
        min_length=16, description="what clients have to know; null: one is made where host is not this machine alone"
    )
    waiting: int = Field(ge=0, le=1000, description="requests that may wait for their turn at a model")
    device: Device = Field(description="where models compute; auto: the fastest there is")


class ServeConfig(_AddressConfig, _OfRun):
    """The keys of conf/serve.yaml."""

    verbatim: ClassVar = ("run", "token")

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(description="of weights and arithmetic")


class UiConfig(_AddressConfig, _OfRuns):
    """The keys of conf/ui.yaml."""

    verbatim: ClassVar = ("token",)

    open: bool = Field(description="open the page in a browser")


class TemplateConfig(Section):
    """The text around a prompt: a file of conf/template/, with a key for each `{name}` in its pattern."""

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


class SampleConfig(_OfRun):
    """The keys of conf/sample.yaml."""

    verbatim: ClassVar = ("run", "prompt", "prompts", "output", "stop", "template.*")

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
    repetition_penalty: float = Field(
        ge=0.01, le=100, description="above 1: tokens that were there before are less likely"
    )
    stop: str | list[str] | None = Field(description=r"texts to stop before; \n is the end of a line")
    seed: int = Field(ge=0, lt=2**63, description="the same seed gives the same text")
    device: Device = Field(description="where to compute; auto: the fastest there is")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(description="of weights and arithmetic")
    compile: bool = Field(description="torch.compile, which pays for long texts")

    @field_validator("prompts")
    @classmethod
    def _one_way_in(cls, prompts: str | None, info: ValidationInfo) -> str | None:
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
    def _a_conversation_alone(cls, interactive: bool, info: ValidationInfo) -> bool:
        others = [key for key in ("prompt", "prompts", "output") if info.data.get(key) is not None]
        if interactive and others:
            raise ValueError(f"asks for the prompts itself: leave out {', '.join(others)}")
        return interactive
