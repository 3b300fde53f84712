"""Architectures by name, built from their section of the configuration."""

import torch

from cleangpt.config import ModelConfig
from cleangpt.models.gpt import GPT
from cleangpt.models.layers import Decoder
from cleangpt.models.llama import Llama

MODELS: dict[str, type[Decoder]] = {"gpt": GPT, "llama": Llama}


def build(config: ModelConfig, device: torch.device | str = "cpu") -> Decoder:
    """The model of this (resolved) configuration, its weights not set yet."""
    with torch.device("meta"):
        model = MODELS[config.name](config)
    return model.to_empty(device=device)


def parameter_counts(model: Decoder) -> dict[str, int]:
    """How many weights there are, how many of them are no embeddings, and how many are not frozen."""
    total = sum(p.numel() for p in model.parameters())
    embeddings = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Embedding))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {"total": total, "without_embeddings": total - embeddings, "trained": trained}
