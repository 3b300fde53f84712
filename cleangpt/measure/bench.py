"""One command of bench.py: a measurement, or the several of a suite, each a `bench.py` in a process of its own."""

import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

from cleangpt.basics import verbs
from cleangpt.basics.errors import ConfigError
from cleangpt.config import command_line
from cleangpt.config.asked import Asked
from cleangpt.config.programs import BenchConfig
from cleangpt.terminal import patience

VARIABLE = re.compile(r"[A-Z][A-Z_]*=")


def run(asked: Asked) -> int:
    """Measure what was asked for, print the result as the last line, and return the exit status."""
    config: BenchConfig = asked.config
    status, found = run_suite(config.suite, asked.words) if config.suite else (0, bench(config, asked.words))
    if status == 0:
        print(json.dumps(found))
    return status


def bench(config: BenchConfig, words: Sequence[str]) -> dict[str, Any]:
    """Make one measurement and show it. `words` are those of the command line."""
    from cleangpt.measure import random_tokens, startup

    refuse_what_has_no_meaning(config)
    with random_tokens.data(config) as (config, is_random):
        # First, while no torch of ours has warmed anything up.
        starts = None
        if config.startup and config.what == "train":
            with patience.doing("Starting a training twice, to see how long that takes"):
                starts = startup.seconds(config, words)
        patience.load_torch()
        from cleangpt.measure import fit, run, show

        with patience.doing("Measuring"):
            result = run.measure(config)
    if starts is not None:
        result["startup_seconds"] = starts
    result["random_tokens"] = is_random
    (fit if config.what == "fit" else show).show(result)
    return result


def run_suite(suite: dict[str, str], words: Sequence[str]) -> tuple[int, dict[str, Any]]:
    """Make the measurements: the exit status of the first that fails, and results by name. `words` go to each.

    As in a shell, variables may stand before the words of one: `OMP_NUM_THREADS=1 dtype=bfloat16`. What needs a GPU
    that is not there is left out.
    """
    mine, where = command_line.without(words, "suite"), command_line.hydra_words(sys.argv[1:])
    found: dict[str, Any] = {}
    for name, own in suite.items():
        asked = shlex.split(own)
        variables = list(itertools.takewhile(VARIABLE.match, asked))
        asked = asked[len(variables) :] + mine
        print(f"\n{name}: {' '.join([*variables, verbs.shown('bench'), *asked])}", flush=True)
        if "device=cuda" in asked and (lacking := _no_gpu()):
            print(f"Left out: {lacking}", flush=True)
            found[name] = {"left_out": lacking}
            continue
        command = [*verbs.command("bench"), *where, *asked]
        environment = {**verbs.environment(os.environ), **dict(variable.split("=", 1) for variable in variables)}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
        if done.returncode:
            print(done.stdout, end="")
            return done.returncode, found
        *lines, last = done.stdout.splitlines()
        print("\n".join(lines), flush=True)
        found[name] = json.loads(last)
    return 0, found


@cache
def _no_gpu() -> str | None:
    patience.load_torch()
    from cleangpt.machine import device

    return "torch sees no CUDA device here" if device.mistakes("cuda") else None


def refuse_what_has_no_meaning(config: BenchConfig) -> None:
    """Refuse keys of a training that would change nothing here."""
    mistakes = []
    if config.resume is not None:
        mistakes.append("`resume` is for a training: speed is measured on random weights, leave it out")
    if config.init_from is not None:
        mistakes.append("`init_from` is for a training: speed is measured on random weights, set init_from=null")
    if config.processes not in ("auto", 1) and config.what != "fit":
        mistakes.append(f"`processes` must be 1 or auto, not {config.processes}: one process is measured")
    if config.profile and config.what != "train":
        mistakes.append(f"`profile` is for what=train, not what={config.what}: leave it out")
    if mistakes:
        raise ConfigError(mistakes)
