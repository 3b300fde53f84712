"""The programs by their verbs: how a person starts one here, and how one of ours starts another.

`python train.py` in a checkout and `cleangpt train` anywhere are the same. What a program tells a person to type is
written as the program itself was started; a process that is started by a program is always `python -m cleangpt …`.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

SCRIPTS = {
    "train": "train.py",
    "sample": "sample.py",
    "serve": "serve.py",
    "score": "eval/score.py",
    "report": "eval/report.py",
    "runs": "eval/runs.py",
    "ui": "eval/ui.py",
    "export": "export.py",
    "prepare": "data/prepare.py",
    "bench": "bench.py",
}
STARTED = "CLEANGPT_STARTED"  # in the environment of a process that a program started: how a person started the first
COMMAND, MODULE, SCRIPT = "cleangpt", "python -m cleangpt", "python"
ROOT = Path(__file__).resolve().parents[2]  # where the package lies
IN_CHECKOUT = (ROOT / "pyproject.toml").exists()


def shown(verb: str) -> str:
    """Write how a person starts a program: `python eval/score.py`, or `cleangpt score`."""
    return f"python {_script(verb)}" if (how := _started()) == SCRIPT else f"{how} {verb}"


def completed(verb: str) -> str:
    """Write the command that a shell can complete: of modules it can't."""
    return shown(verb) if _started() == SCRIPT else COMMAND


def shown_by_torchrun(verb: str, processes: int | str, nodes: int = 1) -> str:
    """Write how a person starts several processes of a program, on so many machines."""
    program = _script(verb) if _started() == SCRIPT else f"-m cleangpt {verb}"
    several = f"--nnodes={nodes} " if nodes > 1 else ""
    return f"torchrun {several}--nproc-per-node={processes} {program}"


def typed(verb: str) -> list[str]:
    """List the words of this process's command, without the launcher's and Python's."""
    if _started() == SCRIPT:
        return [Path(SCRIPTS[verb]).name, *sys.argv[1:]]
    return [COMMAND, verb, *sys.argv[1:]]


def command(verb: str) -> list[str]:
    """Make the command that starts a program of ours from another, in the environment of `environment`."""
    return [sys.executable, "-m", "cleangpt", verb]


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """Make the environment in which a process of ours finds this very package, wherever it is started."""
    path = [str(ROOT)] if IN_CHECKOUT else []
    path += [folder for folder in given.get("PYTHONPATH", "").split(os.pathsep) if folder and folder not in path]
    found = {**given, STARTED: _started(), "PYTHONPATH": os.pathsep.join(path)}
    if not path:
        del found["PYTHONPATH"]
    return {**found, "PYTHONSAFEPATH": "1"}  # another cleangpt/ in the working directory is not this one


def near(path: Path) -> str:
    """Write a path as a person would type it from here."""
    here = Path.cwd()
    is_near = path.is_relative_to(here) or here.is_relative_to(path)
    return os.path.relpath(path, here) if is_near else str(path)


def _script(verb: str) -> str:
    return near(ROOT / SCRIPTS[verb])


def _started() -> str:
    """Say how a person started this program: by a script, by the command, or as a module."""
    if how := os.environ.get(STARTED):
        return how
    first = Path(sys.argv[0])
    if first.name == "__main__.py" and first.parent.name == "cleangpt":
        return MODULE
    by_script = first.suffix == ".py" and any(script.endswith(first.name) for script in SCRIPTS.values())
    return SCRIPT if by_script or (IN_CHECKOUT and first.stem != COMMAND) else COMMAND
