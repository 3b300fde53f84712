"""A scoring from what was asked to the files it leaves: what eval/score.py does."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cleangpt import tasks
from cleangpt.basics import extras, files, schema
from cleangpt.basics.errors import UserError
from cleangpt.basics.words import counted, seconds
from cleangpt.config import composition
from cleangpt.config.experiment import Config, Imported, parse
from cleangpt.config.programs import ScoreConfig
from cleangpt.disk.rundir import Opened, RunDir, find, read_config, refuse_links_outside
from cleangpt.machine.signals import Stopped
from cleangpt.tasks.contract import Task, TaskWithAnswers
from cleangpt.terminal import patience
from cleangpt.tokens import exchange

if TYPE_CHECKING:
    from cleangpt.score.evaluate import Judge
    from cleangpt.terminal.narrow import Table


class Scored(NamedTuple):
    """A score, and what the first process makes of it."""

    found: dict[str, Any]
    tables: Callable[[], list["Table"]]
    write: Callable[[Path], list[Path]]  # into a folder; the files


class Result(NamedTuple):
    """What a scoring found, as tables too, and the files that it wrote."""

    found: dict[str, Any]
    tables: list["Table"]
    paths: list[Path]


def score(settings: ScoreConfig) -> int:
    """Score a trained model, show the tables and name the files; the exit status."""
    from cleangpt.terminal.console import Console

    console = Console(highlight=False, soft_wrap=True, quiet=os.environ.get("RANK", "0") != "0")

    def say(what: Any) -> None:
        console.print(what, markup=False)
        sys.stdout.flush()

    try:
        result = scored(settings, say)
    except Stopped as stopped:
        say(f"Stopped by {signal.Signals(stopped.args[0]).name}: nothing was written.")
        return 128 + stopped.args[0]
    if result is not None:
        say(f"Scored in {seconds(result.found['seconds'])}. Written:")
        for path in result.paths:
            say(f"    {path}")
    return 0


def scored(settings: ScoreConfig, say: Callable[[Any], None]) -> Result | None:
    """Score a trained model and write the files. `say` gets the tables; of several processes the first has a result."""
    _refuse_what_does_not_count(settings)
    opened = find(settings.run)
    around = opened.run or RunDir(opened.folder)
    refuse_links_outside(around.path)

    patience.load_torch()
    with patience.doing("Loading the rest"):
        from cleangpt.disk import weights
        from cleangpt.machine import session
        from cleangpt.score.evaluate import Judge
        from cleangpt.snapshots import snapshot

    with patience.doing("Checking the snapshot"):
        snapshot.refuse_damage(opened.folder)

    trained = read_config(opened.folder / "config.json")
    if isinstance(settings.sets, dict):
        trained = _with_sets(trained, settings.sets)
    with session.together(settings.device, "float32") as (compute, world):

        def judge() -> Judge:
            with patience.doing("Reading the weights"):
                model = weights.load_model(opened.folder, trained, compute.device)
                step = weights.about(opened.folder).get("step", "unknown") if world.is_main else ""
            say(f"{opened.folder}, step {step}, {compute.name}")
            return Judge(model, compute.device, world)

        if settings.suite == "lm-eval":
            found, tables, write = _by_the_harness(settings, opened, judge)
        else:
            task = _task_to_score(trained, settings.data, opened.folder)
            found, tables, write = _on_its_task(settings, task, opened.label, judge, say)
        if not world.is_main:
            return None
        shown = tables()
        for table in shown:
            say(table)
        if compared := found.get("forced_equals_decoded"):
            say(f"The same verdict as by real decoding on {counted(compared, 'problem')}, all that were compared.")
        with patience.doing("Drawing the pictures"):
            return Result(found, shown, write(around.score))


def _refuse_what_does_not_count(settings: ScoreConfig) -> None:
    """Refuse the keys of the other suite."""
    asked = {key: getattr(settings, key) for key in ("split", "data", "tasks", "fewshot", "include")}
    asked |= {"sets": settings.sets, "ask": settings.ask if settings.ask.temperature or settings.ask.prefix else None}
    asked["method"] = None if settings.method == "auto" else settings.method
    theirs = ("tasks", "fewshot", "include")
    for key, value in asked.items():
        if value is not None and (key in theirs) != (settings.suite == "lm-eval"):
            raise UserError(f"`{key}` has no meaning with suite={settings.suite}: leave it out")
    if settings.suite == "lm-eval" and not settings.tasks:
        raise UserError("`tasks` is missing: name tasks of the harness, as in tasks=[lambada_openai,piqa]")


def _on_its_task(
    settings: ScoreConfig, task: Task, label: str, judge: Callable[[], "Judge"], show: Callable[[Any], None]
) -> Scored:
    """Score a model on what it was trained for."""
    from cleangpt.machine.signals import Stop
    from cleangpt.score import of_task
    from cleangpt.score.asking import Ask
    from cleangpt.score.evaluate import Watch

    split = settings.split or ("test" if task.size("test") else "val")
    sets = task.sets if isinstance(task, TaskWithAnswers) else []
    if wrong := sorted(set(settings.sets or ()) - set(sets)):
        raise UserError(f"`sets` names {wrong[0]}, which the task does not have: it has {', '.join(sets) or 'none'}")
    prefix = settings.ask.prefix.replace("\\n", "\n")  # as a command line writes it
    ask = Ask(prefix, settings.ask.temperature, settings.ask.top_k, settings.ask.samples)
    if not task.has_answers and ask != Ask():
        raise UserError("`ask` is for problems with one right answer, and this run learned text: leave it out")
    if split not in (there := ["test", "val", "train", *sets]):
        raise UserError(f"`split` is {split}, which {task.settings.name} does not have: there are {', '.join(there)}")
    with Stop() as stop:
        judging = judge()
        judging.stop = stop
        chosen = None if isinstance(settings.sets, dict) else settings.sets
        more = {"ask": ask, "sets": chosen} if task.has_answers else {}
        found = of_task.score(task, judging, split, settings.limit, settings.method, watch=Watch(show), **more)

    if isinstance(settings.sets, dict):
        label += "_sets"  # beside what was scored on the sets of the run

    def write(folder: Path) -> list[Path]:
        return [of_task.save(found, folder, label), *of_task.draw(task, found, folder, label)]

    return Scored(found, lambda: of_task.tables(task, found), write)


def _with_sets(trained: Config | Imported, sets: dict[str, Any]) -> Config:
    """Ask a run for other further sets than its own, whose problems may be longer."""
    if not isinstance(trained, Config) or "sets" not in type(trained.dataset).model_fields:
        raise UserError("`sets` describes sets of arithmetic, which this run did not learn: leave it out")
    dataset, model = schema.parse({**trained.dataset.model_dump(), "sets": sets}, type(trained.dataset)), trained.model
    needed, longest = dataset.sequence_length, model.longest_context  # type: ignore[attr-defined]
    positions = dataset.position_rows or needed  # type: ignore[attr-defined]
    if longest is not None and positions > longest:
        raise UserError(
            f"`sets` has problems of {positions} positions, and the model learned {longest}: name shorter ones, or "
            "train with them as dataset.sets, or with another model.positions"
        )
    model = model.model_copy(update={"block_size": max(needed, model.block_size)})
    return trained.model_copy(update={"dataset": dataset, "model": model})


def _task_to_score(trained: Config | Imported, data: str | None, folder: Path) -> Task:
    """Make the task of a run, on other data perhaps. Its tokens have to mean what they meant to the model."""
    from cleangpt.disk import weights

    dataset = trained.dataset
    if dataset is None:
        if data is None:
            raise UserError(
                f"{folder} was imported, and has no data of its own: name prepared text, as in "
                "data=data/shakespeare, or tasks of suite=lm-eval"
            )
        dataset = parse(composition.defaults("train", "dataset=text")).dataset
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


def _by_the_harness(settings: ScoreConfig, opened: Opened, judge: Callable[[], "Judge"]) -> Scored:
    """Score a model on tasks of lm-evaluation-harness, which shows its progress itself."""
    from cleangpt.disk import weights

    try:
        with patience.doing("Loading lm-evaluation-harness"):
            from cleangpt.score import harness
    except ModuleNotFoundError as error:
        if error.name != "lm_eval":
            raise
        raise UserError(
            f"suite=lm-eval needs lm-evaluation-harness: install it by `{extras.command('lm-eval')}`"
        ) from None
    names = [settings.tasks] if isinstance(settings.tasks, str) else settings.tasks or []
    tokenizer = weights.load_tokenizer(opened.folder)
    found = harness.score(judge(), tokenizer, names, settings.include, settings.fewshot, settings.limit)

    def write(folder: Path) -> list[Path]:
        folder.mkdir(exist_ok=True)
        label = f"{'-'.join(names)}_{opened.label}"[:100]
        path = folder / f"lm-eval_{label}.json"
        files.write_json(path, found)
        return [path]

    return Scored(found, lambda: [harness.table(found)], write)
