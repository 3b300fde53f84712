"""Measure how fast any configuration trains, decodes or scores, beside others that do the same.

python bench.py
python bench.py what=score experiment=adder
python bench.py what=decode model=llama_small model.block_size=256 against=transformers
python bench.py experiment=shakespeare_char_cpu dtype=float32 against=litgpt model=llama
python bench.py suite=standing
"""

from cleangpt import programs

if __name__ == "__main__":
    programs.bench()  # a shell that completes looks for @hydra.main
