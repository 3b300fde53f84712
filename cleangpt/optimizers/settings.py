"""The keys of conf/optimizer/ and conf/schedule/: their types, bounds and meaning."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from cleangpt.basics.schema import Derived, Section


class AdamWConfig(Section):
    name: Literal["adamw"] = Field(description="the optimizer")
    lr: float = Field(gt=0, description="peak learning rate")
    weight_decay: float = Field(ge=0, description="weight decay, on matrices only")
    beta1: float = Field(ge=0, lt=1, description="decay of the first moment")
    beta2: float = Field(ge=0, lt=1, description="decay of the second moment")
    eps: float = Field(gt=0, description="added to the root of the second moment")
    layer_decay: float = Field(gt=0, le=1, description="the learning rate of a layer over that of the layer above it")


class MuonConfig(Section):
    """Muon for the matrices of the blocks, AdamW for everything else."""

    name: Literal["muon"] = Field(description="the optimizer")
    lr: float = Field(gt=0, description="peak learning rate")
    matrix_lr: Annotated[float | None, Derived(("lr",), lambda lr: 2 * lr)] = Field(
        gt=0, description="peak learning rate of the matrices, which moves as schedule.lr does; null: twice lr"
    )
    momentum: float = Field(ge=0, lt=1, description="decay of the mean gradient of a matrix")
    nesterov: bool = Field(description="look ahead: mix the gradient of this step into the mean once more")
    ns_steps: int = Field(ge=1, le=20, description="Newton-Schulz steps that orthogonalise an update")
    weight_decay: float = Field(ge=0, description="weight decay, on matrices only")
    beta1: float = Field(ge=0, lt=1, description="decay of the first moment")
    beta2: float = Field(ge=0, lt=1, description="decay of the second moment")
    eps: float = Field(gt=0, description="added to the root of the second moment")
    layer_decay: float = Field(gt=0, le=1, description="the learning rate of a layer over that of the layer above it")


class Ramp(Section):
    """How one quantity moves over a run: from `begin` to `end`, both reached exactly."""

    style: Literal["constant", "linear", "cosine", "power"] = Field(description="shape of the way to `end`")
    warmup: float = Field(ge=0, le=1, description="fraction of the steps that rise from 0 to `begin`")
    decay: float | None = Field(ge=0, le=1, description="fraction of the steps from `begin` to `end`; null: the rest")
    power: float = Field(gt=0, description="exponent of style=power")

    @field_validator("decay")
    @classmethod
    def _within_the_run(cls, decay: float | None, info) -> float | None:
        warmup = info.data.get("warmup", 0)
        if decay is not None and warmup + decay > 1 + 1e-9:
            raise ValueError(
                f"must leave room for warmup={warmup:g}: the two are fractions of the run and may add up to 1, "
                f"not {warmup + decay:g}"
            )
        return decay


class LrRamp(Ramp):
    style: Literal["constant", "linear", "cosine", "power", "wsd"] = Field(
        description="shape of the way to `end`; wsd stays at `begin` until the last `decay`"
    )
    begin: Annotated[float | None, Derived(("optimizer.lr",))] = Field(
        ge=0, description="value after warm-up; null: optimizer.lr"
    )
    end: Annotated[float | None, Derived(("begin",))] = Field(ge=0, description="value of the last step; null: begin")

    @field_validator("decay")
    @classmethod
    def _wsd_needs_decay(cls, decay: float | None, info) -> float | None:
        if info.data.get("style") == "wsd" and decay is None:
            raise ValueError("must be given with style=wsd: the fraction of the run that decays, 0.2 say")
        return decay


class DecayRamp(Ramp):
    begin: Annotated[float | None, Derived(("optimizer.weight_decay",))] = Field(
        ge=0, description="value at first; null: optimizer.weight_decay"
    )
    end: Annotated[float | None, Derived(("begin",))] = Field(ge=0, description="value of the last step; null: begin")


class AccumRamp(Ramp):
    begin: int = Field(ge=1, le=100_000, description="micro-steps in one optimizer step at first")
    end: Annotated[int | None, Derived(("begin",))] = Field(
        ge=1, le=100_000, description="micro-steps in the last optimizer step; null: begin"
    )


class ScheduleConfig(Section):
    steps: Annotated[int | None, Derived(("train.steps",))] = Field(
        ge=1, description="steps that the schedules below are stretched over; null: train.steps"
    )
    lr: LrRamp
    weight_decay: DecayRamp
    grad_accum: AccumRamp
