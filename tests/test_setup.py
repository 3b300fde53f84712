"""What `make train` installs is enough to train, score, sample and report."""

import re
import subprocess
import tomllib
from importlib import metadata

from started.programs import ROOT, on_path, run_program

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TINY = ("model=llama_tiny", "dataset.digits=1", "train.steps=3", "train.batch_size=8", "hydra.run.dir=run")

# Runs programs one after the other, without the packages that it names, as if nobody had installed them.
WITHOUT = """
import json, runpy, sys
class Blind:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blind())
for sys.argv in {commands!r}:
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        if end.code:
            sys.exit(f"{{sys.argv[0]}}: {{end.code}}")
"""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(names: list[str]) -> set[str]:
    """The distributions that these requirements bring, with those that they bring in turn."""
    found: set[str] = set()
    waiting = [normal(re.match(r"[\w.-]+", name)[0]) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        try:
            requires = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # of another platform
            continue
        waiting += [normal(re.match(r"[\w.-]+", line)[0]) for line in requires if "extra ==" not in line]
    return found


def test_the_programs_need_no_more_than_training_installs(tmp_path):
    there = needed(PROJECT["dependencies"])
    extras = [name for names in PROJECT["optional-dependencies"].values() for name in names]
    only_extra = needed([name for name in extras if not name.startswith("cleangpt")]) - there
    assert {"datasets", "pyarrow", "transformers", "wandb", "tensorboard", "optuna"} <= only_extra
    modules = {
        module for module, names in metadata.packages_distributions().items() if {*map(normal, names)} <= only_extra
    }
    programs = (
        ("train.py", *TINY),
        ("eval/score.py", "run=run"),
        ("sample.py", "run=run", "prompt=1+2"),
        ("eval/report.py", "runs=run"),
    )
    commands = [[str(ROOT / program), *words] for program, *words in programs]
    (tmp_path / "without.py").write_text(WITHOUT.format(names=modules, commands=commands))
    done = run_program(tmp_path / "without.py", cwd=tmp_path, env=on_path(ROOT), real=True)
    assert done.returncode == 0, done.stderr


def test_make_train_sets_up_less_than_make_test_and_shows_what_pip_does(tmp_path):
    def plan(target: str) -> str:
        words = ["make", "-n", f"VENV={tmp_path / 'venv'}", target]
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    train, test = plan("train"), plan("test")
    assert "[dev]" not in train
    assert "[dev]" in test
    assert train.count(" -m pip install ") == 1
    assert "--quiet" not in train + test
