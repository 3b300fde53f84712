"""How fast: any training configuration, beside a plain loop of the same model.

python bench.py
python bench.py what=score model=llama dataset=adder
python bench.py what=decode model=llama_small model.block_size=256 against=transformers
python bench.py model=gpt_small dataset.digits=10 against=null
"""

import json

import hydra
from omegaconf import DictConfig

from cleangpt import cli, schema
from cleangpt.config import BenchConfig


@hydra.main(version_base=None, config_path=cli.CONF, config_name="bench")
def main(config: DictConfig) -> None:
    settings = schema.parse(cli.plain(config), BenchConfig)
    cli.run(lambda: bench(settings))


def bench(settings: BenchConfig) -> int:
    from rich.console import Console
    from rich.table import Table

    from cleangpt.benchmark import measure

    result = measure(settings)
    table = Table(
        title=f"{result['what']}, {result['unit']}, {result['device']}, {result['dtype']}", title_justify="left"
    )
    for name in ("", "median", "slowest", "fastest"):
        table.add_column(name, justify="right")
    for name, row in result.items():
        if isinstance(row, dict):
            table.add_row(name, *(f"{row[key]:,.0f}" for key in ("median", "min", "max")))
    Console(highlight=False).print(table)
    if "ratio" in result:
        print(f"{result['ratio']:.2f} times as fast as the other (median over {result['rounds']} turns of each)")
    for batch, others in result.get("ratios", {}).items():
        for other, ratio in others.items():
            print(f"{batch}: {ratio:.2f} times as fast as {other}")
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    cli.start(main, BenchConfig, "bench")
