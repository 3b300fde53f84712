"""The options that make a model learn faster: each acts when it is on, is nothing when it is off, and all get along."""

import pytest
import torch
from helpers.architectures import OPTIONS, SHAPES, TOKENS, a_gpt, a_llama
from helpers.trainings import fit, losses, make_trainer, weights

from cleangpt.models.extras import BigramEmbedding, softcapped

BOTH = {"gpt": a_gpt, "llama": a_llama}
each_architecture = pytest.mark.parametrize("build", BOTH.values(), ids=BOTH)
each_with_options = pytest.mark.parametrize("build", SHAPES[-2:], ids=BOTH)
IN_CONF = [f"model.{key}={value}" for key, value in OPTIONS.items()] + ["model.zero_init=true"]


@each_architecture
@pytest.mark.parametrize("key", OPTIONS)
def test_each_option_changes_what_the_model_computes(build, key):
    assert not torch.allclose(build(**{key: OPTIONS[key]})(TOKENS), build()(TOKENS), atol=1e-3)


@each_architecture
def test_a_table_that_is_zero_leaves_the_plain_model(build):
    model, plain = build(bigram_embedding=50), build()
    plain.load_state_dict(model.state_dict(), strict=False)
    before = model(TOKENS)
    with torch.no_grad():
        model.bigram_embedding.weight.zero_()
    assert not torch.allclose(before, plain(TOKENS), atol=1e-3)
    assert torch.equal(model(TOKENS), plain(TOKENS))


@each_architecture
def test_with_zero_init_blocks_pass_on_what_they_read(build):
    first = build(zero_init=True)
    first.initialise(torch.Generator().manual_seed(0))
    for name, parameter in first.named_parameters():
        if name.endswith(("out.weight", "down.weight")):
            assert not parameter.any(), name
    alone = build(zero_init=True)
    alone.load_state_dict(first.state_dict())
    alone.blocks = torch.nn.ModuleList()
    assert torch.equal(first(TOKENS), alone(TOKENS))


@each_with_options
def test_gradients_reach_every_parameter(build):
    model = build()
    model(TOKENS[:, :-1], TOKENS[:, 1:]).backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.any()] == []


@each_with_options
def test_options_work_in_bfloat16_recomputed_and_compiled_into_one_graph(build):
    model = build(dropout=0.0).train()
    found = []
    for checkpointing in (False, True):
        model.checkpointing = checkpointing
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(TOKENS[:, :-1], TOKENS[:, 1:])
        loss.backward()
        found.append([loss, *(parameter.grad for parameter in model.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    exact = model(TOKENS[:, :-1], TOKENS[:, 1:])
    torch.testing.assert_close(found[0][0], exact, rtol=0.02, atol=0)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(TOKENS[:, :-1], TOKENS[:, 1:]), exact)
    torch.compiler.reset()


# ---- pairs of tokens


def rows_of(table, tokens, last=None, positions=None):
    """Find the row of the table that each token gets."""
    with torch.no_grad():
        table.weight.copy_(torch.arange(table.rows + 1)[:, None])
    positions = torch.arange(tokens.shape[1]) if positions is None else positions
    return table(table.pairs(tokens, last, positions))[..., 0].long()


def test_with_enough_rows_each_pair_has_its_own():
    pairs = torch.cartesian_prod(torch.arange(7), torch.arange(7))
    rows = rows_of(BigramEmbedding(49, 1, 7), pairs)
    assert len(rows[:, 1].unique()) == 49
    assert (rows[:, 0] == 49).all(), "what begins a text has a row of its own"


def test_with_fewer_rows_pairs_after_one_token_share_none_and_all_rows_are_used():
    pairs = torch.cartesian_prod(torch.arange(97), torch.arange(97))
    rows = rows_of(BigramEmbedding(1000, 1, 97), pairs)[:, 1].view(97, 97)
    assert all(len(after.unique()) == 97 for after in rows)
    counts = rows.flatten().bincount(minlength=1000)
    assert 0 < counts.min() <= counts.max() < 3 * 97**2 / 1000


def test_the_token_before_is_that_of_the_same_text():
    table, tokens = BigramEmbedding(49, 1, 7), torch.tensor([[1, 2, 3, 4]])
    whole = rows_of(table, tokens)
    assert torch.equal(rows_of(table, tokens[:, 2:], tokens[:, 1:2], torch.arange(2, 4)), whole[:, 2:])
    documents = rows_of(table, tokens, positions=torch.tensor([[0, 1, 0, 1]]))
    assert documents.tolist() == [[49, whole[0, 1], 49, whole[0, 3]]]


# ---- the bound of logits


def test_a_softcap_bounds_large_logits_and_leaves_small_ones():
    logits = torch.tensor([-1e4, -1e-3, 0.0, 1e-3, 1e4])
    torch.testing.assert_close(softcapped(logits, 15.0), torch.tensor([-15.0, -1e-3, 0.0, 1e-3, 15.0]))
    assert softcapped(logits.bfloat16(), 15.0).dtype == torch.float32
    assert softcapped(logits, None) is logits


# ---- whole trainings


@pytest.mark.parametrize("model", ["gpt_tiny", "llama_tiny"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_with_all_options_learns_and_resumes_exactly(tmp_path, model, optimizer):
    overrides = (f"model={model}", f"optimizer={optimizer}", *IN_CONF, "schedule.grad_accum.begin=2")
    overrides += ("train.snapshot_every=4", "schedule.lr.warmup=0.1")
    whole = fit(tmp_path / "whole", *overrides)
    again = fit(tmp_path / "again", *overrides, snapshot=tmp_path / "whole" / "snapshots" / "step_00000004")
    assert torch.equal(weights(whole), weights(again))
    assert losses(tmp_path / "whole")[4:] == losses(tmp_path / "again")
    assert losses(tmp_path / "whole")[-1] < losses(tmp_path / "whole")[0]


def test_two_micro_steps_are_one_of_twice_the_batch(tmp_path):
    common = ("model=gpt_tiny", "optimizer=muon", *IN_CONF, "train.steps=3", "schedule=constant")
    two = fit(tmp_path / "two", *common, "schedule.grad_accum.begin=2")
    one = fit(tmp_path / "one", *common, "train.batch_size=16")
    torch.testing.assert_close(weights(two), weights(one), rtol=1e-3, atol=1e-4)


def test_relu2_of_llama_is_four_times_as_wide_and_has_no_gate(tmp_path):
    model = make_trainer(tmp_path, "model.activation=relu2").model
    assert model.blocks[0].mlp.up.weight.shape == (64, 16)
    assert not any("gate" in name for name, _ in model.named_parameters())
