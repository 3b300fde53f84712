"""Read folders in Hugging Face's format, turn them into ours, and ours into them."""

import json
from pathlib import Path
from typing import Any

import torch

from cleangpt.basics import files, untrusted
from cleangpt.basics.errors import UserError
from cleangpt.basics.shown import visible
from cleangpt.basics.words import counted
from cleangpt.config.experiment import Config, Imported
from cleangpt.disk import weights
from cleangpt.disk.rundir import read_config
from cleangpt.hf import architecture, hub, tensors
from cleangpt.models.build import build
from cleangpt.models.settings import AttentionSettings, ModelSettings
from cleangpt.stored import tensorfile
from cleangpt.tokens import exchange


def read_model(folder: Path) -> AttentionSettings:
    """Read the model section of a folder in Hugging Face's format."""
    with untrusted.reading(folder / "config.json", "the configuration of a model"):
        return architecture.section(untrusted.json_object(folder / "config.json"), str(folder))


def import_folder(source: str, out: Path) -> ModelSettings:
    """Write the model that `source` names as a folder like best/, which every program of ours opens."""
    folder = hub.locate(source)
    model = read_model(folder)
    tokenizer = exchange.read(folder)
    if tokenizer is None:
        raise UserError(f"{source} brings no tokenizer.json: put the one that it was trained with beside its weights")
    _refuse_existing(out)
    config = Imported(source=source, dataset=None, model=model)
    out.parent.mkdir(parents=True, exist_ok=True)
    weights.save(out, tensors.read(folder, model), config, tokenizer, {"source": source})
    return model


def export_folder(source: Path, out: Path, dtype: str) -> dict[str, Any]:
    """Write one of our folders so that transformers opens it without our code; its config.json."""
    config, tokenizer = read_config(source / "config.json"), weights.load_tokenizer(source)
    model = architecture.held(config.model)
    special = exchange.special_ids(tokenizer)
    about = architecture.configuration(model, dtype, special)
    stored = weights.Weights(source)
    weights.refuse_another_size(stored, model)
    weights.refuse_others(build(model, torch.device("meta")), stored)
    ours = {name: stored.rows(name) for name in stored.shapes}
    _refuse_existing(out)
    out.mkdir(parents=True, exist_ok=True)
    theirs = tensors.converted(ours, model, getattr(torch, dtype))
    files.write_json(out / "config.json", about)
    files.write_json(out / "generation_config.json", special)
    files.write_json(out / "tokenizer.json", exchange.library(tokenizer))
    files.write_json(out / "tokenizer_config.json", exchange.configuration(tokenizer, model.block_size))
    files.write_text(out / "README.md", visible(_card(out.name, config, model, weights.about(source), about)))
    files.replace(out / hub.ONE_FILE, lambda file: tensorfile.write(file, theirs, {"format": "pt"}))
    return about


def _refuse_existing(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"`out` is {out}, which is there already: choose another folder, or empty it")


def _card(
    name: str, config: Config | Imported, model: AttentionSettings, scores: dict[str, Any], about: dict[str, Any]
) -> str:
    """Write README.md: what the model is, how it was made, how it is used."""
    kind = about["architectures"][0]
    layers, heads = counted(model.n_layer, "layer"), counted(model.n_head, "head")
    shape = f"{layers}, {model.n_embd} wide, {heads}, context {model.block_size}"
    trained = "weights that were imported, and not trained further"
    if isinstance(config, Config):
        steps = scores.get("step", config.train.steps)
        begun = f", from the weights of {config.init_from}" if config.init_from else ""
        trained = f"{counted(steps, 'step')} on `{config.dataset.name}`, seed {config.seed}{begun}"
    rows = "".join(f"| {key} | {value:.5g} |\n" for key, value in scores.items() if isinstance(value, float))
    table = f"\n| score | |\n| --- | --- |\n{rows}" if rows else ""
    remarks = "\nIt has no biases; the class has, and they are zero.\n" if not tensors.has_biases(model) else ""
    settings = json.dumps(config.model_dump(mode="json"), indent=2)
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags: [cleangpt, {about["model_type"]}]
---
# {name}

A {kind} made with CleanGPT: {shape}; {trained}.
{remarks}{table}
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")
```

## The configuration

```json
{settings}
```
"""
