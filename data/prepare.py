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

import hydra
from omegaconf import DictConfig

from cleangpt.basics import schema
from cleangpt.config import cli, composition
from cleangpt.config.programs import PrepareConfig


@hydra.main(version_base=None, config_path=composition.CONF, config_name="prepare")
def main(config: DictConfig) -> None:
    cli.run(lambda: prepare(schema.parse(composition.plain(config), PrepareConfig)))


def prepare(config: PrepareConfig) -> int:
    from cleangpt.corpus import report

    return report.prepare(config)


if __name__ == "__main__":
    cli.start(main, PrepareConfig, "prepare")
