"""Who may ask a server of ours, decided before any route: a page of somebody else's must not use a reader's browser.

Names of hosts are listed, so that no foreign name leads here (DNS rebinding); what changes something, or costs time, is
a POST of JSON from the same origin, or from a program, which sends none; and beyond this machine a token is asked for.
"""

import hmac
import ipaddress
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
MOST_BYTES = 1 << 20  # of a request
HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """A layer around an application, which sees only what may be asked."""

    def __init__(self, app: Any, hosts: tuple[str, ...], token: str | None):
        self.app, self.hosts, self.token = app, hosts, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no websockets
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)

        async def answer(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *added]}
            await send(message)

        if refusal is not None:
            await _refuse(answer, *refusal)
            return
        await self.app(scope, _bounded(receive), answer)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        host = _name(f"//{headers.get('host', '')}")
        if host is None or not (host in self.hosts or _is_address(host)):
            return 400, "this name of a host is not one of this server's"
        if self.token is not None and not self._knows_token(headers):
            return 401, "a token is needed: Authorization: Bearer <token>"
        if scope["method"] not in ("GET", "HEAD"):
            origin = headers.get("origin")
            if origin is not None and (_name(origin), _port(origin)) != (host, _port(f"//{headers['host']}")):
                return 403, "pages of another origin may not ask this server"
            if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
                return 403, "pages of another origin may not ask this server"
            if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                return 415, "Content-Type must be application/json"
            size = headers.get("content-length", "0")
            if not size.isdecimal() or int(size) > MOST_BYTES:
                return 413, f"a request has at most {MOST_BYTES:,} bytes"
        return None

    def _knows_token(self, headers: dict[str, str]) -> bool:
        given = headers.get("authorization", "").removeprefix("Bearer ").strip()
        return hmac.compare_digest(given.encode(), (self.token or "").encode())


def _name(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def _port(address: str) -> int | None:
    try:
        return urlsplit(address).port or {"https": 443, "http": 80}.get(urlsplit(address).scheme, 80)
    except ValueError:
        return None


def _is_address(host: str) -> bool:
    """Tell an address from a name: only a name can be made to lead somewhere else."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _bounded(receive: Receive) -> Receive:
    """Read no more than a request may have, whatever its head says."""
    seen = 0

    async def read() -> dict[str, Any]:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MOST_BYTES:
            return {"type": "http.disconnect"}
        return message

    return read


async def _refuse(send: Send, status: int, why: str) -> None:
    error = {"message": why, "type": "invalid_request_error", "param": None, "code": None}
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
