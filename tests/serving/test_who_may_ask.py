"""Who may ask a server: hosts, origins, content types, tokens and sizes."""

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from cleangpt.serving.guard import LOOPBACK, MOST_BYTES, Guard

JSON = {"content-type": "application/json"}
TOKEN = "a token of some length"


async def echo(request: Request):
    return JSONResponse({"bytes": len(await request.body())})


def client(token=None, base="http://127.0.0.1:6160"):
    app = Guard(Starlette(routes=[Route("/", echo, methods=["GET", "POST"])]), LOOPBACK, token)
    return TestClient(app, base_url=base)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:6160", "[::1]:99", "LOCALHOST", "192.168.1.5"])
def test_this_machine_has_names(host):
    assert client().get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "", "[::1", "a b"]
)
def test_a_foreign_name_of_a_host_is_refused(host):
    assert client().get("/", headers={"host": host}).status_code == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://127.0.0.1:6160"}, 200),
        ({"origin": "http://127.0.0.1:6161"}, 403),
        ({"origin": "http://localhost:6160"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://[::1"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "application/json; charset=utf-8"}, 200),
    ],
)
def test_what_changes_something_is_json_from_the_same_origin(headers, status):
    assert client().post("/", content=b"{}", headers={**JSON, **headers}).status_code == status


def test_answers_say_what_a_browser_may_do_with_them():
    for answer in (client().get("/"), client().get("/", headers={"host": "evil.example"})):
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers


def test_a_token_is_known_by_the_head():
    knows = client(TOKEN)
    assert knows.get("/").status_code == 401
    assert knows.get("/", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert knows.get("/", headers={"authorization": "Bearer another"}).status_code == 401
    assert knows.get("/", params={"token": TOKEN}).status_code == 401, "addresses are written down in many places"


def test_a_request_has_a_size():
    assert client().post("/", content=b"x" * MOST_BYTES, headers=JSON).json() == {"bytes": MOST_BYTES}
    assert client().post("/", content=b"x" * (MOST_BYTES + 1), headers=JSON).status_code == 413
    assert client().post("/", content=b"{}", headers={**JSON, "content-length": "-3"}).status_code == 413


def test_one_that_lies_about_its_size_is_cut_off():
    from starlette.requests import ClientDisconnect

    def parts():
        for _ in range(3):
            yield b"x" * (MOST_BYTES // 2)

    with pytest.raises(ClientDisconnect):  # which a server takes for a client that is gone
        client().post("/", content=parts(), headers=JSON)
