"""Score a trained model on problems that it never saw.

python eval/score.py run=outputs/latest
python eval/score.py run=<run>/snapshots/step_00000500 split=val
torchrun --nproc-per-node=2 eval/score.py run=latest method=generate limit=1000
python eval/score.py run=latest suite=lm-eval tasks=[lambada_openai,piqa]
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from cleangpt.machine import beginning

if __name__ == "__main__":
    beginning.program()

from cleangpt.config import cli
from cleangpt.config.asked import Asked
from cleangpt.config.programs import ScoreConfig
from cleangpt.score import run


def main(asked: Asked[ScoreConfig]) -> int:
    return run.score(asked.config)


if __name__ == "__main__":
    cli.start(main, ScoreConfig, "score")  # a shell that completes looks for @hydra.main
