"""One command of `cleangpt serve`: opens the model, then an address for it, until it is interrupted."""

import os
import secrets
import signal
import socket
import sys
from typing import Any

from cleangpt.basics import extras
from cleangpt.basics.errors import UserError
from cleangpt.config import composition
from cleangpt.config.programs import ServeConfig
from cleangpt.disk.rundir import Opened, find
from cleangpt.serving.guard import LOOPBACK
from cleangpt.terminal import patience

FIRST_PORT, PORTS = 6160, 20


def serve(settings: ServeConfig) -> int:
    try:
        import uvicorn

        from cleangpt.serving import app
        from cleangpt.serving.engine import Engine
    except ImportError:
        raise UserError(f"serving needs starlette and uvicorn: `{extras.command('ui')}`") from None
    if not hasattr(os, "setsid"):  # where an event loop can't listen to the model's process either
        raise UserError("serving needs Linux or macOS (on Windows, WSL)")
    opened = find(settings.run)
    bound = _bound(settings.host, settings.port)
    token = settings.token or (None if settings.host in LOOPBACK else secrets.token_urlsafe(24))
    choosing = {**composition.defaults("sample"), "run": str(opened.folder)}
    engine = Engine(opened.folder, {**choosing, "device": settings.device, "dtype": settings.dtype}, settings.waiting)
    try:
        with patience.doing("Reading the model"):
            engine.wait()
        name = _name(opened)
        hosts = (*LOOPBACK, settings.host, *settings.hosts)
        config = uvicorn.Config(
            app.build(engine, name, hosts, token),
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        _say(settings.host, bound, name, engine.about, token)
        return _run(uvicorn.Server(config), bound)
    finally:
        engine.close()
        bound.close()


def _run(server: Any, bound: socket.socket) -> int:
    """Serve until a signal comes, which is how it is meant to end."""
    import asyncio

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, server.handle_exit)
    asyncio.run(server._serve([bound]))
    return 0


def _bound(host: str, port: int | None) -> socket.socket:
    """Take the port that was asked for, or the first that is free from 6160 on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    why: OSError | None = None
    for number in [port] if port is not None else range(FIRST_PORT, FIRST_PORT + PORTS):
        found = socket.socket(family)
        try:
            if sys.platform != "win32":
                found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind((host, number))
            found.listen(128)
            return found
        except OSError as error:
            found.close()
            why = error
    assert why is not None
    raise UserError(f"host={host} port={port or 'null'}: no address there ({why.strerror}): choose another port")


def _name(opened: Opened) -> str:
    """Name the model for clients, who never see a path: the run, and which of its weights."""
    return f"{opened.run.path.name}/{opened.label}" if opened.run else opened.folder.name


def _say(host: str, bound: socket.socket, name: str, about: dict[str, Any], token: str | None) -> None:
    place = f"[{host}]" if ":" in host else host
    address = f"http://{place}:{bound.getsockname()[1]}/v1"
    print(f"{about['name']}\n{address} has the model {name}", flush=True)
    if token is not None:
        print(f"Authorization: Bearer {token}", flush=True)
    if host not in LOOPBACK:
        print("Whoever can reach this address and has the token can use the model. Nothing is encrypted.", flush=True)
    print("Ctrl-C ends it.", flush=True)
