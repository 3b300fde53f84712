"""A wheel that is built, installed in a fresh environment outside of the checkout, and used there."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from started.programs import ROOT, environment

SMALL = [
    "model=llama_tiny",
    "model.n_embd=16",
    "dataset.digits=1",
    "train.batch_size=8",
    "train.steps=4",
    "logger=quiet",
]
BUILD = "from setuptools import build_meta; print(build_meta.{what}({to!r}))"


def built(folder: Path, what: str, to: Path) -> Path:
    done = subprocess.run(
        [sys.executable, "-c", BUILD.format(what=what, to=str(to))], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return to / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel of what git knows, by way of an archive of its sources; or the one that `make release` built."""
    if given := os.environ.get("CLEANGPT_WHEEL"):
        return (ROOT / given).resolve()
    folder = tmp_path_factory.mktemp("built")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    ).stdout.splitlines()
    for name in listed:
        if not name.startswith("tests/") and (ROOT / name).is_file():
            (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "tree" / name).write_bytes((ROOT / name).read_bytes())
    sources = built(folder / "tree", "build_sdist", folder)
    with tarfile.open(sources) as archive:
        archive.extractall(folder / "sources", filter="data")
    (unpacked,) = (folder / "sources").iterdir()
    (unpacked / "build/lib/cleangpt").mkdir(parents=True)  # as an earlier installation leaves it
    (unpacked / "build/lib/cleangpt/of_an_earlier_version.py").touch()
    return built(unpacked, "build_wheel", folder)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """An environment of its own with the wheel, that shares the other packages with this one."""
    folder = tmp_path_factory.mktemp("elsewhere") / "env"
    venv.create(folder, with_pip=False, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    (site / "shared.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    python = folder / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(list(map(str, install)), check=True)
    return folder / "bin"


@pytest.fixture
def run(installed, tmp_path):
    """Run a command of the environment in a folder far from the checkout."""

    def run(program: str, *words: str) -> subprocess.CompletedProcess:
        given = environment()
        given.pop("PYTHONPATH", None)
        given["PATH"] = os.pathsep.join([str(installed), given["PATH"]])
        done = subprocess.run(
            [str(installed / program), *words], cwd=tmp_path, env=given, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


def test_a_wheel_holds_conf_and_what_it_needs_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "conf").rglob("*.yaml")}
    assert {f"cleangpt/{name}" for name in ours} <= names
    assert {"cleangpt/py.typed", "cleangpt/report/page.html", "hydra_plugins/cleangpt_sweeps.py"} <= names
    code = {str(path.relative_to(ROOT)) for path in (ROOT / "cleangpt").rglob("*.py")}
    assert {name for name in names if name.startswith("cleangpt/") and name.endswith(".py")} == code
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"cleangpt", "hydra_plugins"}


def test_a_run_is_trained_scored_sampled_swept_and_reported_by_the_command_alone(run, tmp_path):
    ended = run("cleangpt", "train", *SMALL).stdout
    assert "    cleangpt score run=outputs/" in ended, "what is next is told as it can be typed here"
    record = json.loads((tmp_path / "outputs/latest/run.json").read_text())
    assert record["command"][:2] == ["cleangpt", "train"]
    assert record["git"] == {"commit": None, "dirty": None}
    assert record["versions"]["cleangpt"] == run("cleangpt", "--version").stdout.strip()
    assert "own_configuration" not in record
    assert "exact match" in run("cleangpt", "score", "run=latest", "limit=5").stdout
    assert run("cleangpt", "sample", "run=latest", "prompt=1+2").stdout.startswith("1+2 = ")
    swept = run("python", "-m", "cleangpt", "train", "-m", *SMALL, "seed=0,1", "hydra.sweep.dir=swept").stdout
    assert "2 jobs: 2 finished" in swept
    assert "python -m cleangpt report runs=swept" in swept
    run("cleangpt", "report", "runs=swept")
    assert (tmp_path / "swept/report/report.html").exists()
    for job in (tmp_path / "swept").glob("000*"):
        assert "cleangpt sample" in (job / "job.log").read_text()


@pytest.mark.slow
def test_several_processes_and_python_find_the_package_that_is_installed(run, tmp_path):
    (tmp_path / "cleangpt").mkdir()
    (tmp_path / "cleangpt" / "__init__.py").write_text("raise ImportError('of somebody else')")
    run("cleangpt", "train", *SMALL, "processes=2", "hydra.run.dir=two")
    assert json.loads((tmp_path / "two/run.json").read_text())["world_size"] == 2
    told = "import sys, cleangpt; print(cleangpt.__file__); run = cleangpt.Run.load('two'); print(run.ask('1+2').right)"
    where, right = run("python", "-P", "-c", told).stdout.split()
    assert (Path(where).is_relative_to(ROOT), right) == (False, "3")


def test_what_asks_for_an_extra_names_its_packages(run):
    told = "from cleangpt.basics import extras; print(extras.command('hub'))"
    assert "install 'datasets>=" in run("python", "-c", told).stdout
