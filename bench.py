"""How fast: training, decoding or scoring of any configuration, beside others that do the same.

python bench.py
python bench.py what=score experiment=adder
python bench.py what=decode model=llama_small model.block_size=256 against=transformers
python bench.py experiment=shakespeare_char_cpu dtype=float32 against=litgpt model=llama
python bench.py suite=standing
"""

import json

from cleangpt.machine import beginning

if __name__ == "__main__":
    beginning.program()

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from cleangpt.basics import schema
from cleangpt.basics.errors import ConfigError
from cleangpt.config import cli, composition
from cleangpt.config.programs import BenchConfig
from cleangpt.terminal import patience


@hydra.main(version_base=None, config_path=composition.CONF, config_name="bench")
def main(config: DictConfig) -> None:
    settings = schema.parse(composition.plain(config), BenchConfig)
    overrides = list(HydraConfig.get().overrides.task)
    cli.run(lambda: bench_all(settings, overrides) if settings.suite else bench(settings, overrides))


def bench(settings: BenchConfig, overrides: list[str]) -> int:
    from benchmark import random_tokens
    from cleangpt.measure import startup

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
    from benchmark import suite

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


if __name__ == "__main__":
    cli.start(main, BenchConfig, "bench")
