"""Small models of transformers' classes, and of ours in their format."""

import torch
import transformers  # whose classes are loaded where they are first used: that takes seconds

from cleangpt.config import experiment
from cleangpt.disk import weights
from cleangpt.models import gpt, llama
from cleangpt.models.build import build
from cleangpt.tokens import tokenizers
from helpers.configs import PLAIN
from helpers.pretrained import TINY, randomize

VOCABULARY = 300
TEXT = "The quick brown fox jumps over the lazy dog. " * 3 + "How vexingly quick daft zebras jump! 12 + 34 = 46\n" * 3
GPT2 = {"vocab_size": VOCABULARY, **TINY}
LLAMA = {"vocab_size": VOCABULARY, "max_position_embeddings": 40, "hidden_size": 32, "num_hidden_layers": 2}
LLAMA |= {"num_attention_heads": 4, "intermediate_size": 48}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"original_max_position_embeddings": 16}

THEIRS = {
    "gpt2": lambda: transformers.GPT2Config(**GPT2),
    "gpt2-untied": lambda: transformers.GPT2Config(**GPT2, tie_word_embeddings=False),
    "gpt2-odd-widths": lambda: transformers.GPT2Config(
        **{**GPT2, "n_embd": 33, "n_head": 3}, activation_function="gelu_pytorch_tanh"
    ),
    "llama": lambda: transformers.LlamaConfig(**LLAMA),
    "llama-grouped-tied-wide": lambda: transformers.LlamaConfig(
        **LLAMA, num_key_value_heads=2, head_dim=14, tie_word_embeddings=True, rms_norm_eps=1e-5
    ),
    "llama-3": lambda: transformers.LlamaConfig(**LLAMA, rope_parameters=LLAMA3, num_key_value_heads=1),
    "mistral": lambda: transformers.MistralConfig(**LLAMA, num_key_value_heads=2, sliding_window=None),
    "qwen3": lambda: transformers.Qwen3Config(**LLAMA, num_key_value_heads=2, head_dim=10, tie_word_embeddings=True),
}
TOKENS = torch.randint(VOCABULARY, (3, 30), generator=torch.Generator().manual_seed(0))
END = tokenizers.END


ARITHMETIC = [*"0123456789+*=", "\n", " "]
OURS = {
    "gpt": {"name": "gpt", "bias": True, "tied": True},
    "gpt-exact-gelu": {"name": "gpt", "bias": True, "tied": True, "activation": "gelu"},
    "gpt-without-biases": {"name": "gpt", "bias": False, "tied": False},
    "llama": {"name": "llama", "tied": False},
    "llama-long": {"name": "llama", "n_kv_head": 2, "head_dim": 12, "tied": True, "rope_base": 100.0},
    "llama-qk-norm": {"name": "llama", "n_kv_head": 1, "qk_norm": True, "tied": False, "n_embd": 30, "head_dim": 8},
}
OURS["llama-long"]["rope_scaling"] = {
    "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 3.0, "original_context": 12
}  # fmt: skip


def our_section(**changes):
    common = {"n_layer": 2, "n_embd": 32, "n_head": 4, "block_size": 40, "dropout": 0.1, "attention": "auto"}
    common |= {"vocab_size": VOCABULARY}
    if changes["name"] == "gpt":
        config = {**common, **PLAIN["gpt"], **changes}
        return gpt.Settings(**{"position_rows": config["block_size"], **config})
    own = {"head_dim": 8, "n_kv_head": 4, "ffn_dim": 48, "rope_base": 1e4, "rope_scaling": None, "norm_eps": 1e-5}
    return llama.Settings(**{**common, **own, **PLAIN["llama"], **changes})


def save_ours(path, section, tokenizer):
    model = build(section)
    model.initialise(torch.Generator().manual_seed(0))
    randomize(model)
    made = experiment.Imported(source="nowhere", dataset=None, model=section)
    weights.save(path, weights.copy(model), made, tokenizer, {"step": 7, "val/loss": 1.25})
    return model
