"""The address of a server of ours: where it listens, how it is called, and until when."""

import asyncio
import logging
import platform
import secrets
import signal
import socket
import sys
from typing import Any

import uvicorn

from cleangpt.basics.errors import UserError
from cleangpt.serving.guard import LOOPBACK

ANYWHERE = ("0.0.0.0", "::")
FIRST_PORT, PORTS = 6160, 20


def bound(host: str, port: int | None) -> socket.socket:
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


def token_for(host: str, asked: str | None) -> str | None:
    """Choose what clients have to know: beyond this machine always something."""
    return asked or (None if host in LOOPBACK else secrets.token_urlsafe(24))


def names(host: str, further: list[str]) -> tuple[str, ...]:
    """List the names by which a server may be asked: where it listens for others, this machine's too."""
    own = () if host in LOOPBACK else (platform.node().lower(), socket.getfqdn().lower())
    return (*LOOPBACK, host, *own, *further)


def url(host: str, found: socket.socket) -> str:
    """Write the address as others type it."""
    place = platform.node() if host in ANYWHERE else f"[{host}]" if ":" in host else host
    return f"http://{place}:{found.getsockname()[1]}"


def serve(app: Any, found: socket.socket) -> int:
    """Serve until a signal comes, which is how it is meant to end."""
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", server_header=False, timeout_graceful_shutdown=2
    )
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # which warns of each client that left
    server = uvicorn.Server(config)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, server.handle_exit)
    asyncio.run(server._serve([found]))
    return 0
