"""Score a trained model on problems that it never saw.

python eval/score.py run=outputs/latest
python eval/score.py run=<run>/snapshots/step_00000500 split=val
torchrun --nproc-per-node=2 eval/score.py run=latest method=generate limit=1000
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import hydra
from omegaconf import DictConfig

from cleangpt import cli, schema
from cleangpt.config import ScoreConfig
from cleangpt.rundir import RunDir, find, read_config


@hydra.main(version_base=None, config_path=cli.CONF, config_name="score")
def main(config: DictConfig) -> None:
    cli.run(lambda: score(schema.parse(cli.plain(config), ScoreConfig)))


def score(settings: ScoreConfig) -> int:
    opened = find(settings.run)
    from rich.console import Console

    from cleangpt import device, distributed, scoring, snapshot, tasks, weights
    from cleangpt.evaluate import Judge

    snapshot.refuse_damage(opened.folder)

    trained = read_config(opened.folder / "config.json")
    compute = device.choose(settings.device, "float32", distributed.world().local_rank)
    device.share_threads(distributed.world().local_size)
    world = distributed.start(compute.device)
    try:
        task = tasks.make(trained.dataset)
        judge = Judge(weights.load_model(opened.folder, trained, compute.device), compute.device, world)
        found = task.score(judge, settings.split, settings.limit, settings.method)
        if world.is_main:
            about = weights.about(opened.folder)
            console = Console(highlight=False, soft_wrap=True)
            console.print(f"{opened.folder}, step {about.get('step', 'unknown')}, {compute.name}", markup=False)
            for table in task.tables(found):
                console.print(table)
            if found["forced_equals_decoded"]:
                same = (
                    f"The same verdict as by real decoding on all {found['forced_equals_decoded']} problems compared."
                )
                console.print(same, markup=False)
            folder = (opened.run or RunDir(opened.folder)).score
            paths = scoring.save(task, found, folder, opened.label)
            console.print(f"Scored in {found['seconds']:.1f} s. Written:", markup=False)
            for path in paths:
                console.print(f"    {path}", markup=False)
    finally:
        distributed.stop()
    return 0


if __name__ == "__main__":
    cli.start(main, ScoreConfig, "score")
