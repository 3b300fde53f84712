"""Measure how fast any configuration trains, decodes or scores, beside others that do the same.

python bench.py
python bench.py what=score experiment=adder
python bench.py what=decode model=llama_small model.block_size=256 against=transformers
python bench.py experiment=shakespeare_char_cpu dtype=float32 against=litgpt model=llama
python bench.py suite=standing
"""

from cleangpt.machine import beginning

if __name__ == "__main__":
    beginning.program()

from cleangpt.config import cli
from cleangpt.config.asked import Asked
from cleangpt.config.programs import BenchConfig


def main(asked: Asked[BenchConfig]) -> int:
    from cleangpt.measure import bench

    return bench.run(asked)


if __name__ == "__main__":
    cli.start(main, BenchConfig, "bench")  # a shell that completes looks for @hydra.main
