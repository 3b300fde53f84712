"""The routes of the page: its files, what it reads as JSON, and the few things that it may ask to be done."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from cleangpt.basics.errors import UserError
from cleangpt.basics.version import VERSION
from cleangpt.disk import alive, notes
from cleangpt.disk.rundir import RunDir
from cleangpt.follow.curves import Curves
from cleangpt.follow.index import Entry
from cleangpt.serving import app as serving
from cleangpt.serving.app import ASKED_IN_VAIN, body_of, told
from cleangpt.serving.completions import Refused
from cleangpt.serving.guard import Guard
from cleangpt.ui import comparing, drawing, looking
from cleangpt.ui.asking import Compared, Curve, Quiz, Speak, Written, checked
from cleangpt.ui.live import Live, setting
from cleangpt.ui.models import Models

STATIC = Path(str(resources.files("cleangpt.ui") / "static"))
KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
KEEP = {"cache-control": "private, max-age=86400"}  # of what has a version in its address


def build(live: Live, models: Models, hosts: tuple[str, ...], token: str | None) -> Any:
    """Make the application."""
    page = Page(live, models)
    handlers: Any = {**serving.HANDLERS, 404: _no_route, 405: _no_route}
    routes = [*page.routes(), *serving.routes(models)]
    return Guard(Starlette(routes=routes, exception_handlers=handlers), hosts, token, POLICY, cookies=True)


class Page:
    """What the routes share."""

    def __init__(self, live: Live, models: Models):
        self.live, self.models = live, models
        self.curves, self.reader = Curves(), comparing.Reader()
        self.drawing, self.comparing = asyncio.Lock(), asyncio.Lock()  # one file is read by one at a time

    def routes(self) -> list[Route]:
        one = "/api/runs/{id}"
        return [
            Route("/", _page),
            Route("/static/{version}/{name}", _static),
            Route("/api/runs", self.runs),
            Route("/api/curves", self.draw),
            Route("/api/names", self.names),
            Route("/api/compare", self.compare),
            Route(one, self.of_one(looking.run)),
            Route(f"{one}/log", self.growing(looking.log)),
            Route(f"{one}/samples", self.growing(looking.samples)),
            Route(f"{one}/score/{{number}}", self.score),
            Route(f"{one}/picture/{{number}}", self.picture),
            Route(f"{one}/note", self.note, methods=["POST"]),
            Route(f"{one}/stop", self.stop, methods=["POST"]),
            Route("/api/speak", self.speak, methods=["POST"]),
            Route("/api/quiz", self.quiz, methods=["POST"]),
        ]

    # ---- read

    def entry(self, number: str) -> Entry:
        entry = self.live.entry(number)
        if entry is None:
            raise Refused("this run is not there any more", "id", 404)
        return entry

    async def entries(self, numbers: list[str]) -> list[Entry]:
        """Find the runs that are still there."""
        if not self.live.version:
            await asyncio.to_thread(self.live.refresh)
        return [entry for number in numbers if (entry := self.live.entry(number)) is not None]

    async def runs(self, request: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(self.live.since, request.query_params.get("since", "")))

    async def draw(self, request: Request) -> Response:
        asked = checked(Curve, request.query_params)
        entries = await self.entries(asked.ids)
        async with self.drawing:
            if not asked.bands:
                return JSONResponse(await asyncio.to_thread(drawing.lines, self.curves, entries, asked))
            groups: dict[str, list[Entry]] = {}
            for entry in entries:
                groups.setdefault(setting(entry), []).append(entry)
            return JSONResponse(await asyncio.to_thread(drawing.bands, self.curves, list(groups.values()), asked))

    async def names(self, request: Request) -> Response:
        asked = checked(Curve, {**request.query_params, "key": ""})
        entries = await self.entries(asked.ids)
        async with self.drawing:
            return JSONResponse(await asyncio.to_thread(drawing.names, self.curves, entries))

    async def compare(self, request: Request) -> Response:
        asked = checked(Compared, request.query_params)
        entries = await self.entries(asked.ids)
        if not entries:
            raise Refused("none of these runs is there", "ids", 404)
        try:
            async with self.comparing:
                found = await asyncio.to_thread(comparing.compared, self.reader, entries, asked.metric)
        except UserError as error:
            raise Refused(str(error), "metric") from None
        return JSONResponse(_finite(found))

    def of_one(self, look: Callable[[Entry], Any]) -> Any:
        async def answer(request: Request) -> Response:
            await self.entries([])
            entry = self.entry(request.path_params["id"])
            return JSONResponse(_finite(await asyncio.to_thread(look, entry)))

        return answer

    def growing(self, look: Callable[[Entry, int | None], Any]) -> Any:
        async def answer(request: Request) -> Response:
            word = request.query_params.get("from", "")
            begin = int(word) if word.isdecimal() and len(word) < 16 else None
            entry = self.entry(request.path_params["id"])
            return JSONResponse(_finite(await asyncio.to_thread(look, entry, begin)))

        return answer

    async def score(self, request: Request) -> Response:
        entry = self.entry(request.path_params["id"])
        found = await asyncio.to_thread(looking.score, entry, _number(request.path_params["number"]))
        if found is None:
            raise Refused("there is no such score", None, 404)
        return JSONResponse(_finite(found))

    async def picture(self, request: Request) -> Response:
        path = looking.picture(self.entry(request.path_params["id"]), _number(request.path_params["number"]))
        if path is None:
            raise Refused("there is no such picture", None, 404)
        return FileResponse(path, media_type="image/png")

    # ---- do

    async def note(self, request: Request) -> Response:
        entry = self.entry(request.path_params["id"])
        asked = checked(Written, await body_of(request)).model_dump(exclude_none=True)
        try:
            await asyncio.to_thread(notes.write, RunDir(entry.path), asked)
        except UserError as error:
            raise Refused(str(error), None, 409) from None
        except OSError as error:
            raise Refused(f"the note can't be written: {error.strerror}", None, 500) from None
        await asyncio.to_thread(self.live.refresh, True)
        return JSONResponse(self.live.rows.get(entry.path))

    async def stop(self, request: Request) -> Response:
        entry = self.entry(request.path_params["id"])
        if await body_of(request) != {}:
            raise Refused("a request to stop says nothing more: {}")
        if entry.status != "running":
            raise Refused("this run is not trained just now", None, 409)
        try:
            await asyncio.to_thread(alive.ask_to_stop, RunDir(entry.path))
        except OSError as error:
            raise Refused(f"the run can't be asked to stop: {error.strerror}", None, 500) from None
        return JSONResponse({})

    async def speak(self, request: Request) -> Response:
        asked = checked(Speak, await body_of(request))
        path = self.entry(asked.run).path
        said = self._asking(path, asked.weights, "speak", asked.prompt, asked.rules.model_dump())
        return _stream(said)

    async def quiz(self, request: Request) -> Response:
        asked = checked(Quiz, await body_of(request))
        path = self.entry(asked.run).path
        said = self._asking(path, asked.weights, "quiz", asked.start, asked.count, asked.right)
        return _stream(said)

    async def _asking(
        self, path: Path, label: str, what: str, *asked: Any
    ) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        yield "opening", {}
        async with (
            self.models.opened(path, label) as engine,
            contextlib.aclosing(engine.ask(what, *asked)) as said,
        ):
            yield "model", {name: engine.about[name] for name in ("state", "context", "answers")}
            async for one in said:
                yield one


def _stream(said: AsyncGenerator[tuple[str, Any], None]) -> Response:
    async def lines() -> AsyncIterator[str]:
        async with contextlib.aclosing(said):
            try:
                async for kind, what in said:
                    yield json.dumps({"kind": kind, **_finite(what)}) + "\n"
            except ASKED_IN_VAIN as error:
                yield json.dumps({"kind": "error", "why": str(told(error))}) + "\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


def _number(word: str) -> int:
    if not (word.isdecimal() and len(word) < 16):
        raise Refused("there is no such number", None, 404)
    return int(word)


def _finite(data: Any) -> Any:
    """Replace what JSON has no number for."""
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not abs(data) < float("inf") else data


# ---- files of the page


async def _page(_: Request) -> Response:
    return Response(_html(), media_type="text/html")


@cache
def _html() -> str:
    """Fill in the addresses of the files, and what the plotting library wants to find, so that it adds no styles."""
    path = plotly_path()
    script = path.read_text(encoding="utf-8")
    marks = sorted(set(re.findall(r'getElementById\("([0-9a-f]{64})"\)', script)))
    named = "".join(f'<meta id="{mark}">' for mark in marks)
    text = (STATIC / "page.html").read_text(encoding="utf-8")
    return text.replace("{{version}}", VERSION).replace("{{marks}}", named).replace("{{plotly}}", plotly_version())


def plotly_path() -> Path:
    import plotly

    return Path(plotly.__file__).parent / "package_data" / "plotly.min.js"


def plotly_version() -> str:
    from importlib.metadata import version

    return version("plotly")


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name == "plotly.js":
        return FileResponse(plotly_path(), media_type="text/javascript", headers=KEEP)
    path = STATIC / name
    if path.parent != STATIC or path.suffix not in KINDS or not path.is_file():
        raise Refused("there is no such file", None, 404)
    return FileResponse(path, media_type=KINDS[path.suffix])


async def _no_route(request: Request, error: Exception) -> Response:
    refusal = Refused(f"there is no {request.method} {request.url.path} here", None, 404)
    return JSONResponse(refusal.body(), getattr(error, "status_code", 404))
