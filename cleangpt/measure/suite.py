"""Make several measurements one after the other, each a `bench.py` in a process of its own, and one result of all."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from cleangpt.config import command_line, composition

PROGRAM = Path(composition.CONF).parent / "bench.py"


def run(suite: dict[str, str], overrides: list[str]) -> tuple[int, dict[str, Any]]:
    """Run the measurements; the exit status of the first that fails, and results by name. `overrides` go to each."""
    overrides, where = command_line.without(overrides, "suite"), command_line.hydra_words(sys.argv[1:])
    found = {}
    for name, words in suite.items():
        command = [sys.executable, str(PROGRAM), *where, *shlex.split(words), *overrides]
        print(f"\n{name}: python bench.py {' '.join(shlex.split(words) + overrides)}", flush=True)
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            print(done.stdout, end="")
            return done.returncode, found
        *lines, last = done.stdout.splitlines()
        print("\n".join(lines), flush=True)
        found[name] = json.loads(last)
    return 0, found
