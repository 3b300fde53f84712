"""Score a trained model on problems that it never saw.

python eval/score.py run=outputs/latest
python eval/score.py run=<run>/snapshots/step_00000500 split=val
torchrun --nproc-per-node=2 eval/score.py run=latest method=generate limit=1000
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import hydra
from omegaconf import DictConfig

from cleangpt import cli, schema
from cleangpt.config import Config, ScoreConfig
from cleangpt.rundir import RunDir, find, read_config


@hydra.main(version_base=None, config_path=cli.CONF, config_name="score")
def main(config: DictConfig) -> None:
    cli.run(lambda: score(schema.parse(cli.plain(config), ScoreConfig)))


def refuse_damage(folder: Path) -> None:
    """A snapshot says itself whether it is whole."""
    from cleangpt import snapshot
    from cleangpt.errors import UserError

    if (folder / snapshot.MANIFEST).exists() and (wrong := snapshot.damage(folder)):
        raise UserError(f"{folder} is damaged ({wrong}): score another snapshot, best/ or final/")


def task_to_score(trained: Config, data: str | None, folder: Path) -> Any:
    """The task of a run, on other data perhaps. Its tokens have to mean what they meant to the model."""
    from cleangpt import tasks, weights
    from cleangpt.errors import UserError

    dataset = trained.dataset
    if data is not None:
        if not hasattr(dataset, "dir"):
            raise UserError(f"`data` is for text, and this run learned {dataset.name}: leave it out")
        dataset = dataset.model_copy(update={"dir": data})
    task = tasks.make(dataset, trained.model.block_size)
    if task.tokenizer.to_json() != weights.load_tokenizer(folder).to_json():
        raise UserError(
            f"{dataset.dir} was prepared with another tokenizer than the model's: prepare the text with "
            f"dataset.tokenizer={folder / 'tokenizer.json'}"
        )
    return task


def score(settings: ScoreConfig) -> int:
    opened = find(settings.run)
    refuse_damage(opened.folder)
    from rich.console import Console

    from cleangpt import device, distributed, scoring, weights
    from cleangpt.evaluate import Judge

    trained = read_config(opened.folder / "config.json")
    compute = device.choose(settings.device, "float32", distributed.world().local_rank)
    device.share_threads(distributed.world().local_size)
    world = distributed.start(compute.device)
    try:
        task = task_to_score(trained, settings.data, opened.folder)
        split = settings.split or ("test" if task.size("test") else "val")
        judge = Judge(weights.load_model(opened.folder, trained, compute.device), compute.device, world)
        found = task.score(judge, split, settings.limit, settings.method)
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
