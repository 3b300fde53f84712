"""Small models in folders as training leaves them, for the programs that open them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from cleangpt.basics import schema
from cleangpt.config import cli, command_line, composition
from cleangpt.config.experiment import parse, resolve
from cleangpt.config.programs import SampleConfig
from cleangpt.disk import weights
from cleangpt.disk.rundir import find, read_config
from cleangpt.models.build import build
from cleangpt.models.contract import LanguageModel
from cleangpt.sample.prompts import Reader
from cleangpt.tasks.arithmetic import Task
from cleangpt.tokens.tokenizers import Bytes, Characters
from helpers.configs import toy

LETTERS = Characters([*"\n abcdefghijklmnopqrstuvwxyz.,:|é€😀0123456789"])


def lively(model: LanguageModel, seed: int = 0) -> LanguageModel:
    """Weights so large that every token and every place matters."""
    model.initialise(torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def saved(folder: Path, tokenizer: Any = LETTERS, model: str = "llama_tiny", **changes: Any) -> Path:
    """A run directory whose best/ holds a model with random weights and this tokenizer; the task's own with None."""
    changes = {"model.block_size": 48, **changes}
    config = parse(toy(f"model={model}", **changes))
    task = Task(config.dataset)
    tokenizer = tokenizer or task.tokenizer
    if config.model.vocab_size is None:
        sized = config.model.model_copy(update={"vocab_size": max(tokenizer.vocab_size, task.tokenizer.vocab_size)})
        config = config.model_copy(update={"model": sized})
    config = resolve(config, task)
    folder.mkdir(parents=True, exist_ok=True)
    weights.save(folder / "best", weights.copy(lively(build(config.model))), config, tokenizer, {"step": 7})
    (folder / "metrics.jsonl").touch()
    return folder


def three_runs(folder: Path) -> SimpleNamespace:
    """Paths of run directories with random weights: of letters, of bytes, and of an adder of two digits."""
    made = {
        "letters": saved(folder / "letters"),
        "bytes": saved(folder / "bytes", Bytes(), "gpt_tiny"),
        "adder": saved(folder / "adder", None, **{"dataset.digits": 2}),
    }
    return SimpleNamespace(**{name: str(path) for name, path in made.items()})


def asked(*words: str) -> SampleConfig:
    """Return the settings of a command line of sample.py."""
    words = tuple(command_line.as_it_stands(word, SampleConfig) for word in words)
    cli.register_resolvers(SampleConfig)
    with initialize_config_dir(composition.CONF, version_base=None):
        return schema.parse(composition.plain(compose("sample", ["device=cpu", *words])), SampleConfig)


def opened(run: str):
    """Open a run as sample.py does: where it is, what was trained, and the reader of its prompts."""
    found = find(run)
    trained = read_config(found.folder / "config.json")
    return found, trained, Reader(found.folder, trained)
