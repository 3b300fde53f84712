"""Prepare text for training: read or download it, cut it into splits, tokenize it, write token files.

python data/prepare.py dataset=shakespeare_char
python data/prepare.py dataset=text dataset.source=my.txt
python data/prepare.py dataset=text dataset.source='notes/**/*.md' dataset.tokenizer=bpe dataset.dir=data/notes
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from cleangpt.machine import beginning

if __name__ == "__main__":
    beginning.program()

from cleangpt.config import cli
from cleangpt.config.asked import Asked
from cleangpt.config.programs import PrepareConfig


def main(asked: Asked[PrepareConfig]) -> int:
    from cleangpt.corpus import report

    return report.prepare(asked.config.dataset, asked.config.workers, asked.config.force)


if __name__ == "__main__":
    cli.start(main, PrepareConfig, "prepare")  # a shell that completes looks for @hydra.main
