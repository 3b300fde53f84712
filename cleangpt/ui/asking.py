"""What a page may ask, and the bounds of what it says."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from cleangpt.serving.completions import MOST_TOKENS, Refused
from cleangpt.ui.live import MOST_NOTE, MOST_TAG, MOST_TAGS

MOST_RUNS = 64  # of which curves are sent at a time
MOST_COMPARED = 500
Id = str


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Curve(_Asked):
    """Columns of metrics to draw."""

    ids: list[Id] = Field(max_length=MOST_RUNS)
    key: str = Field(max_length=200)
    x: Literal["step", "tokens", "seconds", "flops"] = "step"
    points: int = Field(1000, ge=4, le=1000)
    begin: float | None = None
    end: float | None = None
    bands: bool = False
    smooth: float = Field(0.0, ge=0, lt=1)

    @field_validator("ids", mode="before")
    @classmethod
    def _in_one_word(cls, value: Any) -> Any:
        return [word for word in value.split(",") if word] if isinstance(value, str) else value


class Compared(_Asked):
    """Runs to compare."""

    ids: list[Id] = Field(max_length=MOST_COMPARED)
    metric: str | None = Field(None, min_length=1, max_length=200)

    _in_one_word = field_validator("ids", mode="before")(lambda value: [word for word in value.split(",") if word])


class _Strict(_Asked):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Written(_Strict):
    """What a person writes about a run; what is left out stays as it is."""

    note: str | None = Field(None, max_length=MOST_NOTE)
    tags: list[Annotated[str, Field(max_length=MOST_TAG)]] | None = Field(None, max_length=MOST_TAGS)
    hidden: bool | None = None


class Rules(_Strict):
    """How tokens are chosen, as sample.py's keys of these names."""

    temperature: float | Literal["auto"] = "auto"
    top_k: int | None = Field(None, ge=1)
    top_p: float | None = Field(None, gt=0, le=1)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float = Field(1.0, ge=0.01, le=100)
    max_new_tokens: int = Field(200, ge=1, le=MOST_TOKENS)
    seed: int = Field(0, ge=0, lt=2**63)

    @field_validator("temperature")
    @classmethod
    def _not_negative(cls, value: Any) -> Any:
        if value != "auto" and value < 0:
            raise ValueError("must not be negative")
        return value

    @field_validator("temperature", "top_p", "min_p", "repetition_penalty", mode="before")
    @classmethod
    def _whole_numbers_too(cls, value: Any) -> Any:
        return float(value) if type(value) is int else value


class Speak(_Strict):
    """A prompt for a model."""

    run: Id
    weights: str = Field(max_length=100)
    prompt: str = Field("", max_length=1 << 18)
    rules: Rules = Rules()


class Quiz(_Strict):
    """Held-out problems for a model, and how it did so far."""

    run: Id
    weights: str = Field(max_length=100)
    start: int = Field(0, ge=0)
    count: int = Field(10, ge=1, le=100)
    right: int = Field(0, ge=0)

    @field_validator("right")
    @classmethod
    def _of_those_before(cls, right: int, info: ValidationInfo) -> int:
        if right > info.data.get("start", 0):
            raise ValueError("must not be more than were asked")
        return right


T = TypeVar("T", bound=BaseModel)


def checked(kind: type[T], data: Any) -> T:
    """Read a request, or refuse it in a sentence."""
    try:
        return kind.model_validate(dict(data) if isinstance(data, Mapping) else data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the request"
        raise Refused(f"`{where}`: {first['msg']}", where) from None
