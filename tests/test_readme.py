"""Every command of the README is accepted, and, which takes longer, runs."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.configs import look_ahead
from started.programs import ROOT, environment, run_program
from started.programs import run as run_command

from cleangpt.basics import verbs
from cleangpt.config import command_line, experiment, programs
from docs import recipes

COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    for line in block.strip().splitlines()
]
# Small enough for a test; what a command says itself comes later, and wins where it is no matter of size.
SMALL = "model.n_layer=1 model.n_embd=16 model.n_head=2 dataset.digits=1 train.batch_size=8 logger.plots=false"

BRIEF = "rounds=1 seconds=0.02 startup=false train.batch_size=8 model.n_layer=1 model.n_embd=16 model.n_head=2"

STARTED_HERE = ("export.py", "data/prepare.py")  # by an interpreter of their own, and complete, in no other test


def run(command: str, cwd) -> None:
    words = shlex.split(command)
    launcher: tuple[str, ...] = ()
    by_verb = words[0] == "cleangpt"
    if by_verb:
        words = [verbs.SCRIPTS[words[1]], *words[2:]]
    elif words[0] == "torchrun":
        script = next(n for n, word in enumerate(words) if word.endswith(".py"))
        launcher, words = ("-m", "torch.distributed.run", *words[1:script]), words[script:]
    else:
        words = words[1:]
    script, *arguments = words
    if script == "train.py" and not any(argument.startswith("resume=") for argument in arguments):
        flags = [argument for argument in arguments if argument.startswith("-")]
        values = [argument for argument in arguments if not argument.startswith("-")]
        values = [value for value in values if not value.startswith(("train.steps", "dataset.digits"))]
        values = [re.sub(r"^(hydra.sweeper.trials)=.*", r"\1=2", value) for value in values]
        text = "dataset=text" in values  # has no digits
        small = [value for value in SMALL.split() if not (text and value.startswith("dataset."))]
        few = ["hydra.launcher.keep=false"] if "-m" in flags else []  # jobs are forked from our own server
        arguments = [*flags, *small, *values, *few, "train.steps=2", "logger.progress=false"]
    elif script == "train.py":
        arguments = [argument.replace("train.steps=200", "train.steps=3") for argument in arguments]
    elif script == "bench.py":
        all_problems = "what=score" in arguments
        arguments = [*arguments, *BRIEF.split(), *(["dataset.digits=1"] if all_problems else [])]
    offline, real = {"WANDB_MODE": "offline"}, script in STARTED_HERE
    if by_verb:
        verb = next(verb for verb, of_verb in verbs.SCRIPTS.items() if of_verb == script)
        done = run_command(
            [sys.executable, "-m", "cleangpt", verb, *arguments], cwd, {**offline, "PYTHONPATH": str(ROOT)}
        )
    else:
        done = run_program(script, *arguments, cwd=cwd, launcher=launcher, env=offline, real=real)
    assert done.returncode == 0, f"{command}\n{done.stderr}"


def test_the_readme_has_the_commands_of_a_user():
    programs = {
        word for line in COMMANDS for word in line.split() if word.endswith(".py") or word in ("make", "cleangpt")
    }
    programs_named = {
        "make",
        "cleangpt",
        "train.py",
        "sample.py",
        "eval/score.py",
        "eval/report.py",
        "data/prepare.py",
        "export.py",
        "bench.py",
    }
    assert programs == programs_named


def lay_out(folder: Path) -> None:
    """Put there what the commands of the README read."""
    shutil.copy(ROOT / "README.md", folder)
    for name, content in re.findall(r"```yaml\n# (\S+)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(content)


def verb_of(words: list[str]) -> tuple[str, list[str]] | None:
    """The program that a command starts, and its words."""
    if words[0] == "cleangpt":
        return words[1], words[2:]
    for place, word in enumerate(words):
        for verb, script in verbs.SCRIPTS.items():
            if word == script:
                return verb, words[place + 1 :]
    return None


@pytest.mark.parametrize("command", [command for command in COMMANDS if not command.startswith("make")])
def test_no_command_of_the_readme_is_refused(tmp_path, monkeypatch, command):
    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    found = verb_of(shlex.split(command))
    assert found is not None
    verb, words = found
    schema = experiment.Config if verb == "train" else getattr(programs, f"{verb.capitalize()}Config")
    words = [command_line.as_it_stands(word, schema) for word in words]
    assert look_ahead(*words, schema=schema, config_name=verb) == []


@pytest.mark.slow
def test_the_commands_of_the_readme_run_one_after_the_other(tmp_path):
    lay_out(tmp_path)
    for command in COMMANDS:
        if not command.startswith("make"):
            run(command, tmp_path)


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path):
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", block],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert re.match(r"47\+85 = \d+ [✓✗]", done.stdout)
    assert "4 runs: 4 completed. 2 settings." in done.stdout


def test_make_has_the_targets_that_the_readme_names():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make ([a-z-]+)`?", (ROOT / "README.md").read_text()):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_what_the_readme_expects_is_what_the_recipes_promise():
    table = (ROOT / "README.md").read_text().partition("### What to expect")[2].partition("\nNothing was")[0]
    rows = re.findall(r"^\| `(\w+)`.*\| .* \| ([\d.]+)(%?) \| ([\d.]+)%? of", table, re.MULTILINE)
    assert len(rows) >= 4
    for preset, promised, percent, worst in rows:
        ((_, side, bound),) = recipes.promises()[preset]
        scale = 100 if percent else 1
        assert float(promised) / scale == pytest.approx(bound), preset
        assert recipes.kept(float(worst) / scale, side, bound), preset


def test_every_preset_is_among_the_recipes():
    told = (ROOT / "docs" / "recipes.md").read_text()
    assert [path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml") if f"`{path.stem}`" not in told] == []
