"""List runs: how each stands, how far it is, and its last scores.

python eval/runs.py
python eval/runs.py runs=outputs/sweeps status=[running,cut_off] sort=name
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cleangpt import programs

if __name__ == "__main__":
    programs.runs()  # a shell that completes looks for @hydra.main
