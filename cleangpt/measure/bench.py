"""One command of bench.py: a measurement, or the several of a suite."""

import json

from cleangpt.basics.errors import ConfigError
from cleangpt.config.asked import Asked
from cleangpt.config.programs import BenchConfig
from cleangpt.terminal import patience


def run(asked: Asked) -> int:
    if asked.config.suite:
        return bench_all(asked.config, list(asked.words))
    return bench(asked.config, list(asked.words))


def bench(settings: BenchConfig, overrides: list[str]) -> int:
    from cleangpt.measure import random_tokens, startup

    refuse_what_has_no_meaning(settings)
    with random_tokens.data(settings) as (settings, is_random):
        # First, while no torch of ours has warmed anything up.
        starts = None
        if settings.startup and settings.what == "train":
            with patience.doing("Starting train.py twice, to see how long that takes"):
                starts = startup.seconds(settings, overrides)
        patience.load_torch()
        from cleangpt.measure import run, show

        with patience.doing("Measuring"):
            result = run.measure(settings)
    if starts is not None:
        result["startup_seconds"] = starts
    result["random_tokens"] = is_random
    show.show(result)
    print(json.dumps(result))
    return 0


def bench_all(settings: BenchConfig, overrides: list[str]) -> int:
    from cleangpt.measure import suite

    status, found = suite.run(settings.suite, overrides)
    if status == 0:
        print(json.dumps(found))
    return status


def refuse_what_has_no_meaning(settings: BenchConfig) -> None:
    """Refuse keys of a training that would change nothing here."""
    mistakes = []
    if settings.resume is not None:
        mistakes.append("`resume` is for train.py: speed is measured on random weights, leave it out")
    if settings.init_from is not None:
        mistakes.append("`init_from` is for train.py: speed is measured on random weights, set init_from=null")
    if settings.processes not in ("auto", 1):
        mistakes.append(f"`processes` must be 1 or auto, not {settings.processes}: one process is measured")
    if settings.profile and settings.what != "train":
        mistakes.append(f"`profile` is for what=train, not what={settings.what}: leave it out")
    if mistakes:
        raise ConfigError(mistakes)
