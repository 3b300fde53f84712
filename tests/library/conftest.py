"""A run that the tests of this room look at: trained from Python, by words and values."""

import os
import subprocess

import pytest
from started import server
from started.from_python import SHORT, SMALL
from started.programs import environment

import cleangpt
from cleangpt.library import starting


@pytest.fixture(autouse=True)
def forked(monkeypatch):
    """What is started here is forked from a server, which takes a fraction of the time; `trained` is not."""
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    for name in set(os.environ) - set(environment()):
        monkeypatch.delenv(name)
    server.Forked.server = server.begun()
    monkeypatch.setattr(
        starting, "subprocess", type("Starts", (), {"DEVNULL": subprocess.DEVNULL, "Popen": server.Forked})
    )


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A run, and the rows that its callback got."""
    rows: list[dict] = []
    path = tmp_path_factory.mktemp("library") / "a run, with = and 'quotes'"
    run = cleangpt.train(*SMALL, SHORT, path=path, callback=rows.append, progress=False)
    return run, rows
