"""The routes of the page, over a folder that a test fills."""

from types import SimpleNamespace

import pytest
from starlette.testclient import TestClient

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
