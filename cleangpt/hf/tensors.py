"""Translate tensors of Hugging Face's format to ours and back: their names, and which way round they lie.

GPT-2's linear layers are stored as (in, out), ours and Llama's as (out, in). Nothing else differs but names.
"""

import re
from pathlib import Path

import torch
from torch import Tensor

from cleangpt.basics.errors import UserError
from cleangpt.basics.words import counted
from cleangpt.hf import hub
from cleangpt.models.build import build, count_parameters
from cleangpt.models.settings import AttentionSettings
from cleangpt.stored import pieces, tensorfile

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


class Theirs:
    """The tensors of a folder as weights of our model, in float32. Its context may be shorter than theirs."""

    def __init__(self, folder: Path, model: AttentionSettings):
        self.where: Path | str = folder
        self.model = model
        self.stored = pieces.Stored(hub.weight_files(folder), in_pieces=False, remedy=REMEDY)
        names = [name for name in self.stored.shapes if not BUFFER.search(name)]
        self.places = {_canonical(name, model): name for name in names}
        if len(self.places) < model.n_layer:  # which may be any number
            asked, there = counted(model.n_layer, "layer"), counted(len(self.places), "tensor")
            raise UserError(f"{folder} has {there}, and its config.json asks for {asked}")
        count_parameters(model)
        self.shapes = {name: like.shape for name, like in build(model, "meta").state_dict().items()}
        unused = set(self.places)
        for name, shape in self.shapes.items():
            there, turned = _theirs(name, model)
            if there not in self.places:
                raise UserError(f"{folder} has no tensor {there}, which its config.json asks for: fetch it again")
            unused.discard(there)
            self._refuse_another_shape(self.places[there], turned, name, shape)
        if model.tied and "lm_head.weight" in unused:
            unused.discard("lm_head.weight")
            self._refuse_another_head()
        if unused:
            raise UserError(f"{folder} holds a tensor {min(unused)}, which CleanGPT's architectures have not")

    def _refuse_another_shape(self, stored: str, turned: bool, name: str, shape: torch.Size) -> None:
        found = list(reversed(self.stored.shapes[stored]) if turned else self.stored.shapes[stored])
        if name.startswith("position_embedding"):
            found[0] = min(found[0], self.model.block_size)
        if found != list(shape):
            path, shapes = self.stored.path_of(stored), [tuple(found), tuple(shape)]
            raise UserError(f"{path} has {stored} of shape {shapes[0]}, and its config.json asks for {shapes[1]}")

    def _refuse_another_head(self) -> None:
        head = self.stored.rows(self.places["lm_head.weight"]).float()
        if not torch.equal(head, self.rows("token_embedding.weight")):
            raise UserError(f"{self.where} holds a head of its own, and its config.json says that it is the embedding")

    def rows(self, name: str, first: int = 0, end: int | None = None) -> Tensor:
        """Read some rows of one of our tensors, or all; where theirs lies the other way round, some columns of it."""
        there, turned = _theirs(name, self.model)
        stored, end = self.places[there], self.shapes[name][0] if end is None else end
        found = self.stored.columns(stored, first, end).T if turned else self.stored.rows(stored, first, end)
        return tensorfile.usable(found, stored, self.stored.path_of(stored)).contiguous()


def read(folder: Path, model: AttentionSettings) -> dict[str, Tensor]:
    """Read a folder as the state dict of our model, in float32."""
    theirs = Theirs(folder, model)
    return {name: theirs.rows(name) for name in theirs.shapes}


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
