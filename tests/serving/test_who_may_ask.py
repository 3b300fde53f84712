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


def client(token=None, base="http://127.0.0.1:6160", **how):
    routes = [Route("/", echo, methods=["GET", "POST"]), Route("/other", echo)]
    return TestClient(Guard(Starlette(routes=routes), LOOPBACK, token, **how), base_url=base)


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


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}, 200),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),  # a link to here
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}, 403),
    ],
)
def test_no_page_of_somebody_else_reads_through_a_browser(headers, status):
    assert client().get("/", headers=headers).status_code == status


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


def test_a_browser_shows_its_token_once_and_has_a_cookie_then():
    knows = client(TOKEN, cookies=True)
    assert knows.get("/").status_code == 401
    for wrong in ("another", TOKEN[:-1], ""):
        assert knows.get("/", params={"token": wrong}).status_code == 401
    assert knows.get("/other", params={"token": TOKEN}).status_code == 401, "at the front door only"
    assert knows.post("/", params={"token": TOKEN}, json={}).status_code == 401
    assert not knows.cookies
    welcome = knows.get("/", params={"token": TOKEN})
    assert welcome.status_code == 200
    assert "bytes" not in welcome.text, "the page itself comes with the next request, without a token in its address"
    said = welcome.headers["set-cookie"]
    assert said.startswith("cleangpt-6160=")
    assert "HttpOnly" in said
    assert "SameSite=Strict" in said
    assert knows.get("/").json() == {"bytes": 0}
    assert knows.get("/other").status_code == 200
    assert client(TOKEN, cookies=True, base="http://127.0.0.1:7777").get("/", cookies=knows.cookies).status_code == 401
    assert client(TOKEN).get("/", headers={"cookie": f"cleangpt-6160={TOKEN}"}).status_code == 401, "programs have none"


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
