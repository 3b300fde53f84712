"""Train a model.

python train.py model=llama dataset=adder
torchrun --nproc-per-node=4 train.py model=gpt dataset=multiplier dataset.digits=2
python train.py experiment=adder train.steps=500
python train.py -m model=gpt,llama optimizer.lr=1e-3,3e-4 seed=0,1,2
python train.py --help
"""

import time

BEGAN = time.monotonic()

from cleangpt.machine import beginning  # noqa: E402

if __name__ == "__main__":
    beginning.program()

from cleangpt.config import cli  # noqa: E402
from cleangpt.config.asked import Asked  # noqa: E402
from cleangpt.config.experiment import Config  # noqa: E402
from cleangpt.sweeps import settings  # noqa: E402


def main(asked: Asked[Config]) -> int:
    from cleangpt.train import launch

    return launch.train(asked, BEGAN)


if __name__ == "__main__":
    cli.start(main, Config, "train", sweeps=settings)  # a shell that completes looks for @hydra.main
