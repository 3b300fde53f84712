"""Models with random weights, as transformers saves them."""

import json
from pathlib import Path
from typing import Any

import torch

from cleangpt.tokens import exchange

TINY = {"n_positions": 40, "n_embd": 32, "n_layer": 2, "n_head": 4}


def save(folder: Path, made: Any, tokenizer: Any = None, **how: Any):
    """Save a model of this configuration of transformers', with a tokenizer of ours; the model."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = randomize(AutoModelForCausalLM.from_config(made))
    model.save_pretrained(folder, **how)
    if tokenizer is not None:
        (folder / "tokenizer.json").write_text(json.dumps(exchange.library(tokenizer)))
        about = exchange.configuration(tokenizer, 40)
        (folder / "tokenizer_config.json").write_text(json.dumps(about))
    return model


def save_gpt2(folder: Path, tokenizer: Any):
    from transformers import GPT2Config

    return save(folder, GPT2Config(**TINY, vocab_size=tokenizer.vocab_size), tokenizer)


def randomize(model: Any):
    """Weights away from initialisation, so that every one of them matters, biases and norms too."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape, generator=generator))
    return model.eval()
