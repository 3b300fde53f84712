"""Score a trained model on problems that it never saw.

python eval/score.py run=outputs/latest
python eval/score.py run=<run>/snapshots/step_00000500 split=val
torchrun --nproc-per-node=2 eval/score.py run=latest method=generate limit=1000
python eval/score.py run=latest suite=lm-eval tasks=[lambada_openai,piqa]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cleangpt import programs

if __name__ == "__main__":
    programs.score()  # a shell that completes looks for @hydra.main
