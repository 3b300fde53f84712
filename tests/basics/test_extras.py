"""A missing package is told with a command that installs it, and not a stranger's package of the same name."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from started.programs import ROOT

from cleangpt.basics import extras, verbs

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.fixture
def usual(monkeypatch):
    """The Python that runs this is the one that `python` starts."""
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)


@pytest.mark.parametrize(("below", "path"), [(".", "."), ("eval", ".."), ("..", ROOT.name), ("/", str(ROOT))])
def test_a_checkout_is_installed_by_the_path_that_one_would_type(usual, monkeypatch, below, path):
    monkeypatch.chdir(ROOT / below)
    if below == "/":
        monkeypatch.setattr(extras.Path, "cwd", lambda: Path("/nowhere/near"))
    assert shlex.split(extras.command("hub")) == ["python", "-m", "pip", "install", "-e", f"{path}[hub]"]
    assert "'" in extras.command("hub"), "a shell would take the brackets for a pattern"


def test_it_is_for_the_python_that_runs(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(Path(sys.executable).parent)
    assert shlex.split(extras.command("hub"))[0] == Path(sys.executable).name
    monkeypatch.chdir("/")
    monkeypatch.setattr(extras.Path, "cwd", lambda: Path("/nowhere/near"))
    assert shlex.split(extras.command("hub"))[0] == sys.executable


def test_a_wheel_is_given_the_packages_of_the_extra_by_name(usual, monkeypatch):
    monkeypatch.setattr(verbs, "IN_CHECKOUT", False)
    lines = [
        "torch>=2.11",
        'wandb>=0.31; extra == "wandb"',
        "lm_eval>=0.4.13; extra == 'lm-eval'",
        'wandb-core; python_version < "3.12" and extra == "wandb"',
    ]
    monkeypatch.setattr(extras.metadata, "requires", lambda name: lines)
    assert extras.command("wandb") == "python -m pip install 'wandb>=0.31' wandb-core"
    assert extras.command("lm-eval") == "python -m pip install 'lm_eval>=0.4.13'"


def test_nothing_tells_anybody_to_install_the_project_by_its_name():
    named = re.compile(r"pip install [^\n`]*cleangpt\b|cleangpt\[")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    texts = {name: (ROOT / name).read_text() for name in listed if name.endswith((".py", ".md", ".yaml", ".html"))}
    assert [name for name, text in texts.items() if named.search(text) and not name.startswith("tests/")] == []


def test_what_is_asked_for_is_an_extra_of_the_project():
    texts = [path.read_text() for folder in ("cleangpt", "benchmark") for path in (ROOT / folder).rglob("*.py")]
    asked = {extra for text in texts for extra in re.findall(r"extras\.command\([\"']([a-z-]+)[\"']\)", text)}
    table = (ROOT / "docs" / "install.md").read_text(encoding="utf-8").partition("## Extras")[2].partition("\n## ")[0]
    told = set(re.findall(r"`([a-z-]+)`(?=[^|]*\|)", "\n".join(re.findall(r"^\|[^|]*\|", table, re.MULTILINE))))
    assert told == set(EXTRAS)
    assert {"hub", "hf", "lm-eval", "search", "slurm"} <= asked <= set(EXTRAS)
