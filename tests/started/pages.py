"""The commands of the README and of the guide: found, checked, and run at a size that a test has time for."""

import re
import shlex
import shutil
import sys
from pathlib import Path

from helpers.configs import look_ahead

from cleangpt.basics import verbs
from cleangpt.config import command_line, experiment, programs
from started.programs import ROOT, run_program
from started.programs import run as run_command

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "studies").glob("*.md"))]
# Pages that build something of one's own have tests of their own, in the room of what they build.
BUILDING = ("new_task.md", "new_model.md", "new_optimizer.md")

# Small enough for a test; what a command says itself comes later, and wins where it is no matter of size.
SMALL = "model.n_layer=1 model.n_embd=16 model.n_head=2 dataset.digits=1 train.batch_size=8 logger.plots=false"
BRIEF = "rounds=1 seconds=0.02 startup=false train.batch_size=8 model.n_layer=1 model.n_embd=16 model.n_head=2"
OF_SIZE = ("train.steps", "dataset.digits", "train.eval_every", "train.batch_size", "dataset.val_size")
SEEDS = re.compile(r"^(\w+)=range\(.*\)$")
STARTED_HERE = ("export.py", "data/prepare.py")  # by an interpreter of their own, and complete, in no other test


def commands(page: Path) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", "").strip().splitlines()]


def of_programs(page: Path) -> list[str]:
    """The commands of a page, without those of make and of the scripts that make pages."""
    return [command for command in commands(page) if not command.startswith(("make", "python docs/"))]


def lay_out(page: Path, folder: Path) -> None:
    """Put there what the commands of a page read."""
    shutil.copy(ROOT / "README.md", folder)
    for name, content in re.findall(r"```yaml\n# (\S+)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def mistakes(command: str) -> list[str]:
    """What its program would say against a command."""
    verb, words = _verb_of(shlex.split(command))
    schema = experiment.Config if verb == "train" else getattr(programs, f"{verb.capitalize()}Config")
    if "--cfg" in words or "--help" in words:
        words = [word for word in words if word not in ("--cfg", "job", "--help")]
    words = [command_line.as_it_stands(word, schema) for word in _few_jobs(words)]
    return look_ahead(*words, schema=schema, config_name=verb)


def run(command: str, cwd: Path) -> None:
    """Run a command for real, but for a few steps of a small model."""
    words = shlex.split(command)
    launcher: tuple[str, ...] = ()
    verb, arguments = _verb_of(words)
    script = verbs.SCRIPTS[verb]
    if words[0] == "torchrun":
        launcher = ("-m", "torch.distributed.run", *words[1 : words.index(script)])
    if script == "train.py":
        arguments = _few_steps(arguments)
    elif script in ("serve.py", "eval/ui.py"):
        return  # has no end; tests/serving/ and tests/ui/ ask it
    elif script == "bench.py" and "what=fit" not in arguments:
        all_problems = "what=score" in arguments
        arguments = [*arguments, *BRIEF.split(), *(["dataset.digits=1"] if all_problems else [])]
    offline, real = {"WANDB_MODE": "offline"}, script in STARTED_HERE
    if words[0] == "cleangpt":
        python = [sys.executable, "-m", "cleangpt", verb, *arguments]
        done = run_command(python, cwd, {**offline, "PYTHONPATH": str(ROOT)})
    else:
        done = run_program(script, *arguments, cwd=cwd, launcher=launcher, env=offline, real=real)
    assert done.returncode == 0, f"{command}\n{done.stderr}"


def _verb_of(words: list[str]) -> tuple[str, list[str]]:
    """The program that a command starts, and its words."""
    if words[0] == "cleangpt":
        return words[1], words[2:]
    for place, word in enumerate(words):
        for verb, script in verbs.SCRIPTS.items():
            if word == script:
                return verb, words[place + 1 :]
    raise AssertionError(f"starts no program of ours: {' '.join(words)}")


def _few_jobs(words: list[str]) -> list[str]:
    """Two of each list of values, and of a preset one seed."""
    if "-m" not in words:
        return words
    words = [SEEDS.sub(r"\1=0,1", word) for word in words]
    words = [re.sub(r"^([\w./]+=[^,\[{]+,[^,\[{]+),[^\[{]+$", r"\1", word) for word in words]
    named = any(word.startswith("seed=") for word in words)
    return words if named or not any(word.startswith("sweep=") for word in words) else [*words, "seed=0"]


def _few_steps(arguments: list[str]) -> list[str]:
    if any(argument.startswith("resume=") for argument in arguments):
        return [re.sub(r"^train.steps=\d+$", "train.steps=3", argument) for argument in arguments]
    if "--cfg" in arguments or "--help" in arguments:
        return arguments
    arguments = _few_jobs(arguments)
    flags = [argument for argument in arguments if argument.startswith("-")]
    values = [argument for argument in arguments if not argument.startswith("-")]
    values = [value for value in values if value.partition("=")[0] not in OF_SIZE]
    values = [re.sub(r"^(hydra.sweeper.trials)=.*", r"\1=2", value) for value in values]
    text = any(
        value.startswith(("dataset=text", "dataset=shakespeare", "experiment=shakespeare")) for value in values
    )  # has no digits
    small = [value for value in SMALL.split() if not (text and value.startswith("dataset."))]
    few = ["hydra.launcher.keep=false"] if "-m" in flags else []  # jobs are forked from our own server
    return [*flags, *small, *values, *few, "train.steps=2", "logger.progress=false"]
