"""The routes of the page over a folder that a test fills, and the page in a real browser."""

import shutil
from types import SimpleNamespace

import pytest
from starlette.testclient import TestClient
from started.browser import CHROMIUM, SOON
from started.paged import Paged

from cleangpt.serving.guard import LOOPBACK
from cleangpt.ui import app, live
from cleangpt.ui.live import Live, id_of
from cleangpt.ui.models import Models


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Ask for JSON by `get` and `post`; a run is named by its folder."""
    monkeypatch.setattr(live, "EVERY", 0.0)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs"
    folder.mkdir()
    watched = Live([folder])
    client = TestClient(app.build(watched, Models(watched, {}, 1), LOOPBACK, None), base_url="http://127.0.0.1:6160")

    def get(path, status=200, **parameters):
        found = client.get(path, params=parameters)
        assert found.status_code == status, found.text
        return found.json()

    def post(path, body, status=200, **headers):
        found = client.post(path, json=body, headers=headers)
        assert found.status_code == status, found.text
        return found.json()

    def number(name):
        return id_of((folder / name).resolve())

    return SimpleNamespace(folder=folder, client=client, get=get, post=post, number=number, live=watched)


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium is here")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        args = ["--no-sandbox", "--disable-dev-shm-usage"]  # it opens our own page, and tests may run as root
        opened = started.chromium.launch(executable_path=CHROMIUM, args=args)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paged") / "runs"
    folder.mkdir()
    server = Paged(folder)
    yield SimpleNamespace(folder=folder, address=server.address)
    assert server.close() == 0


@pytest.fixture
def tab(browser, served):
    """A page for this test's runs, which fails where an error was said, or anybody else was asked."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    page = context.new_page()
    wrong = []
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))

    def only_ours(route):
        if not route.request.url.startswith((served.address, "data:", "blob:")):
            wrong.append(route.request.url)
            route.abort()
        else:
            route.continue_()

    page.route("**/*", only_ours)
    page.set_default_timeout(SOON)
    page.wrong = wrong
    yield page
    context.close()
    for path in served.folder.iterdir():
        shutil.rmtree(path)
    assert not wrong
