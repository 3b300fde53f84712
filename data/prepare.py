"""Prepare text for training: read or download it, cut it into splits, tokenize it, write token files.

python data/prepare.py dataset=shakespeare_char
python data/prepare.py dataset=text dataset.source=my.txt
python data/prepare.py dataset=text dataset.source='notes/**/*.md' dataset.tokenizer=bpe dataset.dir=data/notes
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cleangpt import programs

if __name__ == "__main__":
    programs.prepare()  # a shell that completes looks for @hydra.main
