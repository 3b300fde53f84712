"""The architectures: fast paths against slow ones, and what their papers say of them."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers.architectures import TOKENS, a_gpt, a_llama, each_shape
from helpers.configs import PLAIN

from cleangpt.models import attention, gpt, llama
from cleangpt.models.build import build, parameter_counts
from cleangpt.models.llama import rotary_angles, rotate
from cleangpt.models.norm import RMSNorm


@each_shape
def test_fused_attention_equals_the_written_out_one(build):
    torch.testing.assert_close(build(attention="sdpa")(TOKENS), build(attention="plain")(TOKENS), rtol=1e-4, atol=1e-5)


@each_shape
@pytest.mark.parametrize("kernel", ["sdpa", "plain"])
def test_packed_documents_are_read_as_each_alone(build, kernel):
    model = build(attention=kernel)
    lengths = [(20,), (7, 1, 12), (3, 17)]
    documents = torch.stack([torch.repeat_interleave(torch.arange(len(n)) + 5, torch.tensor(n)) for n in lengths])
    packed = model(TOKENS, documents=documents)
    for row, parts in enumerate(lengths):
        alone = [model(part[None])[0] for part in TOKENS[row].split(parts)]
        torch.testing.assert_close(packed[row], torch.cat(alone), rtol=1e-4, atol=1e-5)


@each_shape
def test_attention_kernels_have_equal_gradients(build):
    found = []
    for kernel in ("sdpa", "plain"):
        model = build(attention=kernel)
        model(TOKENS[:, :-1], TOKENS[:, 1:]).backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3)


@each_shape
@pytest.mark.parametrize("kernel", ["sdpa", "plain"])
@pytest.mark.parametrize("pieces", [[1] * 20, [7, 1, 1, 1, 10], [20], [5, 15]])
def test_reading_in_pieces_through_the_cache_gives_the_same_logits(build, kernel, pieces):
    model = build(attention=kernel)
    with torch.no_grad():
        whole = model(TOKENS)
        cache = model.new_cache(len(TOKENS))
        parts = [model(piece, cache=cache) for piece in TOKENS.split(pieces, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-5)


@each_shape
def test_no_token_sees_a_later_one(build):
    model = build()
    changed = TOKENS.clone()
    changed[:, 11:] = (changed[:, 11:] + 1) % 15
    before, after = model(TOKENS), model(changed)
    torch.testing.assert_close(before[:, :11], after[:, :11])
    assert not torch.allclose(before[:, 11:], after[:, 11:])


@each_shape
def test_the_loss_is_the_weighted_sum_of_cross_entropies(build):
    model = build()
    inputs, targets = TOKENS[:, :-1], TOKENS[:, 1:]
    loss_weights = torch.rand(inputs.shape, generator=torch.Generator().manual_seed(3))
    losses = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
    torch.testing.assert_close(model(inputs, targets, loss_weights), (losses * loss_weights).sum())
    torch.testing.assert_close(model(inputs, targets), losses.sum())


def test_grouped_heads_equal_full_heads_with_repeated_weights():
    grouped, full = a_llama(n_kv_head=2), a_llama(n_kv_head=4)
    state = grouped.state_dict()
    for name, weight in state.items():
        if name.endswith(("key.weight", "value.weight")):
            state[name] = weight.view(2, 1, 8, -1).expand(2, 2, 8, -1).reshape(32, -1)
    full.load_state_dict(state)
    torch.testing.assert_close(grouped(TOKENS), full(TOKENS), rtol=1e-4, atol=1e-5)


def test_rotation_keeps_lengths_and_depends_on_distances_only():
    cos, sin = rotary_angles(torch.arange(50), 8, 10000.0)
    q, k = torch.randn(2, 1, 1, 1, 8, generator=torch.Generator().manual_seed(4)).expand(2, 1, 1, 50, 8)
    turned_q, turned_k = rotate(q, cos, sin), rotate(k, cos, sin)
    torch.testing.assert_close(turned_q.norm(dim=-1), q.norm(dim=-1))
    scores = (turned_q @ turned_k.transpose(-2, -1))[0, 0]
    for distance in (0, 3, 11):
        diagonal = scores.diagonal(-distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=1e-4, atol=1e-4)


def test_rotary_base_and_qk_norm_change_the_model():
    assert not torch.allclose(a_llama(rope_base=10000.0)(TOKENS), a_llama(rope_base=100.0)(TOKENS))
    assert not torch.allclose(a_llama(qk_norm=True)(TOKENS), a_llama(qk_norm=False)(TOKENS))


def test_gpt2_has_its_published_number_of_parameters():
    config = gpt.Settings(
        name="gpt", n_layer=12, n_head=12, n_embd=768, block_size=1024, vocab_size=50257, dropout=0.0, tied=True,
        bias=True, attention="auto", position_rows=1024, **PLAIN["gpt"],
    )  # fmt: skip
    assert parameter_counts(build(config, "meta")) == {
        "total": 124_439_808,
        "without_embeddings": 124_439_808 - (50257 + 1024) * 768,
        "trained": 124_439_808,
    }


def test_llama_3_2_1b_has_its_published_number_of_parameters():
    config = llama.Settings(
        name="llama", n_layer=16, n_head=32, n_kv_head=8, head_dim=64, n_embd=2048, ffn_dim=8192, block_size=8192,
        vocab_size=128256, dropout=0.0, tied=True, rope_base=500000.0, rope_scaling=None, norm_eps=1e-5,
        attention="auto", **PLAIN["llama"],
    )  # fmt: skip
    assert parameter_counts(build(config, "meta"))["total"] == 1_235_814_400


@pytest.mark.parametrize("name", ["gpt", "llama"])
def test_initialisation_is_gpt2s(name):
    changes = {"n_layer": 8, "n_embd": 128, "vocab_size": 512}
    changes |= {"head_dim": 32, "ffn_dim": 352} if name == "llama" else {}
    model = {"gpt": a_gpt, "llama": a_llama}[name](**changes)
    model.initialise(torch.Generator().manual_seed(0))
    for key, parameter in model.named_parameters():
        if parameter.dim() == 1:
            assert torch.all(parameter == (0 if key.endswith("bias") else 1)), key
        else:
            residual = key.endswith(("attention.out.weight", "mlp.down.weight"))
            wanted = 0.02 / math.sqrt(16) if residual else 0.02
            assert parameter.std().item() == pytest.approx(wanted, rel=0.05), key


@pytest.mark.parametrize("build", [a_gpt, a_llama])
def test_a_tied_head_is_the_embedding_and_an_untied_one_is_not(build):
    tied, untied = (parameter_counts(build(tied=tied))["total"] for tied in (True, False))
    assert untied - tied == 15 * 32


@pytest.mark.parametrize("build", [a_gpt, a_llama])
def test_dropout_acts_in_training_only(build):
    model = build(dropout=0.5)
    assert not torch.equal(model.train()(TOKENS), model(TOKENS))
    assert torch.equal(model.eval()(TOKENS), model(TOKENS))


def test_auto_takes_a_kernel_that_gives_the_same(monkeypatch):
    q, k, v = torch.randn(3, 2, 4, 6, 8, generator=torch.Generator().manual_seed(5))
    taken = []
    for name in ("plain_attention", "sdpa_attention"):
        real = getattr(attention, name)
        monkeypatch.setattr(attention, name, lambda *a, real=real, name=name: (taken.append(name), real(*a))[1])
    full = attention.auto_attention(q, k, v, 0.0)
    half = attention.auto_attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), 0.0)
    torch.testing.assert_close(half.float(), full, rtol=0.05, atol=0.05)
    assert taken == ["sdpa_attention", "plain_attention"]


def test_the_norm_by_hand_is_torchs_with_its_gradients():
    norm, theirs = RMSNorm(12, eps=1e-5), torch.nn.RMSNorm(12, eps=1e-5)
    with torch.no_grad():
        theirs.weight.copy_(norm.weight.uniform_(0.5, 2, generator=torch.Generator().manual_seed(0)))
    x = torch.randn(3, 5, 12, generator=torch.Generator().manual_seed(1))
    there, here = x.clone().requires_grad_(), x.clone().requires_grad_()
    wanted, found = theirs(there), norm(here)
    assert type(found.grad_fn).__name__ == "_NormalisedBackward", "the one that is tested"
    for y in (wanted, found):
        y.sin().sum().backward()
    for one, other in ((found, wanted), (here.grad, there.grad), (norm.weight.grad, theirs.weight.grad)):
        torch.testing.assert_close(one, other)
    with torch.no_grad():
        torch.testing.assert_close(norm(x), wanted)
