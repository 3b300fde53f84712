"""One command of `cleangpt serve`: opens the model, then an address for it, until it is interrupted."""

import os
from typing import Any

from cleangpt.basics import extras
from cleangpt.basics.errors import UserError
from cleangpt.config import composition
from cleangpt.config.programs import ServeConfig
from cleangpt.disk.rundir import Opened, find
from cleangpt.serving.guard import LOOPBACK
from cleangpt.terminal import patience


def serve(settings: ServeConfig) -> int:
    try:
        from cleangpt.serving import address, app
        from cleangpt.serving.engine import Engine
    except ImportError:
        raise UserError(f"serving needs starlette and uvicorn: `{extras.command('ui')}`") from None
    if not hasattr(os, "setsid"):  # where an event loop can't listen to the model's process either
        raise UserError("serving needs Linux or macOS (on Windows, WSL)")
    opened = find(settings.run)
    found = address.bound(settings.host, settings.port)
    token = address.token_for(settings.host, settings.token)
    choosing = {**composition.defaults("sample"), "run": str(opened.folder)}
    engine = Engine(opened.folder, {**choosing, "device": settings.device, "dtype": settings.dtype}, settings.waiting)
    try:
        with patience.doing("Reading the model"):
            engine.wait()
        name = _name(opened)
        hosts = address.names(settings.host, settings.hosts)
        _say(settings.host, address.url(settings.host, found), name, engine.about, token)
        return address.serve(app.build(engine, name, hosts, token), found)
    finally:
        engine.close()
        found.close()


def _name(opened: Opened) -> str:
    """Name the model for clients, who never see a path: the run, and which of its weights."""
    return f"{opened.run.path.name}/{opened.label}" if opened.run else opened.folder.name


def _say(host: str, url: str, name: str, about: dict[str, Any], token: str | None) -> None:
    print(f"{about['name']}\n{url}/v1 has the model {name}", flush=True)
    if token is not None:
        print(f"Authorization: Bearer {token}", flush=True)
    if host not in LOOPBACK:
        print("Whoever can reach this address and has the token can use the model. Nothing is encrypted.", flush=True)
    print("Ctrl-C ends it.", flush=True)
