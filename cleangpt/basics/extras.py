"""Commands that install an extra: the project is on no package index, so it is named by where it lies."""

import re
import shlex
import shutil
import sys
from importlib import metadata
from pathlib import Path

from cleangpt.basics import verbs


def command(extra: str) -> str:
    """Write the command that installs an extra for this Python: from its checkout, or from a wheel by name."""
    wanted = ["-e", f"{verbs.near(verbs.ROOT)}[{extra}]"] if verbs.IN_CHECKOUT else _requirements(extra)
    return shlex.join([_python(), "-m", "pip", "install", *wanted])


def _requirements(extra: str) -> list[str]:
    """List the packages that an extra asks for."""
    lines = [line.partition(";") for line in metadata.requires("cleangpt") or []]
    return [needed.strip() for needed, _, when in lines if re.search(rf"extra == (['\"]){extra}\1", when)]


def _python() -> str:
    """Name this Python: `python`, where that is the one that runs. A link tells a virtual environment by its place."""
    usual = shutil.which("python")
    runs = Path(sys.executable)
    return "python" if usual and Path(usual).parent == runs.parent else verbs.near(runs)
