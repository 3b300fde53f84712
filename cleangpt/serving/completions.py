"""Requests to write, and what was written, in the form of OpenAI's completions."""

import secrets
import time
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cleangpt.basics.words import counted

MOST_TEXTS = 64  # prompts × n
MOST_TOKENS = 1 << 14  # that one request may ask for, over all its texts
# What changes nothing where it has this value; any other is refused by name.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "best_of": (None, 1),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "logit_bias": (None, {}),
    "suffix": (None, ""),
    "stream_options": (None, {}, {"include_usage": False}),
}


class Refused(Exception):
    """A request that is not understood, or too much: a sentence, and the parameter that it is about."""

    def __init__(self, message: str, param: str | None = None, status: int = 400):
        super().__init__(message)
        self.param, self.status = param, status

    def body(self) -> dict[str, Any]:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": None}}


class Request(BaseModel):
    """A request to go on with prompts."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    prompt: str | list[str] | list[int] | list[list[int]] = ""
    max_tokens: int = Field(16, ge=0, le=MOST_TOKENS)
    temperature: float = Field(1.0, ge=0, le=100)
    top_p: float = Field(1.0, gt=0, le=1)
    n: int = Field(1, ge=1, le=MOST_TEXTS)
    seed: int | None = Field(None, ge=0, lt=2**63)
    stop: str | list[str] | None = None
    stream: bool = False
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool = False
    user: str | None = None  # of no meaning here

    @field_validator("temperature", "top_p", mode="before")
    @classmethod
    def _whole_numbers_too(cls, value: Any) -> Any:
        return float(value) if type(value) is int else value

    @property
    def prompts(self) -> list[str | list[int]]:
        if isinstance(self.prompt, str):
            return [self.prompt]
        if self.prompt and all(isinstance(token, int) for token in self.prompt):
            return [list(self.prompt)]  # type: ignore[arg-type]
        return list(self.prompt)  # type: ignore[arg-type]

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


def parse(data: Any) -> Request:
    """Read a request, or say what of it is not understood, by name."""
    if not isinstance(data, dict):
        raise Refused("the body must be a JSON object")
    data = dict(data)
    for name, values in NEUTRAL.items():
        if name in data and data.pop(name) not in values:
            raise Refused(f"`{name}` is not supported", name)
    for name in [name for name, value in data.items() if value is None and name in Request.model_fields]:
        del data[name]  # a client that has no opinion
    try:
        request = Request.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        param = str(first["loc"][0]) if first["loc"] else None
        if first["type"] == "extra_forbidden":
            raise Refused(f"`{param}` is not supported", param) from None
        raise Refused(f"`{param}`: {first['msg']}", param) from None
    if not request.prompts:
        raise Refused("`prompt` is empty", "prompt")
    texts = len(request.prompts) * request.n
    if texts > MOST_TEXTS or texts * request.max_tokens > MOST_TOKENS:
        raise Refused(f"at most {counted(MOST_TEXTS, 'text')}, and {MOST_TOKENS:,} tokens in all, at a time", "n")
    if request.stream and request.echo:
        raise Refused("`echo` is not supported together with `stream`", "echo")
    if len(request.stops) > 16 or not all(request.stops):
        raise Refused("`stop` is at most 16 texts, none of them empty", "stop")
    if request.seed is None:
        request.seed = secrets.randbits(63)
    return request


class Answer:
    """What is sent back for one request."""

    def __init__(self, request: Request):
        self.request = request
        self.about = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": request.model,
        }

    def whole(self, texts: list[dict[str, Any]], prompt_tokens: int) -> dict[str, Any]:
        written = sum(text["written"] for text in texts)
        usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": written,
            "total_tokens": prompt_tokens + written,
        }
        choices = [_choice(index, text["text"], text["logprobs"], text["ended"]) for index, text in enumerate(texts)]
        return {**self.about, "choices": choices, "usage": usage}

    def piece(self, index: int, text: str, logprobs: Any, ended: str | None) -> dict[str, Any]:
        return {**self.about, "choices": [_choice(index, text, logprobs, ended)]}


def _choice(index: int, text: str, logprobs: Any, ended: str | None) -> dict[str, Any]:
    reason: Literal["stop", "length"] | None = None if ended is None else "length" if ended == "length" else "stop"
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
