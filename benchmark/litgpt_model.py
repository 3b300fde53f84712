"""Put our weights into litgpt's own class, which has Llama's architecture and not GPT-2's positions."""

from typing import Any

import torch
from torch import Tensor

from cleangpt.basics.errors import UserError
from cleangpt.models.contract import LanguageModel
from cleangpt.models.llama import Settings

NAMES = {
    "token_embedding": "transformer.wte",
    "norm_1": "norm_1",
    "norm_2": "norm_2",
    "attention.out": "attn.proj",
    "attention.query_norm": "attn.norm_q",
    "attention.key_norm": "attn.norm_k",
    "mlp.gate": "mlp.fc_1",
    "mlp.up": "mlp.fc_2",
    "mlp.down": "mlp.proj",
    "norm": "transformer.ln_f",
    "head": "lm_head",
}


def build(model: LanguageModel) -> Any:
    """Build litgpt's model with our weights: tokens (B, T) → logits (B, T, V)."""
    config = model.config
    if not isinstance(config, Settings) or config.tied or config.dropout:
        raise UserError(
            "against=litgpt is for models as litgpt has them: use model=llama model.tied=false model.dropout=0.0"
        )
    try:
        import litgpt
    except ModuleNotFoundError:
        raise UserError(
            "against=litgpt needs litgpt: pip install litgpt, in an environment of its own, since it asks for older "
            "versions of what transformers needs"
        ) from None
    scaling = config.rope_scaling
    theirs = litgpt.GPT(
        litgpt.Config(
            block_size=config.block_size,
            n_layer=config.n_layer,
            n_embd=config.n_embd,
            n_head=config.n_head,
            head_size=config.head_dim,
            n_query_groups=config.n_kv_head,
            vocab_size=config.vocab_size,
            padded_vocab_size=config.vocab_size,
            norm_class_name="RMSNorm",
            norm_eps=config.norm_eps,
            norm_qk=config.qk_norm,
            parallel_residual=False,
            bias=False,
            mlp_class_name="LLaMAMLP",
            intermediate_size=config.ffn_dim,
            rotary_percentage=1.0,
            rope_base=config.rope_base,
            rope_adjustments=scaling
            and {
                "factor": scaling.factor,
                "low_freq_factor": scaling.low_freq_factor,
                "high_freq_factor": scaling.high_freq_factor,
                "original_max_seq_len": scaling.original_context,
            },
        )
    )
    theirs.load_state_dict(converted(model.state_dict()))
    return theirs.to(next(model.parameters()).device)


def converted(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put our tensors under their names; queries, keys and values lie in one matrix there."""
    made = {}
    for name, tensor in weights.items():
        module, _, kind = name.rpartition(".")
        prefix, inner = "", module
        if module.startswith("blocks."):
            _, number, inner = module.split(".", 2)
            prefix = f"transformer.h.{number}."
        if inner == "attention.query":
            parts = [weights[name.replace("query", part)] for part in ("query", "key", "value")]
            made[f"{prefix}attn.qkv.{kind}"] = torch.cat(parts)
        elif inner not in ("attention.key", "attention.value"):
            made[f"{prefix}{NAMES[inner]}.{kind}"] = tensor
    return made
