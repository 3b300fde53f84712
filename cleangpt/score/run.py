"""A scoring from what was asked to the files it leaves: what eval/score.py does."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cleangpt.basics.errors import UserError
from cleangpt.basics.words import counted, seconds
from cleangpt.config import composition
from cleangpt.config.experiment import Config, Imported
from cleangpt.config.programs import ScoreConfig
from cleangpt.runs.rundir import Opened, RunDir, find, read_config, refuse_links_outside
from cleangpt.tasks.contract import Task
from cleangpt.terminal import patience


def score(settings: ScoreConfig) -> int:
    """Score a trained model, show the tables and write the files; the exit status."""
    _refuse_what_does_not_count(settings)
    opened = find(settings.run)
    around = opened.run or RunDir(opened.folder)
    refuse_links_outside(around.path)
    from cleangpt.terminal.console import Console

    patience.load_torch()
    with patience.doing("Loading the rest"):
        from cleangpt.machine import device, distributed
        from cleangpt.machine.signals import Stopped
        from cleangpt.runs import snapshot, weights
        from cleangpt.score.evaluate import Judge

    with patience.doing("Checking the snapshot"):
        snapshot.refuse_damage(opened.folder)

    trained = read_config(opened.folder / "config.json")
    compute = device.choose(settings.device, "float32", distributed.world().local_rank)
    device.share_threads(distributed.world().local_size)
    with patience.doing("Waiting for the other processes"):
        world = distributed.start(compute.device)
    console = Console(highlight=False, soft_wrap=True, quiet=not world.is_main)
    try:

        def judge() -> Judge:
            with patience.doing("Reading the weights"):
                model = weights.load_model(opened.folder, trained, compute.device)
                step = weights.about(opened.folder).get("step", "unknown") if world.is_main else ""
            console.print(f"{opened.folder}, step {step}, {compute.name}", markup=False)
            sys.stdout.flush()
            return Judge(model, compute.device, world)

        def show(table: Any) -> None:
            console.print(table)
            sys.stdout.flush()

        by = _by_the_harness if settings.suite == "lm-eval" else _on_its_task
        found, tables, save = by(settings, trained, opened, judge, show)
        if world.is_main:
            for table in tables():
                console.print(table)
            if compared := found.get("forced_equals_decoded"):
                same = (
                    f"The same verdict as by real decoding on {counted(compared, 'problem')}, all that were compared."
                )
                console.print(same, markup=False)
            with patience.doing("Drawing the pictures"):
                paths = save(around.score)
            console.print(f"Scored in {seconds(found['seconds'])}. Written:", markup=False)
            for path in paths:
                console.print(f"    {path}", markup=False)
    except Stopped as stopped:
        console.print(f"Stopped by {signal.Signals(stopped.args[0]).name}: nothing was written.", markup=False)
        return 128 + stopped.args[0]
    finally:
        distributed.stop()
    return 0


def _refuse_what_does_not_count(settings: ScoreConfig) -> None:
    """Each suite has keys of its own."""
    asked = {key: getattr(settings, key) for key in ("split", "data", "tasks", "fewshot", "include")}
    asked["method"] = None if settings.method == "auto" else settings.method
    theirs = ("tasks", "fewshot", "include")
    for key, value in asked.items():
        if value is not None and (key in theirs) != (settings.suite == "lm-eval"):
            raise UserError(f"`{key}` has no meaning with suite={settings.suite}: leave it out")
    if settings.suite == "lm-eval" and not settings.tasks:
        raise UserError("`tasks` is missing: name tasks of the harness, as in tasks=[lambada_openai,piqa]")


def _on_its_task(settings: ScoreConfig, trained: Config | Imported, opened: Opened, judge: Callable, show: Callable):
    """Score it on what it was trained for; also return how to show the score, and how to save it."""
    from cleangpt.machine.signals import Stop
    from cleangpt.score import keep, of_task
    from cleangpt.score.evaluate import Watch

    task = _task_to_score(trained, settings.data, opened.folder)
    split = settings.split or ("test" if task.size("test") else "val")
    with Stop() as stop:
        judging = judge()
        judging.stop = stop
        found = of_task.score(task, judging, split, settings.limit, settings.method, watch=Watch(show))
    label = opened.label

    def save(folder: Path) -> list[Path]:
        return [keep.save(found, folder, label), *keep.draw(task, found, folder, label)]

    return found, lambda: of_task.tables(task, found), save


def _task_to_score(trained: Config | Imported, data: str | None, folder: Path) -> Task:
    """Make the task of a run, on other data perhaps. Its tokens have to mean what they meant to the model."""
    from cleangpt import tasks
    from cleangpt.runs import weights
    from cleangpt.tokens import exchange

    dataset = trained.dataset
    if dataset is None:
        if data is None:
            raise UserError(
                f"{folder} was imported, and has no data of its own: name prepared text, as in "
                "data=data/shakespeare, or tasks of suite=lm-eval"
            )
        dataset = tasks.SETTINGS["text"](**OmegaConf.load(Path(composition.CONF) / "dataset" / "text.yaml"))
    if data is not None:
        if not hasattr(dataset, "dir"):
            raise UserError(f"`data` is for text, and this run learned {dataset.name}: leave it out")
        dataset = dataset.model_copy(update={"dir": data})
    task = tasks.make(dataset, trained.model.block_size)
    if why := exchange.difference(task.tokenizer, weights.load_tokenizer(folder)):
        if not hasattr(dataset, "dir"):
            raise UserError(f"{folder / 'tokenizer.json'} is not that of {dataset.name} ({why}): use another folder")
        raise UserError(
            f"{dataset.dir} was prepared with another tokenizer than the model's ({why}): prepare the text with "
            f"dataset.tokenizer={folder / 'tokenizer.json'}"
        )
    return task


def _by_the_harness(settings: ScoreConfig, trained: Config | Imported, opened: Opened, judge: Callable, show: Callable):
    """Score it on tasks of lm-evaluation-harness; also return how to show the score, and how to save it."""
    from cleangpt.basics import extras
    from cleangpt.runs import weights
    from cleangpt.score import keep

    try:
        with patience.doing("Loading lm-evaluation-harness"):
            from cleangpt.score import harness
    except ModuleNotFoundError as error:
        if error.name != "lm_eval":
            raise
        raise UserError(
            f"suite=lm-eval needs lm-evaluation-harness: install it by `{extras.command('lm-eval')}`"
        ) from None
    names = [settings.tasks] if isinstance(settings.tasks, str) else settings.tasks
    tokenizer = weights.load_tokenizer(opened.folder)
    found = harness.score(judge(), tokenizer, names, settings.include, settings.fewshot, settings.limit)
    label = f"{'-'.join(names)}_{opened.label}"[:100]
    return found, lambda: [harness.table(found)], lambda folder: keep.save_suite(found, folder, label)
