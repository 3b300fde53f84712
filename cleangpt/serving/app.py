"""The routes of `cleangpt serve`: which model there is, and completions."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from cleangpt.basics.errors import UserError
from cleangpt.serving.completions import Answer, Refused, Request, parse
from cleangpt.serving.engine import Broken, Engine, Failed, Full
from cleangpt.serving.guard import Guard


def build(engine: Engine, name: str, hosts: tuple[str, ...], token: str | None) -> Any:
    """Make the application around one model."""
    started = int(time.time())
    about = {"id": name, "object": "model", "created": started, "owned_by": "cleangpt"}

    async def models(_: HttpRequest) -> Response:
        return JSONResponse({"object": "list", "data": [about]})

    async def model(request: HttpRequest) -> Response:
        _known(request.path_params["name"], name)
        return JSONResponse(about)

    async def complete(http: HttpRequest) -> Response:
        request = parse(_json(await http.body()))
        _known(request.model, name)
        return await _answer(engine, request, http)

    async def refused(_: HttpRequest, error: Exception) -> Response:
        assert isinstance(error, Refused)
        headers = {"Retry-After": "1"} if error.status == 429 else {}
        return JSONResponse(error.body(), error.status, headers)

    async def gone(_: HttpRequest, error: Exception) -> Response:
        return Response(status_code=499)

    routes = [
        Route("/v1/models", models),
        Route("/v1/models/{name:path}", model),
        Route("/v1/completions", complete, methods=["POST"]),
    ]
    handlers: Any = {Refused: refused, ClientDisconnect: gone, 404: _no_route, 405: _no_route}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), hosts, token)


async def _no_route(request: HttpRequest, error: Exception) -> Response:
    there = "GET /v1/models and POST /v1/completions"
    refusal = Refused(f"there is no {request.method} {request.url.path} here: there are {there}", None, 404)
    return JSONResponse(refusal.body(), getattr(error, "status_code", 404))


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Refused("the body is no JSON") from None


def _known(asked: str, name: str) -> None:
    if asked != name:
        raise Refused(f"there is no model {asked!r} here: there is {name!r}", "model", 404)


async def _answer(engine: Engine, request: Request, http: HttpRequest) -> Response:
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
    said = engine.write(asked)
    try:
        _, (prompt_tokens, as_a_whole) = await anext(said)  # refusals come before anything is sent
    except (UserError, Failed, Full, Broken) as error:
        raise _told(error) from None
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
                await said.aclose()  # type: ignore[attr-defined]
                raise ClientDisconnect
    except (UserError, Failed, Broken) as error:
        raise _told(error) from None
    return JSONResponse(answer.whole([texts[row] for row in sorted(texts)], prompt_tokens))


async def _stream(said: AsyncIterator[tuple[str, Any]], answer: Answer, whole: bool) -> AsyncIterator[str]:
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
    except (UserError, Failed, Broken) as error:
        yield _event(_told(error).body())
    finally:
        await said.aclose()  # type: ignore[attr-defined]


def _told(error: Exception) -> Refused:
    """Say to a client what kept its request from being answered."""
    if isinstance(error, Full):
        return Refused("too many requests wait already: try again in a moment", None, 429)
    if isinstance(error, Broken):
        return Refused("the model's process is gone: start the server again", None, 503)
    return Refused(str(error), None, 500 if isinstance(error, Failed) else 400)


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
