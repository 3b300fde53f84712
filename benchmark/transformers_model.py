"""Put our weights into transformers' own class."""

from typing import Any

from torch import Tensor, nn

from cleangpt.basics import extras
from cleangpt.basics.errors import UserError
from cleangpt.models.contract import LanguageModel


def build(model: LanguageModel) -> Any:
    """Build transformers' model with our weights."""
    try:
        from transformers import AutoConfig, AutoModelForCausalLM
        from transformers.utils import logging
    except ModuleNotFoundError:
        raise UserError(f"against=transformers needs transformers: install it by `{extras.command('hf')}`") from None
    from cleangpt.hf import architecture, tensors

    logging.set_verbosity_error()
    parameter = next(model.parameters())
    dtype = str(parameter.dtype).removeprefix("torch.")
    ends: dict[str, int | None] = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    config = architecture.held(model.config)
    about = architecture.configuration(config, dtype, ends)
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(**about), dtype=parameter.dtype)
    made.load_state_dict(tensors.converted(model.state_dict(), config, parameter.dtype), strict=False)
    made.tie_weights()
    made.generation_config.eos_token_id = None
    made.generation_config.pad_token_id = 0
    return made.to(parameter.device).eval()


class Logits(nn.Module):
    """A module of tokens (B, T) → logits (B, T, V), as a training loop calls it."""

    def __init__(self, model: LanguageModel):
        super().__init__()
        self.theirs = build(model)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.theirs(input_ids=tokens, use_cache=False).logits
