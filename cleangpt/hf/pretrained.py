"""Start from the weights that `init_from` names: another run's, or a model in Hugging Face's format.

Their architecture is theirs: `model` becomes what the weights say, but for what they leave open (dropout, attention,
a shorter context), and what the command line asks otherwise is refused.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cleangpt.basics.errors import UserError
from cleangpt.config.asked import Asked
from cleangpt.config.experiment import Config, parse
from cleangpt.disk.rundir import find, read_config
from cleangpt.hf import hub
from cleangpt.models.settings import ModelSettings

if TYPE_CHECKING:  # torch is imported where weights are read
    from cleangpt.disk.weights import Source
    from cleangpt.models.contract import LanguageModel
    from cleangpt.sharding.divide import Divided
    from cleangpt.tokens.tokenizers import Tokenizer


def adopt(asked: Asked[Config]) -> Config:
    """Give a configuration the architecture of the weights that it starts from."""
    config = asked.config
    assert config.init_from is not None
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
    natural = getattr(config.dataset, "positions", "natural") == "natural"
    if natural and "position_rows" in there and here.get("position_rows") is None:
        there["position_rows"] = there["block_size"]
    most = weights.longest_context
    if most is not None and there["block_size"] > most:
        raise UserError(
            f"`model.block_size` must be at most {most}, the positions that {config.init_from} has learned, or null, "
            f"not {there['block_size']}"
        )
    return parse({**config.model_dump(mode="json"), "model": there})


def _located(source: str) -> tuple[Path, bool]:
    """Find the folder with the weights, and whether it is in Hugging Face's format."""
    if not hub.is_named(source):
        return find(source, "init_from").folder, False
    try:
        return hub.locate(source), True
    except UserError as error:
        raise UserError(f"init_from={source}: {error}") from None


def _model(source: str) -> ModelSettings:
    place, foreign = _located(source)
    if foreign:
        from cleangpt.hf import folder

        return folder.read_model(place)
    return read_config(place / "config.json").model


def load(model: "LanguageModel", source: str, tokenizer: "Tokenizer", divided: "Divided | None" = None) -> None:
    """Put the weights that `init_from` names into the model. Rank 0 reads for all, unless it is divided."""
    from cleangpt.disk import weights
    from cleangpt.machine import distributed

    distributed.from_main(lambda: _refuse_other_tokens(source, tokenizer))
    weights.put_into(model, lambda: _opened(source, model.config), divided, model.trimmed)


def _opened(source: str, model: Any) -> "Source":
    from cleangpt.disk import weights
    from cleangpt.hf import tensors

    place, foreign = _located(source)
    return tensors.Theirs(place, model) if foreign else weights.Weights(place)


def _refuse_other_tokens(source: str, tokenizer: "Tokenizer") -> None:
    """Refuse weights whose tokens mean something else than the data's. Weights without a tokenizer are trusted."""
    from cleangpt.disk import weights
    from cleangpt.tokens import exchange

    place, foreign = _located(source)
    theirs = exchange.read(place) if foreign else weights.load_tokenizer(place)
    named = place / "tokenizer.json" if foreign else place
    if theirs is not None and (why := exchange.difference(tokenizer, theirs)):
        raise UserError(
            f"`init_from={source}` has another tokenizer than the data set ({why}): prepare the data with that of the "
            f"weights, as in dataset.tokenizer={named}, or choose other weights"
        )
