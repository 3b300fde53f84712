"""The routes in OpenAI's form: which models there are, and completions."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from cleangpt.basics.errors import UserError
from cleangpt.serving.completions import Answer, Refused, Request, parse
from cleangpt.serving.engine import Broken, Engine, Failed, Full
from cleangpt.serving.guard import Guard

ASKS_EVERY = 1.0  # seconds, whether a client that waits is still there


class Models(Protocol):
    """The models that can be asked."""

    def names(self) -> dict[str, int]:
        """List them, with the time that each is from."""
        ...

    def made(self, name: str) -> int | None:
        """Say of one the time that it is from; None where there is none of this name."""
        ...

    def open(self, name: str) -> AbstractAsyncContextManager[Engine]:
        """Have one ready as long as it is needed."""
        ...


class One:
    """The model that a server was started with."""

    def __init__(self, engine: Engine, name: str):
        self.engine, self.name, self.began = engine, name, int(time.time())

    def names(self) -> dict[str, int]:
        return {self.name: self.began}

    def made(self, name: str) -> int | None:
        return self.names().get(name)

    @contextlib.asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[Engine]:
        yield self.engine


def build(engine: Engine, name: str, hosts: tuple[str, ...], token: str | None) -> Any:
    """Make the application around one model."""
    handlers: Any = {**HANDLERS, 404: _no_route, 405: _no_route}
    return Guard(Starlette(routes=routes(One(engine, name)), exception_handlers=handlers), hosts, token)


def routes(models: Models) -> list[Route]:
    """Make the routes of OpenAI's form."""

    def about(name: str, made: int) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": made, "owned_by": "cleangpt"}

    async def known(name: str) -> int:
        made = await asyncio.to_thread(models.made, name)
        if made is None:
            names = await asyncio.to_thread(models.names)
            there = f"there is {next(iter(names))!r}" if len(names) == 1 else "see /v1/models"
            raise Refused(f"there is no model {name!r} here: {there}", "model", 404)
        return made

    async def listed(_: HttpRequest) -> Response:
        names = await asyncio.to_thread(models.names)
        return JSONResponse({"object": "list", "data": [about(*pair) for pair in names.items()]})

    async def single(request: HttpRequest) -> Response:
        name = request.path_params["name"]
        return JSONResponse(about(name, await known(name)))

    async def complete(http: HttpRequest) -> Response:
        request = parse(await body_of(http))
        await known(request.model)
        return await _answer(models, request, http)

    return [
        Route("/v1/models", listed),
        Route("/v1/models/{name:path}", single),
        Route("/v1/completions", complete, methods=["POST"]),
    ]


async def _refused(_: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, Refused)
    headers = {"Retry-After": "1"} if error.status == 429 else {}
    return JSONResponse(error.body(), error.status, headers)


async def _gone(_: HttpRequest, error: Exception) -> Response:
    return Response(status_code=499)


HANDLERS = {Refused: _refused, ClientDisconnect: _gone}


async def _no_route(request: HttpRequest, error: Exception) -> Response:
    there = "GET /v1/models and POST /v1/completions"
    refusal = Refused(f"there is no {request.method} {request.url.path} here: there are {there}", None, 404)
    return JSONResponse(refusal.body(), getattr(error, "status_code", 404))


async def body_of(http: HttpRequest) -> Any:
    """Read the JSON of a request."""
    try:
        return json.loads(await http.body())
    except (ValueError, RecursionError):
        raise Refused("the body is no JSON") from None


async def _answer(models: Models, request: Request, http: HttpRequest) -> Response:
    asked = {
        "prompts": request.prompts,
        "n": request.n,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
        "stop": request.stops,
        "logprobs": request.logprobs,
        "echo": request.echo,
    }
    said = asking(models, request.model, "complete", asked)
    try:
        _, (prompt_tokens, as_a_whole) = await _while_there(said, http)  # refusals come before anything is sent
    except ASKED_IN_VAIN as error:
        raise told(error) from None
    answer = Answer(request)
    if request.stream:
        whole = as_a_whole or request.logprobs is not None
        return StreamingResponse(_stream(said, answer, whole), media_type="text/event-stream")
    texts: dict[int, dict[str, Any]] = {}
    try:
        async for kind, what in said:
            if kind == "text":
                texts[what[0]] = what[1]
            elif await http.is_disconnected():
                await said.aclose()
                raise ClientDisconnect
    except ASKED_IN_VAIN as error:
        raise told(error) from None
    return JSONResponse(answer.whole([texts[row] for row in sorted(texts)], prompt_tokens))


async def _while_there(said: AsyncGenerator[tuple[str, Any], None], http: HttpRequest) -> tuple[str, Any]:
    """Wait for the first word, and leave the line where the client does."""
    first = asyncio.ensure_future(anext(said))
    while not first.done():
        await asyncio.wait({first}, timeout=ASKS_EVERY)
        if not first.done() and await http.is_disconnected():
            first.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await first
            await said.aclose()
            raise ClientDisconnect
    return first.result()


async def asking(models: Models, name: str, what: str, *asked: Any) -> AsyncGenerator[tuple[str, Any], None]:
    """Yield what a model says to a request. Closing this gives it up."""
    async with models.open(name) as engine, contextlib.aclosing(engine.ask(what, *asked)) as said:
        async for one in said:
            yield one


async def _stream(said: AsyncGenerator[tuple[str, Any], None], answer: Answer, whole: bool) -> AsyncIterator[str]:
    """Send each piece as it comes; or each text as a whole, where it has probabilities, or is read as a whole."""
    try:
        async for kind, what in said:
            if kind == "piece" and not whole:
                row, text, ended = what
                yield _event(answer.piece(row, text, None, ended))
            elif kind == "text" and whole:
                row, text = what
                yield _event(answer.piece(row, text["text"], text["logprobs"], text["ended"]))
        yield "data: [DONE]\n\n"
    except ASKED_IN_VAIN as error:
        yield _event(told(error).body())
    finally:
        await said.aclose()


ASKED_IN_VAIN = (UserError, Failed, Full, Broken)


def told(error: Exception) -> Refused:
    """Say to a client what kept its request from being answered."""
    if isinstance(error, Full):
        return Refused(str(error) or "too many requests wait already: try again in a moment", None, 429)
    if isinstance(error, Broken):
        return Refused("the model's process is gone: ask again, or start the server again", None, 503)
    return Refused(str(error), None, 500 if isinstance(error, Failed) else 400)


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
