"""Compare runs: tables, statistics over seeds, pictures, and one page that holds it all.

python eval/report.py runs=outputs/sweeps
python eval/report.py runs=[outputs/adder-llama,outputs/adder-gpt] metric=val/loss out=comparison
python eval/report.py 'runs="outputs/*/2026-*"'
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cleangpt import programs

if __name__ == "__main__":
    programs.report()  # a shell that completes looks for @hydra.main
