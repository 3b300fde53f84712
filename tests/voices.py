"""Small models in folders as training leaves them, for the programs that open them."""

from pathlib import Path
from typing import Any

import torch
from helpers import toy

from cleangpt.config.experiment import parse, resolve
from cleangpt.models.build import build
from cleangpt.models.contract import LanguageModel
from cleangpt.runs import weights
from cleangpt.tasks.arithmetic import Task
from cleangpt.tokens.tokenizers import Characters

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
