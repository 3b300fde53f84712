"""The notebook in docs/ runs from its first cell to its last, in a kernel, as somebody reads it."""

import os
import time

import nbclient
import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from started.programs import ROOT

from cleangpt.disk.rundir import read_metrics

NOTEBOOK = ROOT / "docs" / "backwards.ipynb"


def shown(cell) -> list[tuple[str, str]]:
    """The kinds of what a cell shows, and each in its words."""
    return [(kind, data) for output in cell.get("outputs", []) for kind, data in output.get("data", {}).items()]


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    book = nbformat.read(NOTEBOOK, as_version=4)
    kept = {cell.id: {kind for kind, _ in shown(cell)} for cell in book.cells}
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(book, timeout=300, kernel_name="python3", resources=where).execute()
    for cell in book.cells:
        assert [output for output in cell.get("outputs", []) if output.get("name") == "stderr"] == []
        assert {kind for kind, _ in shown(cell)} == kept[cell.id], cell.source
    pages = [data for cell in book.cells for kind, data in shown(cell) if kind == "text/html"]
    assert any("completed" in page and "data:image/png" in page for page in pages), "a run shows itself"
    assert len(list((tmp_path / "outputs/sweeps/backwards").glob("*/summary.json"))) == 6


def test_what_is_kept_of_it_names_no_machine():
    text = NOTEBOOK.read_text()
    assert "/home/" not in text
    assert "/tmp/" not in text
    assert str(ROOT) not in text


ENDLESS = """
import cleangpt
from started.from_python import SHORT, SMALL
run = cleangpt.train(*SMALL, SHORT, {"train.steps": 100000, "train.eval_every": None}, path="r")
"""


@pytest.mark.slow
def test_interrupting_the_kernel_saves_and_gives_a_run_that_was_stopped(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    kernel, client = start_new_kernel(kernel_name="python3", cwd=str(tmp_path))
    try:
        asked = client.execute(ENDLESS)
        deadline = time.monotonic() + 120
        while not read_metrics(tmp_path / "r" / "metrics.jsonl") and time.monotonic() < deadline:
            time.sleep(0.1)
        kernel.interrupt_kernel()
        assert client.get_shell_msg(timeout=120)["parent_header"]["msg_id"] == asked
        answer = client.execute_interactive("pass", user_expressions={"how": "run.status, run"}, timeout=60)
        shown = answer["content"]["user_expressions"]["how"]["data"]["text/plain"]
        assert shown == "('stopped', Run('r', stopped))"
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
