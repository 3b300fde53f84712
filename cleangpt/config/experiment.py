"""Every key of conf/: its type, its bounds, its meaning, and what must fit together.

Hydra composes; `schema.parse` checks the result against `Config` once. Torch is not imported here, so that a
refused configuration answers at once.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union

from pydantic import Field, ValidationInfo, field_validator, model_validator

from cleangpt.basics import schema
from cleangpt.basics.errors import ConfigError
from cleangpt.basics.schema import Section
from cleangpt.models import SETTINGS as MODEL_SETTINGS
from cleangpt.models.settings import ModelSettings
from cleangpt.optimizers import SETTINGS as OPTIMIZER_SETTINGS
from cleangpt.optimizers.settings import OptimizerSettings, ScheduleConfig
from cleangpt.tasks import SETTINGS as TASK_SETTINGS
from cleangpt.tasks.contract import Task


class StopWhen(Section):
    """A goal that ends a run as completed before its last step."""

    metric: str = Field(min_length=1, description="a score of the evaluations")
    at_least: float | None = Field(description="what it has to reach; null: see at_most")
    at_most: float | None = Field(description="what it has to fall to; null: see at_least")
    times: int = Field(ge=1, description="evaluations in a row that have to show it")

    def is_met(self, scores: dict[str, float]) -> bool:
        """Tell whether one evaluation shows it. What is not a number shows nothing."""
        value = scores[self.metric]
        if self.at_least is not None:
            return value >= self.at_least
        return self.at_most is not None and value <= self.at_most

    def in_words(self) -> str:
        bound = f"at least {self.at_least}" if self.at_least is not None else f"at most {self.at_most}"
        often = f" in {self.times} evaluations in a row" if self.times > 1 else ""
        return f"{self.metric} is {bound}{often}"

    def question(self) -> str:
        """Tell one goal from another, however often it has to be shown."""
        return self.model_copy(update={"times": 1}).in_words()

    @model_validator(mode="before")
    @classmethod
    def _one_bound_is_enough(cls, given: Any) -> Any:
        return {"at_least": None, "at_most": None, **given} if isinstance(given, dict) else given

    @field_validator("at_most")
    @classmethod
    def _one_bound(cls, at_most: float | None, info: ValidationInfo) -> float | None:
        if "at_least" in info.data and (at_most is None) == (info.data["at_least"] is None):
            raise ValueError("and train.stop_when.at_least: one has to be a number and the other null")
        return at_most


class TrainConfig(Section):
    steps: int = Field(ge=1, description="optimizer steps")
    batch_size: int = Field(ge=1, description="sequences in one micro-step, over all processes")
    micro_batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] | None = Field(
        description="most sequences on one device at once; auto: what its memory holds; null: no cap"
    )
    grad_clip: float | None = Field(gt=0, description="largest norm of the gradient; null: no clipping")
    eval_every: int | None = Field(ge=1, description="steps between evaluations; null: only at the end")
    log_every: int = Field(ge=1, description="steps between lines of metrics.jsonl")
    snapshot_every: int | None = Field(ge=1, description="steps between snapshots; null: only at the end")
    snapshot_minutes: float | None = Field(gt=0, description="minutes between snapshots, at most; null: no limit")
    keep_snapshots: int | None = Field(ge=1, description="newest snapshots that are kept; null: all")
    early_stopping: int | None = Field(ge=1, description="evaluations without a better train.best; null: off")
    stop_when: StopWhen | None
    best: str = Field(min_length=1, description="the score of the evaluations that best/ goes by")
    eval_train: int | None = Field(ge=1, description="samples trained on that evaluations look at too; null: none")
    freeze: list[str] = Field(description="parameters that stay as they are: names, parts of names, or patterns")
    nonfinite: Literal["stop", "skip"] = Field(description="what to do with a step whose gradient is not finite")
    nonfinite_limit: int = Field(ge=1, description="steps in a row that nonfinite=skip may skip")
    shard: Literal["none", "full", "auto"] = Field(
        description="weights, gradients and optimizer: whole on each process, or divided among them; auto: whole if "
        "that fits"
    )
    shard_group: int | None = Field(
        ge=1, description="processes that divide them, as 8 within a node, the groups repeating each other; null: all"
    )
    activation_checkpointing: bool = Field(description="recompute activations instead of storing them")
    test_at_end: bool = Field(description="score the best weights on the test split when training ends")

    @property
    def at_once(self) -> int | None:
        """Return the most sequences at once, when that is settled."""
        assert self.micro_batch_size != "auto", "which `settle` has replaced"
        return self.micro_batch_size

    @field_validator("stop_when")
    @classmethod
    def _is_looked_at(cls, stop_when: StopWhen | None, info: ValidationInfo) -> StopWhen | None:
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


def _any_of(settings: dict[str, type[Section]]) -> Any:
    """Return the union of what lies in a room and in installed packages; `name` says which of them it is."""
    return Annotated[Union[tuple(dict.fromkeys(settings.values()))], Field(discriminator="name")]  # noqa: UP007


if TYPE_CHECKING:  # what all that can be chosen have in common

    class DatasetConfig(Section):
        name: str

    ModelConfig = ModelSettings
    OptimizerConfig = OptimizerSettings
else:
    DatasetConfig, ModelConfig, OptimizerConfig = map(_any_of, (TASK_SETTINGS, MODEL_SETTINGS, OPTIMIZER_SETTINGS))


class Config(Section):
    """One experiment, as conf/train.yaml composes it, and as config.json holds it."""

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
    model: ModelConfig
    optimizer: OptimizerConfig
    train: TrainConfig
    schedule: ScheduleConfig
    logger: LoggerConfig

    @field_validator("model")
    @classmethod
    def _context_holds_a_sample(cls, model: ModelSettings, info: ValidationInfo) -> ModelSettings:
        needed = getattr(info.data.get("dataset"), "sequence_length", None)
        if model.block_size and needed and model.block_size < needed:
            raise ValueError(
                f"block_size={model.block_size} is shorter than one sample of {needed} tokens: "
                f"set model.block_size={needed} or null"
            )
        return model


class Imported(Section):
    """The config.json beside weights that were not trained here, but imported."""

    source: str = Field(min_length=1, description="where the weights come from")
    dataset: None = Field(description="no data set")
    model: ModelConfig


def parse(data: dict[str, Any]) -> Config:
    """Check the configuration of an experiment; a ConfigError names every mistake."""
    return schema.parse(data, Config)


C = TypeVar("C", bound=Config)


def resolve(config: C, task: Task) -> C:
    """Fill in every null that stands for a value derived from others, so that config.json is complete."""
    told = {"task.sequence_length": task.sequence_length, "task.tokenizer.vocab_size": task.tokenizer.vocab_size}
    told["task.position_rows"] = task.position_rows
    config = schema.filled(config.model_copy(update={"dataset": task.settings}), told)
    if task.position_rows:
        _refuse_other_positions(config, task.position_rows)
    needed = task.tokenizer.vocab_size
    if config.model.vocab_size < needed:
        wrong = f"`model.vocab_size` must be at least {needed}, the size of the tokenizer, or null, not "
        raise ConfigError([f"{wrong}{config.model.vocab_size}"])
    return config


def _refuse_other_positions(config: Config, needed: int) -> None:
    """Refuse a model that can't be told positions, or has fewer than a task names."""
    scheme, asked = getattr(config.model, "positions", None), getattr(config.dataset, "positions", "those of its task")
    if scheme not in ("learned", "rotary"):
        how = f"model.positions={scheme}" if scheme else f"model={config.model.name}"
        wrong = f"`dataset.positions` is {asked}, of which {how} reads nothing"
        raise ConfigError([f"{wrong}: choose model=gpt or model.positions=rotary"])
    if (rows := getattr(config.model, "position_rows", None)) is not None and rows < needed:
        raise ConfigError([f"`model.position_rows` must be at least {needed}, the positions of the task, not {rows}"])
