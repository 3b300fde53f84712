"""Greedy decoding by our cache, by reading everything anew for each token, and by transformers on the same weights."""

from collections.abc import Callable
from typing import Any

import torch

from cleangpt import generate
from cleangpt.config import BenchConfig
from cleangpt.errors import UserError
from cleangpt.models.layers import Decoder

OURS, ANEW, THEIRS = "cleangpt", "without a cache", "transformers"


def sides(config: BenchConfig, model: Decoder, vocab_size: int) -> dict[str, Callable[[], int]]:
    """Each way with each number of texts: the first quarter of the context is the prompt, the rest is written."""
    model.eval()
    context = model.config.block_size
    length = max(1, context // 4)
    new = context - length
    theirs = as_theirs(model) if config.against == "transformers" else None
    found: dict[str, Callable[[], int]] = {}
    for batch in config.batches:
        generator = torch.Generator().manual_seed(config.seed)
        prompts = torch.randint(vocab_size, (batch, length), generator=generator).to(next(model.parameters()).device)
        found[f"{OURS}, batch {batch}"] = lambda p=prompts: generate.greedy(model, p, new).numel()
        if theirs is not None:
            found[f"{THEIRS}, batch {batch}"] = lambda p=prompts: _written_by(theirs, p, new)
        if config.against is not None:
            found[f"{ANEW}, batch {batch}"] = lambda p=prompts: _anew(model, p, new)
    return found


def ratios(medians: dict[str, float]) -> dict[str, dict[str, float]]:
    """How many times as fast as each other way we are, for each batch."""
    found: dict[str, dict[str, float]] = {}
    for name, median in medians.items():
        way, _, batch = name.partition(", ")
        if way != OURS:
            found.setdefault(batch, {})[way] = medians[f"{OURS}, {batch}"] / median
    return found


@torch.inference_mode()
def _anew(model: Decoder, prompts: torch.Tensor, new: int) -> int:
    read = prompts
    for _ in range(new):
        read = torch.cat([read, model(read)[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
    return new * len(read)


def _written_by(theirs: Any, prompts: torch.Tensor, new: int) -> int:
    mask = torch.ones_like(prompts)
    written = theirs.generate(prompts, attention_mask=mask, max_new_tokens=new, do_sample=False)
    assert written.shape[1] == prompts.shape[1] + new
    return new * len(prompts)


def as_theirs(model: Decoder) -> Any:
    """The same weights in transformers' own class."""
    try:
        from transformers import AutoConfig, AutoModelForCausalLM
        from transformers.utils import logging
    except ModuleNotFoundError:
        raise UserError("against=transformers needs transformers: pip install 'cleangpt[hf]'") from None
    from cleangpt.hf import architecture, tensors

    logging.set_verbosity_error()
    parameter = next(model.parameters())
    dtype = str(parameter.dtype).removeprefix("torch.")
    ends = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    about = architecture.configuration(model.config, dtype, ends)
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(**about), dtype=parameter.dtype)
    made.load_state_dict(tensors.converted(model.state_dict(), model.config, parameter.dtype), strict=False)
    made.tie_weights()
    made.generation_config.eos_token_id = None
    made.generation_config.pad_token_id = 0
    return made.to(parameter.device).eval()
