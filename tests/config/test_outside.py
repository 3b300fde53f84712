"""What somebody else adds: a package with entry points, and a folder conf/ of their own, without touching ours."""

import json
import subprocess
import sys
import textwrap

import pytest
import yaml
from started.programs import ROOT, run_program

from cleangpt import tasks

SMALL = ["model=llama_tiny", "model.n_embd=16", "train.batch_size=8", "train.eval_every=null", "device=cpu"]
SMALL += ["logger=quiet", "dataset.digits=1", "hydra.run.dir=run"]

TASK = '''
"""Products once more, under a name of their own."""

from typing import Literal

from pydantic import Field

from cleangpt.tasks import arithmetic


class Settings(arithmetic.Settings):
    name: Literal["times"] = Field(description="what is to be learned")


class Task(arithmetic.Task):
    pass
'''
YAML = "# Products once more.\ndefaults: [multiplier, _self_]\nname: times\n"


def package(folder, name: str, files: dict[str, str], entries: dict[str, str]) -> None:
    """Lay a package into a folder as pip would install it."""
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(textwrap.dedent(text))
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "\n".join(f"[{group}]\n{entry}\n" for group, entry in entries.items()),
    )


@pytest.fixture
def outside(tmp_path):
    """Runs a program in a folder with a conf/, where packages lie beside it."""
    conf = tmp_path / "here" / "conf" / "dataset"
    conf.mkdir(parents=True)
    (conf / "times.yaml").write_text(YAML)

    def run(script, *words, light=False, **environment):
        environment = {"PYTHONPATH": str(tmp_path / "site"), **environment}
        return run_program(script, *words, cwd=tmp_path / "here", env=environment, light=light)

    run.folder, run.site = tmp_path / "here", tmp_path / "site"
    return run


def learns_resumes_and_is_scored(outside):
    done = outside("train.py", "dataset=times", "train.steps=2", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "with files of your own: conf/dataset/times.yaml\n" in done.stdout
    record = json.loads((outside.folder / "run" / "run.json").read_text())
    assert record["own_configuration"] == [str(outside.folder / "conf" / "dataset" / "times.yaml")]
    assert record["changed"]["dataset.name"] == {"here": "times", "default": "adder"}
    assert record["changed"]["dataset.padded"] == {"here": True}, "what it is by default is not for us to say"
    done = outside("train.py", "resume=run", "train.steps=3", "device=cpu")
    assert done.returncode == 0, done.stderr
    assert json.loads((outside.folder / "run" / "config.json").read_text())["dataset"]["name"] == "times"
    done = outside("eval/score.py", "run=run", "device=cpu")
    assert done.returncode == 0, done.stderr
    assert json.loads((outside.folder / "run" / "score" / "test_best.json").read_text())["task"] == "times"


def test_a_package_and_a_folder_of_ones_own_add_a_task(outside):
    package(outside.site, "timing", {"timing/task.py": TASK}, {"cleangpt.tasks": "times = timing.task"})
    learns_resumes_and_is_scored(outside)


def test_a_package_without_a_file_for_it_is_in_nobodys_way(outside):
    package(outside.site, "timing", {"timing/task.py": TASK}, {"cleangpt.tasks": "times = timing.task"})
    (outside.folder / "conf" / "dataset" / "times.yaml").unlink()
    done = outside("train.py", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "dataset.digits=3" in done.stdout


@pytest.mark.slow
def test_a_package_that_pip_installs_adds_a_task(outside):
    source = outside.folder.parent / "source"
    (source / "timing").mkdir(parents=True)
    (source / "timing" / "__init__.py").touch()
    (source / "timing" / "task.py").write_text(TASK)
    (source / "pyproject.toml").write_text(
        textwrap.dedent("""
        [build-system]
        requires = ["setuptools"]
        build-backend = "setuptools.build_meta"

        [project]
        name = "timing"
        version = "1.0"

        [project.entry-points."cleangpt.tasks"]
        times = "timing.task"
    """)
    )
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "-q"]
    done = subprocess.run([*pip, f"--target={outside.site}", source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    learns_resumes_and_is_scored(outside)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import nothing_like_it", "ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("Settings = None", "ImportError: timing.task has no Settings with a name"),
        (TASK.replace("times", "adder"), "ImportError: timing.task and cleangpt.tasks.arithmetic both answer to adder"),
    ],
    ids=["does not import", "has no settings", "takes a name"],
)
def test_a_package_that_is_broken_is_named_where_it_is_missed_and_stops_nothing_else(outside, code, why):
    package(outside.site, "timing", {"timing/task.py": code}, {"cleangpt.tasks": "times = timing.task"})
    shown = outside("train.py", "--cfg", "job")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert outside("eval/score.py", "run=nothing").stderr.startswith("run=nothing is no folder")
    done = outside("train.py", "dataset=times")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"`dataset.name` must be one of {', '.join(tasks.SETTINGS)}, not times; timing, which adds to "
        f"cleangpt.tasks, can't be used ({why}): mend it, or uninstall it\n"
    )


def test_what_a_package_lacks_behind_its_keys_is_a_sentence(outside):
    code = TASK.replace("\n\nclass Task", "\n\nimport torch\nimport nothing_like_it\n\n\nclass Task")
    package(outside.site, "timing", {"timing/task.py": code}, {"cleangpt.tasks": "times = timing.task"})
    done = outside("train.py", "dataset=times", *SMALL, light=True)  # keys are read before torch is loaded
    assert done.returncode == 2, done.stderr
    assert done.stderr == "timing.task can't be imported (No module named 'nothing_like_it'): install what it needs\n"
    assert not (outside.folder / "run").exists()


# ---- a folder of one's own


def test_files_of_ones_own_come_before_ours_in_every_program(outside):
    conf = outside.folder / "conf"
    (conf / "experiment").mkdir()
    (conf / "experiment" / "mine.yaml").write_text("# @package _global_\ntrain: {steps: 7}\n")
    (conf / "schedule").mkdir()
    ours = (ROOT / "conf/schedule/cosine.yaml").read_text()
    (conf / "schedule" / "cosine.yaml").write_text(ours.replace("cosine", "linear"))
    (conf / "template").mkdir()
    (conf / "template" / "loud.yaml").write_text("pattern: '{text}!'\n")
    shown = yaml.safe_load(outside("train.py", "experiment=mine", "--cfg", "job").stdout)
    assert (shown["train"]["steps"], shown["schedule"]["lr"]["style"]) == (7, "linear")
    assert " lee_addition, mine, " in " ".join(outside("train.py", "--help").stdout.split())
    assert "pattern: '{text}!'" in outside("sample.py", "template=loud", "--cfg", "job").stdout
    assert "steps: 7" in outside("bench.py", "experiment=mine", "--cfg", "job").stdout
    assert "times" in outside("data/prepare.py", "dataset=time").stderr
    line = "python train.py experiment=mine"
    done = outside("train.py", "-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line)))
    assert done.stdout.split() == ["experiment=mine"]


def test_processes_that_are_started_and_commands_that_are_told_have_the_folder_too(outside):
    package(outside.site, "timing", {"timing/task.py": TASK}, {"cleangpt.tasks": "times = timing.task"})
    words = [*(word for word in SMALL if not word.startswith("hydra.")), "train.steps=2", "processes=2"]
    done = outside("train.py", "-m", "dataset=times", "seed=1", "hydra.sweep.dir=jobs", "train.nonfinite=stop", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    (job,) = (outside.folder / "jobs").glob("0000*")
    record = json.loads((job / "run.json").read_text())
    assert (record["world_size"], len(record["own_configuration"])) == (2, 1)
    assert "--config-dir=conf" in record["command"]
    assert (job / "train.log").read_text().count("with files of your own") == 1


def test_a_folder_that_is_named_is_taken_instead(outside):
    other = outside.folder / "other" / "experiment"
    other.mkdir(parents=True)
    (other / "mine.yaml").write_text("# @package _global_\ntrain: {steps: 7}\n")
    assert "dataset=times" in outside("train.py", "--config-dir=other", "dataset=times").stderr
    assert "steps: 7" in outside("train.py", "--config-dir=other", "experiment=mine", "--cfg", "job").stdout


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("hydra: {callbacks: {x: {%s: mine.Code}}}", "hydra.callbacks.x.%s"),
        ("hydra: {job_logging: {filters: {x: {'()': mine.Code}}}}", "hydra.job_logging.filters.x.()"),
        ("hydra: {job_logging: {handlers: {x: {class: mine.Code}}}}", "hydra.job_logging.handlers.x.class"),
        ("model: {%s: mine.Code}", "model.%s"),
    ],
)
def test_a_folder_of_ones_own_can_not_name_code_to_run(outside, text, key):
    target = "_target" + "_"
    (outside.folder / "mine.py").write_text("def Code(**_):\n    open('ran', 'w')\n")
    preset = outside.folder / "conf" / "experiment" / "bad.yaml"
    preset.parent.mkdir()
    preset.write_text("# @package _global_\n" + text.replace("%s", target))
    done = outside("train.py", "experiment=bad", PYTHONPATH=str(outside.folder))
    assert done.returncode == 2, done.stderr
    assert f"`{key.replace('%s', target)}` " in done.stderr
    assert not (outside.folder / "ran").exists()
