"""Translate between config.json of Hugging Face's format and our `model` section.

A key that we know means something that our architectures do, or is refused; one that we don't know is refused too,
unless it is switched off, so that no model is ever loaded as one that it is not.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from cleangpt.basics.errors import UserError
from cleangpt.models import gpt, llama
from cleangpt.models.settings import AttentionSettings, ModelSettings

S = TypeVar("S", bound=AttentionSettings)
# Keys that describe, or act in training and sampling only: not in what the model computes.
SAYS_NOTHING = """
    architectures model_type torch_dtype dtype transformers_version use_cache task_specific_params bos_token_id
    eos_token_id pad_token_id sep_token_id decoder_start_token_id initializer_range n_ctx gradient_checkpointing
    torchscript id2label label2id problem_type pretraining_tp output_attentions output_hidden_states return_dict
    use_return_dict chunk_size_feed_forward n_special predict_special_tokens output_past num_labels use_bfloat16
    reorder_and_upcast_attn attn_pdrop resid_pdrop embd_pdrop attention_dropout hidden_dropout is_llama_config
    transformers.js_config unsloth_version unsloth_fixed max_window_layers finetuning_task tokenizer_class prefix
    license is_decoder
"""
# Keys of generate(), which older versions wrote into config.json.
SAMPLING = """
    max_length min_length do_sample temperature top_k top_p typical_p num_beams max_new_tokens num_beam_groups
    diversity_penalty repetition_penalty length_penalty early_stopping num_return_sequences no_repeat_ngram_size
    encoder_no_repeat_ngram_size bad_words_ids remove_invalid_values exponential_decay_length_penalty suppress_tokens
    begin_suppress_tokens forced_bos_token_id forced_eos_token_id output_scores return_dict_in_generate
"""
GELU = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}  # their names → ours
LLAMAS = ("llama", "mistral", "qwen3")
# Numbers: their name → ours, and what their class takes where a config.json has none.
GPT_NUMBERS: dict[str, tuple[str, float | None]] = {
    "vocab_size": ("vocab_size", 50257),
    "n_positions": ("block_size", 1024),
    "n_embd": ("n_embd", 768),
    "n_layer": ("n_layer", 12),
    "n_head": ("n_head", 12),
}
LLAMA_NUMBERS: dict[str, tuple[str, float | None]] = {
    "vocab_size": ("vocab_size", None),
    "hidden_size": ("n_embd", 4096),
    "intermediate_size": ("ffn_dim", None),
    "num_hidden_layers": ("n_layer", 32),
    "num_attention_heads": ("n_head", 32),
    "max_position_embeddings": ("block_size", None),
    "rms_norm_eps": ("norm_eps", 1e-6),
}
# What our architectures are, in their words.
GPT_IS = {"layer_norm_epsilon": 1e-5, "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False}
LLAMA_IS = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False}
# Options of ours that no class of theirs has, by class, and what a model is without them.
OFF = {"zero_init": False, "logit_softcap": None, "bigram_embedding": None}
PLAIN: dict[str | None, dict[str, Any]] = {
    "gpt2": {**OFF, "activation": "gelu_tanh", "qk_norm": False, "positions": "learned"},
    "llama": {**OFF, "activation": "swiglu", "positions": "rotary"},
}


def section(hf: dict[str, Any], where: str) -> AttentionSettings:
    """Make our model section of a config.json, complete; or a UserError that names what can't be represented."""
    kind = hf.get("model_type")
    known = _Known(hf, where)
    if kind == "gpt2":
        return _gpt(known)
    if kind in LLAMAS:
        return _llama(known, kind)
    raise UserError(
        f"{where} is a model of type {kind}, and CleanGPT has the architectures of gpt2 and of {', '.join(LLAMAS)}"
    )


class _Known:
    """A config.json that is read key by key; at the end no key may be left that could change the model."""

    def __init__(self, hf: dict[str, Any], where: str):
        self.hf, self.where = hf, where
        self.seen = {*SAYS_NOTHING.split(), *SAMPLING.split()}

    def get(self, key: str, default: Any = None) -> Any:
        self.seen.add(key)
        value = self.hf.get(key)
        return default if value is None else value

    def number(self, key: str, default: Any = None) -> Any:
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{self.where} can't be read: its `{key}` is {value!r}, and not a number")
        return value

    def numbers(self, table: dict[str, tuple[str, float | None]]) -> dict[str, Any]:
        return {ours: self.number(theirs, default) for theirs, (ours, default) in table.items()}

    def one_of(self, key: str, right: tuple[Any, ...], default: Any) -> Any:
        """Read a key; refuse what our architectures don't have."""
        value = self.get(key, default)
        if value not in right:
            raise self.refusal(key, value, f"CleanGPT's have {' or '.join(map(str, right))}")
        return value

    def must_be(self, **right: Any) -> None:
        """Refuse other values than these, which are the defaults too."""
        for key, value in right.items():
            self.one_of(key, (value,), value)

    def refusal(self, key: str, value: Any, why: str) -> UserError:
        return UserError(f"{self.where} has `{key}` {value}, and {why}: this model can't be represented here")

    def finish(self) -> None:
        for key, value in self.hf.items():
            off = value is None or value is False or value in ([], {})
            if key not in self.seen and not off and not key.startswith(("_", "summary_")):
                raise self.refusal(
                    key, value, "this version does not know what it does (take it out if it does not change the model)"
                )


def _gpt(known: _Known) -> gpt.Settings:
    made = {
        "name": "gpt",
        **known.numbers(GPT_NUMBERS),
        "activation": GELU[known.one_of("activation_function", tuple(GELU), "gelu_new")],
        "tied": known.get("tie_word_embeddings", True),
        "bias": True,
    }
    made["position_rows"] = made["block_size"]
    known.must_be(n_inner=4 * made["n_embd"], **GPT_IS, add_cross_attention=False)
    known.finish()
    return _checked(gpt.Settings, made, known.where)


def _llama(known: _Known, kind: str) -> llama.Settings:
    numbers = known.numbers(LLAMA_NUMBERS)
    base, scaling = _rope(known)
    heads, width = numbers["n_head"], {"qwen3": 128}.get(kind, numbers["n_embd"] // numbers["n_head"])
    made = {
        "name": "llama",
        **numbers,
        "norm_eps": float(numbers["norm_eps"]),
        "n_kv_head": known.number("num_key_value_heads", {"mistral": 8}.get(kind, heads)),
        "head_dim": known.number("head_dim", width),
        "tied": known.get("tie_word_embeddings", False),
        "rope_base": float(base),
        "rope_scaling": scaling,
        "qk_norm": kind == "qwen3",
    }
    known.must_be(**LLAMA_IS, rope_interleaved=False)
    _no_window(known, kind)
    known.finish()
    return _checked(llama.Settings, made, known.where)


def _no_window(known: _Known, kind: str) -> None:
    """Refuse sliding windows: Mistral's default is one of 4096, and Qwen3's is a switch."""
    window, uses = known.get("sliding_window"), known.get("use_sliding_window", kind != "qwen3")
    if kind == "mistral" and "sliding_window" not in known.hf:
        window = 4096
    if uses and window is not None:
        raise known.refusal("sliding_window", window, "CleanGPT's attention sees the whole context")
    layers = known.get("layer_types", [])
    if wrong := [layer for layer in layers if layer != "full_attention"]:
        raise known.refusal("layer_types", wrong[0], "CleanGPT's attention sees the whole context")


def _rope(known: _Known) -> tuple[float, dict[str, Any] | None]:
    """Read the base and the scaling of the rotary angles, as newer and older versions write them."""
    rope = {**known.get("rope_scaling", {}), **known.get("rope_parameters", {})}
    base = rope.pop("rope_theta", known.get("rope_theta", 10000.0))
    partial = rope.pop("partial_rotary_factor", None) or known.get("partial_rotary_factor", 1.0)
    if partial != 1:
        raise known.refusal("partial_rotary_factor", partial, "CleanGPT rotates the whole width of a head")
    kind = rope.pop("rope_type", None) or rope.get("type", "default")
    rope.pop("type", None)
    scaling: dict[str, Any] | None = None
    if kind == "llama3":
        try:
            scaling = {key: float(rope.pop(key)) for key in ("factor", "low_freq_factor", "high_freq_factor")}
            scaling["original_context"] = int(rope.pop("original_max_position_embeddings"))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{known.where} has an incomplete scaling of its rotary angles: {error}") from None
    elif kind != "default":
        raise known.refusal("rope_type", kind, "CleanGPT has default and llama3")
    if more := [key for key, value in rope.items() if value is not None]:
        raise known.refusal(more[0], rope[more[0]], f"rotary angles of type {kind} have nothing of that name here")
    return base, scaling


def _checked(schema: type[S], made: dict[str, Any], where: str) -> S:
    try:
        return schema.model_validate({**PLAIN[schema.hugging_face], **made, "dropout": 0.0, "attention": "auto"})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise UserError(f"{where} gives a model that CleanGPT has not: `model.{key}`: {first['msg']}") from None


# --------------------------------------------------------------------------------------------------------------
# Out


def held(model: ModelSettings) -> AttentionSettings:
    """Refuse a model that no class of theirs holds."""
    if model.hugging_face is None or not isinstance(model, AttentionSettings):
        raise UserError(
            f"no class of transformers holds a model.name={model.name}: sample and score the run "
            "as it is, or train a model=llama"
        )
    return model


def configuration(model: ModelSettings, dtype: str, special: Mapping[str, int | None]) -> dict[str, Any]:
    """Describe a model of ours as config.json does, complete, so that no default of another program's takes part."""
    kind = held(model).hugging_face
    for key, plain in PLAIN[kind].items():
        value = getattr(model, key)
        if key != "zero_init" and value not in (plain, "gelu"):  # where training began does not matter
            raise UserError(
                f"no class of transformers has model.{key}={str(value).lower()}: use the run as it is, or train one "
                "without it"
            )
    if (rows := getattr(model, "position_rows", model.block_size)) != model.block_size:
        raise UserError(
            f"no class of transformers has model.position_rows={rows} beside a context of "
            f"{model.block_size}: use the run as it is"
        )
    return {**_OUT[kind](model), **special, "dtype": dtype, "use_cache": True}


def _numbers(model: AttentionSettings, table: dict[str, tuple[str, float | None]]) -> dict[str, Any]:
    return {theirs: getattr(model, ours) for theirs, (ours, _) in table.items()}


def _gpt_out(model: gpt.Settings) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        **_numbers(model, GPT_NUMBERS),
        **GPT_IS,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), model.dropout),
        "n_inner": None,
        "activation_function": "gelu" if model.activation == "gelu" else "gelu_new",
        "reorder_and_upcast_attn": False,
        "tie_word_embeddings": model.tied,
    }


def _llama_out(model: llama.Settings) -> dict[str, Any]:
    """Describe a Llama, or with normalised queries and keys a Qwen3, which is a Llama with these."""
    if model.n_embd % model.n_head and not model.qk_norm:
        raise UserError(
            f"format=hf can't hold this model: Llama's classes need model.n_embd={model.n_embd} to be a multiple of "
            f"model.n_head={model.n_head}"
        )
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": model.rope_base}
    if model.rope_scaling:
        rope |= {"rope_type": "llama3", **model.rope_scaling.model_dump()}
        rope["original_max_position_embeddings"] = rope.pop("original_context")
    before_version_5 = {key: rope[key] for key in rope if key != "rope_theta"} if model.rope_scaling else None
    made: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **_numbers(model, LLAMA_NUMBERS),
        **LLAMA_IS,
        "num_key_value_heads": model.n_kv_head,
        "head_dim": model.head_dim,
        "attention_dropout": 0.0,
        "tie_word_embeddings": model.tied,
        "rope_parameters": rope,
        "rope_theta": model.rope_base,
        "rope_scaling": before_version_5,
    }
    if model.qk_norm:
        made |= {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}
        made |= {"use_sliding_window": False, "sliding_window": None}
        del made["mlp_bias"]
    return made


_OUT: dict[str | None, Callable[[Any], dict[str, Any]]] = {"gpt2": _gpt_out, "llama": _llama_out}
