"""Find models in Hugging Face's format, and start runs from them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.architectures_of_others import ARITHMETIC, OURS, THEIRS, VOCABULARY, our_section, save_ours
from helpers.configs import toy
from helpers.pretrained import save

from cleangpt.basics.errors import UserError
from cleangpt.config import experiment
from cleangpt.config.asked import Asked
from cleangpt.disk.rundir import find
from cleangpt.hf import folder, hub, tensors
from cleangpt.hf import pretrained as starts
from cleangpt.models.build import build
from cleangpt.tokens import tokenizers

# ---- where models lie


def test_folders_without_weights_that_are_no_code_are_refused(tokenizer, tmp_path):
    save(tmp_path / "whole", THEIRS["gpt2"](), tokenizer, max_shard_size="20KB")
    shards = hub.weight_files(tmp_path / "whole")
    shards[1].unlink()
    with pytest.raises(UserError, match=f"lacks {shards[1].name}"):
        hub.locate(str(tmp_path / "whole"))
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    shutil.copy(tmp_path / "whole" / "config.json", pickled)
    (pickled / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(UserError, match=r"pytorch_model\.bin can hold code"):
        hub.locate(str(pickled))
    (pickled / hub.INDEX).write_text(json.dumps({"weight_map": {"wte": "../../elsewhere.safetensors"}}))
    with pytest.raises(UserError, match="no file of that folder"):
        hub.locate(str(pickled))
    with pytest.raises(UserError, match="format=cleangpt"):
        find(str(tmp_path / "whole"))


def cached(cache, repository, source):
    """Store a repository as the hub's library does."""
    place = cache / f"models--{repository.replace('/', '--')}"
    snapshot = place / "snapshots" / ("a" * 40)
    shutil.copytree(source, snapshot)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("a" * 40)
    return snapshot


def test_the_cache_serves_without_a_network_and_an_unreachable_hub_is_a_sentence(tokenizer, tmp_path, monkeypatch):
    from huggingface_hub import constants

    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.setattr(constants, name, str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    save(tmp_path / "theirs", THEIRS["gpt2"](), tokenizer)
    snapshot = cached(tmp_path / "cache", "openai-community/gpt2", tmp_path / "theirs")
    assert hub.is_named("gpt2")
    assert hub.locate("gpt2") == hub.locate("openai-community/gpt2") == snapshot
    with pytest.raises(UserError, match=r"some/model can't be fetched .*`hf download some/model`"):
        hub.locate("some/model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"not in the cache .*HF_HUB_OFFLINE is set"):
        hub.locate("gpt2-xl")
    assert hub.locate("gpt2") == snapshot


def test_a_mistyped_run_is_not_taken_for_a_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("outputs").mkdir()
    assert not hub.is_named("outputs/adder-llama")
    assert not hub.is_named("nonsense")
    assert not hub.is_named("a/b/c")
    assert hub.is_named("gpt2-xl")
    assert hub.is_named("HuggingFaceTB/SmolLM-135M@main")


# ---- starting a run from them


def adopted(source, *overrides, **changes):
    return starts.adopt(Asked(experiment.parse(toy(**{"init_from": str(source), **changes})), overrides))


def test_the_architecture_of_a_run_is_that_of_the_weights_it_starts_from(tokenizer, tmp_path):
    save(tmp_path, THEIRS["gpt2"](), tokenizer)
    made = adopted(tmp_path).model
    assert (made.name, made.n_embd, made.block_size, made.vocab_size) == ("gpt", 32, 40, VOCABULARY)
    changes = {"model.block_size": 12, "model.dropout": 0.2, "model.attention": "plain"}
    free = adopted(tmp_path, *(f"{key}={value}" for key, value in changes.items()), **changes).model
    assert (free.block_size, free.dropout, free.attention) == (12, 0.2, "plain")
    assert tensors.read(tmp_path, free)["position_embedding.weight"].shape == (12, 32)
    for key, value in (("model.n_embd", 16), ("model.vocab_size", 15), ("model.tied", False)):
        with pytest.raises(UserError, match=f"{key}: .* there, {value} here"):
            adopted(tmp_path, f"{key}={value}", **{key: value})
    with pytest.raises(UserError, match=r"model\.name: gpt there, llama here"):
        adopted(tmp_path, "model=llama")
    with pytest.raises(UserError, match=r"`model\.block_size` must be at most 40"):
        adopted(tmp_path, **{"model.block_size": 64})


def test_a_run_starts_from_weights_with_its_own_tokens_only(tmp_path):
    from cleangpt import tasks

    arithmetic = tokenizers.Characters(ARITHMETIC, end="\n", pad=" ")
    section = our_section(**OURS["llama-qk-norm"]).model_copy(update={"vocab_size": len(ARITHMETIC)})
    ours = save_ours(tmp_path / "ours", section, arithmetic)
    folder.export_folder(tmp_path / "ours", tmp_path / "hf", "float32")
    for source in (tmp_path / "hf", tmp_path / "ours"):
        settings = adopted(source)
        model = build(experiment.resolve(settings, tasks.make(settings.dataset)).model)
        starts.load(model, str(source), tasks.make(settings.dataset).tokenizer)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), ours.parameters(), strict=True))
        with pytest.raises(UserError, match="another tokenizer than the data set"):
            starts.load(model, str(source), tokenizers.Characters([*"abcdefghijklm", "\n", " "], end="\n"))


def test_what_is_wrong_with_the_weights_to_start_from_is_told_of_the_key_that_names_them(tmp_path, monkeypatch):
    def offline(source):
        raise UserError(f"{source} can't be fetched")

    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(hub, "locate", offline)
    for source, words in (
        ("nonsense", "init_from=nonsense is no folder"),
        ("empty", "init_from=empty is no run directory"),
        ("latest", "init_from=latest: there is no outputs/latest here"),
        ("nobody/nothing", "init_from=nobody/nothing: nobody/nothing can't be fetched"),
    ):
        with pytest.raises(UserError, match=f"^{words}"):
            starts._model(source)
