"""Weights go in and out: what transformers computes, we compute, and the other way round."""

import shutil

import pytest
import torch
import transformers
from helpers.architectures_of_others import LLAMA3, OURS, TEXT, THEIRS, TOKENS, VOCABULARY, our_section, save_ours
from helpers.pretrained import save
from safetensors.torch import load_file

from cleangpt.basics.errors import UserError
from cleangpt.disk import weights
from cleangpt.disk.rundir import read_config
from cleangpt.hf import architecture, folder, hub, tensors
from cleangpt.models import lstm
from cleangpt.models.build import build, parameter_counts
from cleangpt.sample import generate

each_of_theirs = pytest.mark.parametrize("name", THEIRS)


def opened(path):
    """Open one of our folders: model and tokenizer."""
    return weights.load_model(path, read_config(path / "config.json"), torch.device("cpu")), weights.load_tokenizer(
        path
    )


@each_of_theirs
def test_a_model_of_transformers_is_the_same_here_and_there_again(name, tokenizer, tmp_path):
    theirs = save(tmp_path / "theirs", THEIRS[name](), tokenizer)
    folder.import_folder(str(tmp_path / "theirs"), tmp_path / "ours")
    ours, our_tokenizer = opened(tmp_path / "ours")
    with torch.no_grad():
        there, here = theirs(TOKENS, labels=TOKENS), ours(TOKENS)
        torch.testing.assert_close(here, there.logits, rtol=1e-4, atol=1e-5)
        loss = ours(TOKENS[:, :-1].contiguous(), TOKENS[:, 1:].contiguous()) / TOKENS[:, 1:].numel()
        torch.testing.assert_close(loss, there.loss, rtol=1e-5, atol=1e-5)
    prompt = torch.tensor([our_tokenizer.encode("The quick")])
    written = theirs.generate(prompt, do_sample=False, max_new_tokens=20, pad_token_id=0, eos_token_id=VOCABULARY + 1)
    assert generate.greedy(ours, prompt, 20).tolist() == written[:, prompt.shape[1] :].tolist()

    folder.export_folder(tmp_path / "ours", tmp_path / "again", "float32")
    stored, again = (load_file(tmp_path / part / hub.ONE_FILE) for part in ("theirs", "again"))
    assert stored.keys() == again.keys()
    for key, tensor in stored.items():
        assert tensor.numpy().tobytes() == again[key].numpy().tobytes(), key
    reopened = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "again").eval()
    with torch.no_grad():
        torch.testing.assert_close(reopened(TOKENS).logits, there.logits, rtol=1e-5, atol=1e-6)
    text = transformers.AutoTokenizer.from_pretrained(tmp_path / "again")
    assert text(TEXT)["input_ids"] == our_tokenizer.encode(TEXT) == tokenizer.encode(TEXT)
    assert our_tokenizer.end == text.eos_token_id == tokenizer.end


@pytest.mark.parametrize("name", OURS)
def test_a_model_of_ours_is_the_same_in_transformers(name, tokenizer, tmp_path):
    ours = save_ours(tmp_path / "ours", our_section(**OURS[name]), tokenizer)
    about = folder.export_folder(tmp_path / "ours", tmp_path / "out", "float32")
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(theirs).__name__ == about["architectures"][0]
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(TOKENS).logits, ours(TOKENS), rtol=1e-4, atol=1e-5)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| val/loss | 1.25 |" in card
    assert ("no biases" in card) == (name == "gpt-without-biases")
    back = folder.read_model(tmp_path / "out")
    lost = {"dropout": 0.0} | ({"bias": True} if name == "gpt-without-biases" else {})
    assert back == our_section(**OURS[name]).model_copy(update=lost)


def test_shards_and_half_precision_are_read_and_written(tokenizer, tmp_path):
    theirs = save(tmp_path / "theirs", THEIRS["llama-grouped-tied-wide"](), tokenizer, max_shard_size="20KB")
    assert len(hub.weight_files(tmp_path / "theirs")) > 2
    half = theirs.to(torch.bfloat16)
    half.save_pretrained(tmp_path / "half")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tmp_path / "theirs" / name, tmp_path / "half" / name)
    folder.import_folder(str(tmp_path / "theirs"), tmp_path / "ours")
    assert opened(tmp_path / "ours")[0](TOKENS).isfinite().all()
    folder.import_folder(str(tmp_path / "half"), tmp_path / "ours-of-half")
    folder.export_folder(tmp_path / "ours-of-half", tmp_path / "out", "bfloat16")
    stored, again = (load_file(tmp_path / part / hub.ONE_FILE) for part in ("half", "out"))
    assert all(torch.equal(stored[key], again[key]) and again[key].dtype == torch.bfloat16 for key in stored)


def test_names_without_prefix_and_stored_masks_are_read_as_gpt2s_own_file_has_them(tmp_path):
    from safetensors.torch import save_file

    save(tmp_path, THEIRS["gpt2"]())
    section = folder.read_model(tmp_path)
    before = tensors.read(tmp_path, section)
    stored = {key.removeprefix("transformer."): value for key, value in load_file(tmp_path / hub.ONE_FILE).items()}
    stored["h.0.attn.bias"] = torch.ones(1, 1, 40, 40)
    stored["lm_head.weight"] = stored["wte.weight"].clone()
    save_file(stored, tmp_path / hub.ONE_FILE)
    after = tensors.read(tmp_path, section)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    stored["lm_head.weight"][0, 0] += 1
    save_file(stored, tmp_path / hub.ONE_FILE)
    with pytest.raises(UserError, match="a head of its own"):
        tensors.read(tmp_path, section)


# What stands in the config.json of models that people use, but for what we don't read and they have all the same.
GPT2_XL = {"model_type": "gpt2", "n_embd": 1600, "n_head": 25, "n_layer": 48, "n_positions": 1024, "n_ctx": 1024}
GPT2_XL |= {"n_special": 0, "output_past": True, "predict_special_tokens": True, "summary_type": "cls_index"}
GPT2_XL |= {"activation_function": "gelu_new", "layer_norm_epsilon": 1e-05, "vocab_size": 50257, "attn_pdrop": 0.1}
GPT2_XL |= {"task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}}, "eos_token_id": 50256}
LLAMA_3_2_1B = {
    "model_type": "llama",
    "attention_bias": False,
    "bos_token_id": 128000,
    "eos_token_id": [128001, 128008],
}
LLAMA_3_2_1B |= {
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "mlp_bias": False,
}
LLAMA_3_2_1B |= {"max_position_embeddings": 131072, "num_attention_heads": 32, "num_hidden_layers": 16}
LLAMA_3_2_1B |= {"num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_theta": 500000.0}
LLAMA_3_2_1B |= {"rope_scaling": {**LLAMA3, "factor": 32.0, "original_max_position_embeddings": 8192}}
LLAMA_3_2_1B |= {"tie_word_embeddings": True, "torch_dtype": "bfloat16", "vocab_size": 128256}
del LLAMA_3_2_1B["rope_scaling"]["rope_theta"]
TINYLLAMA = {"model_type": "llama", "attention_bias": False, "hidden_act": "silu", "hidden_size": 2048}
TINYLLAMA |= {"intermediate_size": 5632, "max_position_embeddings": 2048, "num_attention_heads": 32}
TINYLLAMA |= {"num_hidden_layers": 22, "num_key_value_heads": 4, "rms_norm_eps": 1e-05, "rope_scaling": None}
TINYLLAMA |= {"rope_theta": 10000.0, "tie_word_embeddings": False, "vocab_size": 32000, "use_cache": True}
QWEN3_0_6B = {"model_type": "qwen3", "attention_bias": False, "attention_dropout": 0.0, "head_dim": 128}
QWEN3_0_6B |= {"hidden_act": "silu", "hidden_size": 1024, "intermediate_size": 3072, "max_position_embeddings": 40960}
QWEN3_0_6B |= {"max_window_layers": 28, "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8}
QWEN3_0_6B |= {"rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 1000000, "sliding_window": None}
QWEN3_0_6B |= {"tie_word_embeddings": True, "use_sliding_window": False, "vocab_size": 151936}


@pytest.mark.parametrize(
    ("published", "parameters"),
    [(GPT2_XL, 1_557_611_200), (LLAMA_3_2_1B, 1_235_814_400), (TINYLLAMA, 1_100_048_384), (QWEN3_0_6B, 596_049_920)],
    ids=["gpt2-xl", "llama-3.2-1b", "tinyllama", "qwen3-0.6b"],
)
def test_published_configurations_give_models_of_the_published_size(published, parameters):
    section = architecture.section(published, "x/y")
    assert parameter_counts(build(section, "meta"))["total"] == parameters
    assert (section.name == "llama" and section.rope_scaling is not None) == (published is LLAMA_3_2_1B)


# ---- what can't be represented


def refusal(name, **changes):
    hf = {**THEIRS[name]().to_dict(), **changes}
    with pytest.raises(UserError) as error:
        architecture.section(hf, "x/y")
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("gpt2", {"activation_function": "relu"}),
        ("gpt2", {"n_inner": 100}),
        ("gpt2", {"layer_norm_epsilon": 1e-6}),
        ("gpt2", {"scale_attn_weights": False}),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
        ("gpt2", {"add_cross_attention": True}),
        ("llama", {"hidden_act": "gelu"}),
        ("llama", {"attention_bias": True}),
        ("llama", {"mlp_bias": True}),
        ("llama", {"partial_rotary_factor": 0.5}),
        ("llama", {"some_new_option": 3}),
        ("llama", {"quantization_config": {"bits": 4}}),
        ("mistral", {"sliding_window": 4096}),
        ("qwen3", {"layer_types": ["full_attention", "sliding_attention"]}),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 16}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value,
)
def test_what_our_architectures_have_not_is_refused_by_name(name, changes):
    architecture.section(THEIRS[name]().to_dict(), "x/y")
    *_, key = changes
    assert f"`{key}`" in refusal(name, **changes)


def test_other_architectures_and_rotary_scalings_are_refused_by_name():
    assert "of type gpt_neox" in refusal("gpt2", model_type="gpt_neox")
    assert "`rope_type` yarn" in refusal(
        "llama", rope_parameters={"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}
    )
    assert "`rope_type` linear" in refusal(
        "llama", rope_parameters=None, rope_scaling={"type": "linear", "factor": 2.0}
    )
    assert "`mrope_section`" in refusal("llama", rope_parameters={"rope_type": "default", "mrope_section": [1, 2]})
    assert "`model.head_dim`" in refusal("llama", head_dim=7)
    mistral = THEIRS["mistral"]().to_dict()
    del mistral["sliding_window"]  # whose default is a window
    with pytest.raises(UserError, match="`sliding_window` 4096"):
        architecture.section(mistral, "x/y")


def test_older_spellings_of_the_rotary_angles_mean_the_same():
    new = THEIRS["llama-3"]().to_dict()
    old = {key: value for key, value in new.items() if key != "rope_parameters"}
    old["rope_theta"] = new["rope_parameters"]["rope_theta"]
    old["rope_scaling"] = {key: value for key, value in new["rope_parameters"].items() if key != "rope_theta"}
    assert architecture.section(old, "x") == architecture.section(new, "x")
    assert architecture.section(old, "x").rope_scaling is not None


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("gpt", "activation", "relu2"),
        ("llama", "activation", "relu2"),
        ("gpt", "qk_norm", True),
        ("gpt", "logit_softcap", 15.0),
        ("llama", "bigram_embedding", 100),
    ],
)
def test_options_that_no_class_of_transformers_has_are_refused_by_name(name, key, value):
    plain = {**OURS[name], "zero_init": True}  # which says where training began, and nothing of the model
    architecture.configuration(our_section(**plain), "float32", {})
    with pytest.raises(UserError, match=f"no class of transformers has model.{key}={str(value).lower()}"):
        architecture.configuration(our_section(**plain, **{key: value}), "float32", {})


def test_a_model_that_does_not_say_who_holds_it_is_refused_in_a_sentence(tmp_path):
    section = lstm.Settings(name="lstm", n_layer=1, n_embd=8, block_size=9, vocab_size=14, dropout=0.0, tied=True)
    with pytest.raises(UserError, match=r"no class of transformers holds a model\.name=lstm: sample and score the run"):
        architecture.configuration(section, "float32", {})


def test_what_transformers_classes_have_not_is_refused_on_the_way_out(tokenizer, tmp_path):
    save_ours(tmp_path / "ours", our_section(name="llama", tied=True, n_embd=30), tokenizer)
    with pytest.raises(UserError, match="n_embd=30"):
        folder.export_folder(tmp_path / "ours", tmp_path / "out", "float32")
    assert not (tmp_path / "out").exists()
