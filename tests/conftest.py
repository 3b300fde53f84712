"""What makes many tests in one process quick: one thread for each test process, since contending threads are far
slower than few; what only a new process pays for once is not paid for again by each training in this one; and the
longest tests first, so that no process is left with one of them at the end."""

import gc
import os

import pytest
import torch

from cleangpt.machine import process

gc.disable()  # while tests are collected
torch.set_num_threads(1)
os.environ.setdefault("CLEANGPT_PATIENCE", "inf")  # what a slow machine says of its slowness is no matter of most tests
LONGEST = ("test_readme", "test_launch", "test_conf", "test_launch_stopped", "test_setup", "test_bench", "test_harness")


def pytest_collection_modifyitems(items):
    def place(item):
        name = item.module.__name__.rpartition(".")[2]
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=place)


def pytest_collection_finish():
    """Let no collection of garbage look at libraries and tests again, nor a training's end undo that."""
    gc.enable()
    gc.collect()
    gc.freeze()
    process.release_garbage = lambda: None


@pytest.fixture
def blank_pictures(monkeypatch):
    """Figures are made, and saved as nothing: for what draws on its way to something else. Rendering takes longest."""
    from matplotlib.figure import Figure

    def savefig(_figure, file, *, format, **_):
        file.write("<svg></svg>" if format == "svg" else b"\x89PNG\r\n\x1a\n")

    monkeypatch.setattr(Figure, "savefig", savefig)
