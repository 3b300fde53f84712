"""The weights that `init_from` names: another run's, or a model in Hugging Face's format.

Their architecture is theirs: `model` becomes what the weights say, but for what they leave open (dropout, attention,
a shorter context), and what the command line asks otherwise is refused.
"""

from pathlib import Path
from typing import Any

from cleangpt.basics.errors import UserError
from cleangpt.config.asked import Asked
from cleangpt.config.experiment import Config, parse
from cleangpt.hf import hub
from cleangpt.models.settings import ModelSettings
from cleangpt.runs.rundir import Opened, find, read_config


def adopt(asked: Asked) -> Config:
    """The configuration with the architecture of the weights that it starts from."""
    config = asked.config
    weights = _model(config.init_from)
    there, here, free = weights.model_dump(mode="json"), config.model.model_dump(mode="json"), weights.not_in_weights
    chosen = here if "model" in asked.given else {key.partition(".")[0] for key in asked.below("model")}
    wrong = [
        f"model.{key}: {there.get(key)} there, {here[key]} here"
        for key in here
        if key in chosen and key not in free and here[key] is not None and here[key] != there.get(key)
    ]
    if wrong:
        raise UserError(
            f"`init_from={config.init_from}` brings its own architecture ({'; '.join(wrong)}): leave that out"
        )
    there |= {key: here[key] for key in free if here.get(key) is not None}
    most = weights.longest_context
    if most is not None and there["block_size"] > most:
        raise UserError(
            f"`model.block_size` must be at most {most}, the positions that {config.init_from} has learned, or null, "
            f"not {there['block_size']}"
        )
    return parse({**config.model_dump(mode="json"), "model": there})


def _find(source: str) -> Opened:
    return find(source, "init_from")


def _locate(source: str) -> Path:
    try:
        return hub.locate(source)
    except UserError as error:
        raise UserError(f"init_from={source}: {error}") from None


def _model(source: str) -> ModelSettings:
    if hub.is_named(source):
        from cleangpt.hf import folder

        return folder.read_model(_locate(source))
    return read_config(_find(source).folder / "config.json").model


def load(model: Any, source: str, tokenizer: Any) -> None:
    """Put the weights that `init_from` names into the model. Rank 0 reads, and tells the others."""
    from cleangpt.machine import distributed
    from cleangpt.runs import weights

    distributed.from_main(lambda: _same_tokens(source, tokenizer))
    weights.put_into(model, lambda: model.fitted(_tensors(source, model.config)), source)


def _tensors(source: str, model: ModelSettings) -> dict[str, Any]:
    if hub.is_named(source):
        from cleangpt.hf import tensors

        return tensors.read(_locate(source), model)
    from cleangpt.runs import weights

    return weights.read(_find(source).folder / weights.WEIGHTS)


def _same_tokens(source: str, tokenizer: Any) -> None:
    """Refuse weights whose tokens mean something else than the data's. Weights without a tokenizer are trusted."""
    from cleangpt.runs import weights
    from cleangpt.tokens import exchange

    if hub.is_named(source):
        theirs = exchange.read(_locate(source))
    else:
        theirs = weights.load_tokenizer(_find(source).folder)
    if theirs is not None and (why := exchange.difference(tokenizer, theirs)):
        raise UserError(
            f"`init_from={source}` has another tokenizer than the data set ({why}): prepare the data with that of the "
            f"weights, as in dataset.tokenizer={_path(source)}, or choose other weights"
        )


def _path(source: str) -> str | Path:
    return _locate(source) / "tokenizer.json" if hub.is_named(source) else _find(source).folder / "tokenizer.json"
