"""The recurrent network: torch's own, whatever is padded, packed or cut; and in every program."""

import pytest
import torch
from attacks import openings
from helpers.any_model import TOKENS, VOCABULARY, made, settings
from helpers.saved_models import LETTERS, saved
from helpers.trainings import rows
from torch.utils.flop_counter import FlopCounterMode

from cleangpt.basics.errors import UserError
from cleangpt.disk.rundir import read_config
from cleangpt.models import lstm
from cleangpt.models.build import build
from cleangpt.sample import generate

SMALL = ("model=lstm", "model.n_embd=16", "dataset.digits=1", "train.steps=4", "train.batch_size=8", "logger=quiet")


def test_layers_are_those_of_torchs_stack():
    model = made("lstm", n_layer=3)
    stack = torch.nn.LSTM(16, 16, 3, batch_first=True)
    for number, layer in enumerate(model.layers):
        for name, parameter in layer.named_parameters():
            getattr(stack, name.replace("l0", f"l{number}")).data.copy_(parameter)
    with torch.no_grad():
        wanted = stack(model.token_embedding(TOKENS))[0] @ model.token_embedding.weight.T
        torch.testing.assert_close(model(TOKENS), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_dtype_that_the_processor_lacks_an_lstm_for_is_computed_in_float32(monkeypatch, dtype):
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        made("lstm")(TOKENS)  # whatever this processor has
    monkeypatch.setattr(lstm, "not_on_this_processor", lambda: frozenset({dtype}))
    model = made("lstm")
    with torch.no_grad():
        wanted = model.hidden(TOKENS)
        with torch.autocast("cpu", dtype=dtype):
            assert torch.equal(model.hidden(TOKENS), wanted)


def test_the_forget_gate_begins_open():
    model = build(settings("lstm", n_layer=1))
    model.initialise(torch.Generator().manual_seed(0))
    biases = [p for name, p in model.named_parameters() if "bias" in name]
    total = sum(biases).view(4, -1)
    assert (total[1] == 1).all()
    assert not total[[0, 2, 3]].any()


def test_a_tied_head_is_the_embedding_and_an_untied_one_is_not():
    tied, untied = (sum(p.numel() for p in made("lstm", tied=tied).parameters()) for tied in (True, False))
    assert untied - tied == VOCABULARY * 16


@pytest.mark.parametrize("tied", [True, False])
def test_a_token_costs_what_torch_counts(tied):
    rows, length, layers, width = 3, 23, 2, 16
    model = build(settings("lstm", tied=tied, n_layer=layers), "meta").train()
    tokens = torch.zeros(rows, length, dtype=torch.long, device="meta")
    with FlopCounterMode(display=False) as counter:
        model(tokens, tokens).backward()
    to_the_first_state = rows * layers * 2 * 4 * width * width  # a gradient that nobody needs
    assert counter.get_total_flops() + to_the_first_state == rows * length * model.flops_per_token(length)


def test_a_text_goes_on_beyond_the_context_and_what_is_remembered_does_not_grow():
    model = made("lstm", block_size=8)
    prompts = [TOKENS[0, :20].tolist(), TOKENS[1, :5].tolist()]
    reading, texts = generate.Reading(model, prompts, 30), [list(prompt) for prompt in prompts]
    with torch.no_grad():
        for _ in range(30):
            following = reading.following()
            alone = torch.stack([model(torch.tensor([text]))[0, -1] for text in texts])
            torch.testing.assert_close(following, alone, rtol=1e-3, atol=1e-4)
            reading.append(following.argmax(dim=-1))
            for text, token in zip(texts, following.argmax(dim=-1).tolist(), strict=True):
                text.append(token)
            assert reading.cache.hidden.shape == reading.cache.cell.shape == (2, 2, 16)
    assert not reading.slid.any()


def test_a_step_of_decoding_reads_one_token(monkeypatch):
    model, read = made("lstm"), []
    real = model.hidden
    monkeypatch.setattr(model, "hidden", lambda tokens, *rest: (read.append(tokens.shape), real(tokens, *rest))[1])
    generate.greedy(model, TOKENS[:2, :9], 40)
    assert read == [(2, 9), *[(2, 1)] * 39]


def test_every_program_takes_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    assert openings.train_new(run, *SMALL) == 0
    assert openings.sample(run) == openings.score(run) == 0
    assert openings.train(run, "train.steps=6", *SMALL[:2]) == 0
    assert rows(run)[-1]["step"] == 6
    assert openings.train_from(run, tmp_path / "other", *SMALL[2:], "model.dropout=0.2", "model.block_size=9") == 0
    there = read_config(tmp_path / "other" / "config.json").model
    assert (there.name, there.n_embd, there.dropout, there.block_size) == ("lstm", 16, 0.2, 9)
    assert openings.report(tmp_path, tmp_path / "report") == 0
    with pytest.raises(UserError, match=r"no class of transformers holds a model\.name=lstm: sample and score the run"):
        openings.export(run, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_a_prompt_may_be_longer_than_the_context(tmp_path, capsys):
    folder = saved(tmp_path, LETTERS, "lstm", **{"model.block_size": 16})
    assert openings.sample(folder, prompt="a" * 50, max_new_tokens=20) == 0
    assert "forgot" not in capsys.readouterr().err
