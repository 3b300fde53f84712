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

import hydra  # noqa: E402
from omegaconf import DictConfig  # noqa: E402

from cleangpt.config import cli, composition  # noqa: E402
from cleangpt.config.experiment import Config  # noqa: E402
from cleangpt.sweeps import settings  # noqa: E402


@hydra.main(version_base=None, config_path=composition.CONF, config_name="train")
def main(config: DictConfig) -> None:
    from cleangpt.train import launch

    launch.train(composition.plain(config), BEGAN)


if __name__ == "__main__":
    cli.start(main, Config, "train", sweeps=settings)
