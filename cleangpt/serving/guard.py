"""Who may ask a server of ours, decided before any route: a page of somebody else's must not use a reader's browser.

Names of hosts are listed, so that no foreign name leads here (DNS rebinding); what changes something, or costs time, is
a POST of JSON from the same origin, or from a program, which sends none; and beyond this machine a token is asked for.
"""

import hmac
import ipaddress
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
MOST_BYTES = 1 << 20  # of a request
POLICY = "default-src 'none'; frame-ancestors 'none'"
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
COOKIE_LASTS = 30 * 24 * 3600
# Opened from a page of somebody else's, the next request would not have the cookie if it came by a redirection.
WELCOME = b'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=/"><title>CleanGPT</title>'


class Guard:
    """A layer around an application, which sees only what may be asked.

    Programs show a token in a header. With `cookies` a browser shows it once, as `/?token=…`, and is then known.
    """

    def __init__(
        self, app: Any, hosts: tuple[str, ...], token: str | None, policy: str = POLICY, cookies: bool = False
    ):
        self.app, self.hosts, self.token, self.cookies = app, hosts, token, cookies
        self.headers = {**HEADERS, "content-security-policy": policy}

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
                own = list(message.get("headers", []))
                added = [(name.encode(), value.encode()) for name, value in self.headers.items()]
                if not any(name.lower() == b"cache-control" for name, _ in own):
                    added.append((b"cache-control", b"no-store"))
                message = {**message, "headers": [*own, *added]}
            await send(message)

        if refusal is not None:
            await _refuse(answer, *refusal)
            return
        if self._shows_token(scope):
            await _welcome(answer, f"{_cookie(headers)}={self.token}")
            return
        await self.app(scope, _bounded(receive), answer)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        host = _name(f"//{headers.get('host', '')}")
        if host is None or not (host in self.hosts or _is_address(host)):
            return 400, "this name of a host is not one of this server's"
        if self.token is not None and not (self._knows_token(headers) or self._shows_token(scope)):
            where = "open the address that the server printed, or send " if self.cookies else ""
            return 401, f"a token is needed: {where}Authorization: Bearer <token>"
        is_ours = headers.get("sec-fetch-site", "none") in ("same-origin", "none")
        if not is_ours and (scope["method"], headers.get("sec-fetch-mode")) != ("GET", "navigate"):
            return 403, "pages of another origin may not ask this server"
        if scope["method"] not in ("GET", "HEAD"):
            origin = headers.get("origin")
            if origin is not None and (_name(origin), _port(origin)) != (host, _port(f"//{headers['host']}")):
                return 403, "pages of another origin may not ask this server"
            if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                return 415, "Content-Type must be application/json"
            size = headers.get("content-length", "0")
            if not size.isdecimal() or int(size) > MOST_BYTES:
                return 413, f"a request has at most {MOST_BYTES:,} bytes"
        return None

    def _knows_token(self, headers: dict[str, str]) -> bool:
        shown = [headers.get("authorization", "").partition("Bearer ")]
        cookies = headers.get("cookie", "").split(";") if self.cookies else []
        shown += [word.strip().partition(f"{_cookie(headers)}=") for word in cookies]
        return any(not before and named and self._is_token(given.strip()) for before, named, given in shown)

    def _shows_token(self, scope: Scope) -> bool:
        """Tell whether a browser comes with the token for the first time."""
        if self.token is None or not self.cookies or scope["method"] != "GET" or scope["path"] != "/":
            return False
        shown = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [])
        return any(map(self._is_token, shown))

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self.token or "").encode())


def _cookie(headers: dict[str, str]) -> str:
    """Name the cookie: a browser keeps those of all ports of a host together."""
    return f"cleangpt-{_port('//' + headers.get('host', ''))}"


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


async def _welcome(send: Send, cookie: str) -> None:
    attributes = f"; Max-Age={COOKIE_LASTS}; Path=/; HttpOnly; SameSite=Strict"
    headers = [(b"content-type", b"text/html"), (b"content-length", str(len(WELCOME)).encode())]
    headers.append((b"set-cookie", (cookie + attributes).encode()))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": WELCOME})


async def _refuse(send: Send, status: int, why: str) -> None:
    error = {"message": why, "type": "invalid_request_error", "param": None, "code": None}
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
