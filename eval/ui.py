"""Open a page in the browser over runs: watch them, compare them, ask their models.

python eval/ui.py
python eval/ui.py runs=outputs/sweeps port=8000
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cleangpt import programs

if __name__ == "__main__":
    programs.ui()  # a shell that completes looks for @hydra.main
