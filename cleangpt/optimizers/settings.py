"""The keys that optimizers share, and those of conf/schedule/: their types, bounds and meaning."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from cleangpt.basics.schema import Derived, Open, Section
from cleangpt.optimizers.styles import STYLES


class OptimizerSettings(Section):
    """The keys of every optimizer. An optimizer's own file says its `name`, and what else it has."""

    name: str = Field(description="the optimizer")  # in an optimizer's own file a Literal, by which it is chosen
    lr: float = Field(gt=0, description="peak learning rate")
    weight_decay: float = Field(ge=0, description="weight decay, on matrices only")
    layer_decay: float = Field(gt=0, le=1, description="the learning rate of a layer over that of the layer above it")


class AdamSettings(OptimizerSettings):
    """The keys of AdamW, alone or for what another optimizer leaves to it."""

    beta1: float = Field(ge=0, lt=1, description="decay of the first moment")
    beta2: float = Field(ge=0, lt=1, description="decay of the second moment")
    eps: float = Field(gt=0, description="added to the root of the second moment")


class Ramp(Section):
    """The way of one quantity over a run, from `begin` to `end`, both reached exactly."""

    style: Literal[tuple(STYLES)] = Field(  # type: ignore[valid-type]
        description="shape of the way to `end`; wsd stays at `begin` until the last `decay`"
    )
    warmup: float = Field(ge=0, le=1, description="fraction of the steps that rise from 0 to `begin`")
    decay: float | None = Field(ge=0, le=1, description="fraction of the steps from `begin` to `end`; null: the rest")
    power: float = Field(gt=0, description="exponent of style=power")

    @field_validator("decay")
    @classmethod
    def _within_the_run(cls, decay: float | None, info: ValidationInfo) -> float | None:
        style = info.data.get("style")
        if style and STYLES[style].at_the_end and decay is None:
            raise ValueError(f"must be given with style={style}: the fraction of the run that decays, 0.2 say")
        warmup = info.data.get("warmup", 0)
        if decay is not None and warmup + decay > 1 + 1e-9:
            both = f"the two are fractions of the run and may add up to 1, not {warmup + decay:g}"
            raise ValueError(f"must leave room for warmup={warmup:g}: {both}")
        return decay


class LrRamp(Ramp):
    begin: Annotated[Open[float], Derived(("optimizer.lr",))] = Field(
        ge=0, description="value after warm-up; null: optimizer.lr"
    )
    end: Annotated[Open[float], Derived(("begin",))] = Field(ge=0, description="value of the last step; null: begin")


class DecayRamp(Ramp):
    begin: Annotated[Open[float], Derived(("optimizer.weight_decay",))] = Field(
        ge=0, description="value at first; null: optimizer.weight_decay"
    )
    end: Annotated[Open[float], Derived(("begin",))] = Field(ge=0, description="value of the last step; null: begin")


class AccumRamp(Ramp):
    begin: int = Field(ge=1, le=100_000, description="micro-steps in one optimizer step at first")
    end: Annotated[Open[int], Derived(("begin",))] = Field(
        ge=1, le=100_000, description="micro-steps in the last optimizer step; null: begin"
    )


class ScheduleConfig(Section):
    steps: Annotated[Open[int], Derived(("train.steps",))] = Field(
        ge=1, description="steps that the schedules below are stretched over; null: train.steps"
    )
    lr: LrRamp
    weight_decay: DecayRamp
    grad_accum: AccumRamp
