"""Translate tensors of Hugging Face's format to ours and back: their names, and which way round they lie.

GPT-2's linear layers are stored as (in, out), ours and Llama's as (out, in). Nothing else differs but names.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from cleangpt.basics.errors import UserError
from cleangpt.basics.words import counted
from cleangpt.disk import weights
from cleangpt.hf import hub
from cleangpt.models.build import build, count_parameters
from cleangpt.models.settings import AttentionSettings

REMEDY = ": fetch it again"
GPT = {
    "token_embedding": "transformer.wte",
    "position_embedding": "transformer.wpe",
    "blocks.{}.norm_1": "transformer.h.{}.ln_1",
    "blocks.{}.attention.qkv": "transformer.h.{}.attn.c_attn",
    "blocks.{}.attention.out": "transformer.h.{}.attn.c_proj",
    "blocks.{}.norm_2": "transformer.h.{}.ln_2",
    "blocks.{}.mlp.up": "transformer.h.{}.mlp.c_fc",
    "blocks.{}.mlp.down": "transformer.h.{}.mlp.c_proj",
    "norm": "transformer.ln_f",
    "head": "lm_head",
}
LLAMA = {
    "token_embedding": "model.embed_tokens",
    "blocks.{}.norm_1": "model.layers.{}.input_layernorm",
    "blocks.{}.attention.query": "model.layers.{}.self_attn.q_proj",
    "blocks.{}.attention.key": "model.layers.{}.self_attn.k_proj",
    "blocks.{}.attention.value": "model.layers.{}.self_attn.v_proj",
    "blocks.{}.attention.out": "model.layers.{}.self_attn.o_proj",
    "blocks.{}.attention.query_norm": "model.layers.{}.self_attn.q_norm",
    "blocks.{}.attention.key_norm": "model.layers.{}.self_attn.k_norm",
    "blocks.{}.norm_2": "model.layers.{}.post_attention_layernorm",
    "blocks.{}.mlp.gate": "model.layers.{}.mlp.gate_proj",
    "blocks.{}.mlp.up": "model.layers.{}.mlp.up_proj",
    "blocks.{}.mlp.down": "model.layers.{}.mlp.down_proj",
    "norm": "model.norm",
    "head": "lm_head",
}
# By the class that holds a model, which its settings say.
NAMES: dict[str | None, dict[str, str]] = {"gpt2": GPT, "llama": LLAMA}
PREFIX: dict[str | None, str] = {"gpt2": "transformer.", "llama": "model."}  # a model saved without its head has none
# Masks and angles that older versions stored: they follow from the configuration.
BUFFER = re.compile(r"(h\.\d+\.attn\.(masked_)?bias|layers\.\d+\.self_attn\.rotary_emb\.inv_freq)$")


def _theirs(name: str, model: AttentionSettings) -> tuple[str, bool]:
    """Translate the name of one of our tensors; and whether it lies the other way round there."""
    module, _, kind = name.rpartition(".")
    number = re.search(r"\.(\d+)\.", name)
    pattern = module.replace(f".{number[1]}.", ".{}.", 1) if number else module
    there = NAMES[model.hugging_face][pattern].replace("{}", number[1] if number else "")
    linear = kind == "weight" and pattern.split(".")[-1] in ("qkv", "out", "up", "down")
    return f"{there}.{kind}", linear and model.hugging_face == "gpt2"


def read(folder: Path, model: AttentionSettings) -> dict[str, Tensor]:
    """Read a folder as the state dict of our model, in float32. Its context may be shorter than theirs."""
    places = {_canonical(name, model): (path, name) for path, name in _stored(folder)}
    if len(places) < model.n_layer:  # which may be any number
        asked, there = counted(model.n_layer, "layer"), counted(len(places), "tensor")
        raise UserError(f"{folder} has {there}, and its config.json asks for {asked}")
    count_parameters(model)
    wanted = build(model, "meta").state_dict()
    tensors = {}
    for name, like in wanted.items():
        there, turned = _theirs(name, model)
        if there not in places:
            raise UserError(f"{folder} has no tensor {there}, which its config.json asks for: fetch it again")
        path, stored = places.pop(there)
        with weights.opened(path, REMEDY) as file:
            tensor = weights.usable(file.get_tensor(stored), stored, path)
        if name.startswith("position_embedding"):
            tensor = tensor[: model.block_size]
        tensors[name] = (tensor.T if turned else tensor).contiguous()
        if tensors[name].shape != like.shape:
            shapes = [tuple(x.shape) for x in (tensors[name], like)]
            raise UserError(f"{path} has {stored} of shape {shapes[0]}, and its config.json asks for {shapes[1]}")
    if model.tied and (head := places.pop("lm_head.weight", None)):
        with weights.opened(head[0], REMEDY) as file:
            if not torch.equal(file.get_tensor(head[1]).float(), tensors["token_embedding.weight"]):
                raise UserError(f"{folder} holds a head of its own, and its config.json says that it is the embedding")
    if places:
        raise UserError(f"{folder} holds a tensor {min(places)}, which CleanGPT's architectures have not")
    return tensors


def _stored(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in hub.weight_files(folder):
        with weights.opened(path, REMEDY) as file:
            for name in file.keys():  # noqa: SIM118 it is no dict
                if not BUFFER.search(name):
                    yield path, name


def _canonical(name: str, model: AttentionSettings) -> str:
    prefix = PREFIX[model.hugging_face]
    return name if name.startswith((prefix, "lm_head.")) else prefix + name


def converted(tensors: dict[str, Tensor], model: AttentionSettings, dtype: torch.dtype) -> dict[str, Tensor]:
    """Rename and turn our tensors. A GPT without biases gets biases of zero, which their class always has."""
    made = {}
    for name, tensor in tensors.items():
        there, turned = _theirs(name, model)
        made[there] = (tensor.T if turned else tensor).to(dtype).contiguous()
        if not has_biases(model) and not there.startswith(("transformer.wte", "transformer.wpe", "lm_head")):
            made[there.removesuffix("weight") + "bias"] = torch.zeros(tensor.shape[0], dtype=dtype)
    return made


def has_biases(model: AttentionSettings) -> bool:
    """Tell whether a model has the biases that its class has: a Llama, whose class has none, or a GPT with them."""
    return getattr(model, "bias", True)
