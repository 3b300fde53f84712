"""How models tell places apart: by learned rows, turns, distance or not at all, whole, in pieces and behind padding."""

import math

import pytest
import torch
from helpers.any_model import TOKENS, made

from cleangpt.models.extras import Fire, alibi

SCHEMES = [("gpt", scheme) for scheme in ("learned", "none", "alibi", "fire")]
SCHEMES += [("llama", scheme) for scheme in ("rotary", "none", "alibi", "fire")]
TOLD = [("gpt", "learned"), ("llama", "rotary")]  # that read the positions of a task
each_scheme = pytest.mark.parametrize(("name", "scheme"), SCHEMES)
each_told = pytest.mark.parametrize(("name", "scheme"), TOLD)


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@each_scheme
@pytest.mark.parametrize("attention", ["plain", "sdpa"])
@pytest.mark.parametrize("pieces", [[20], [13, 1, 1, 1, 4]])  # padding lies in the first, as while decoding
def test_a_row_reads_the_same_whole_in_pieces_and_behind_padding(name, scheme, attention, pieces):
    model, starts = made(name, positions=scheme, attention=attention), [0, 5, 12]
    for padding in (None, torch.tensor(starts)):
        cache = model.new_cache(3, 20, padding)
        with torch.no_grad():
            read = torch.cat([model(piece, cache=cache) for piece in TOKENS.split(pieces, dim=1)], dim=1)
        for row, start in enumerate(starts if padding is not None else [0, 0, 0]):
            close(read[row, start:], model(TOKENS[row : row + 1, start:])[0])
    close(model(TOKENS, since=13), model(TOKENS)[:, 13:])


@each_scheme
def test_gradients_reach_every_parameter_and_no_token_sees_a_later_one(name, scheme):
    model = made(name, positions=scheme).train()
    model(TOKENS[:, :-1], TOKENS[:, 1:]).backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.any()] == []
    changed = TOKENS.clone()
    changed[:, 11:] = (changed[:, 11:] + 1) % 37
    close(model.eval()(TOKENS)[:, :11], model(changed)[:, :11])


@each_scheme
def test_only_a_model_without_positions_reads_a_bag_of_tokens(name, scheme):
    model = made(name, positions=scheme, n_layer=1)
    turned = torch.cat([TOKENS[:, :10].flip(1), TOKENS[:, 10:]], dim=1)
    alike = torch.allclose(model(TOKENS)[:, -1], model(turned)[:, -1], atol=1e-4)
    assert alike == (scheme == "none")


@each_told
def test_positions_that_are_told_are_those_that_a_cache_has(name, scheme):
    model = made(name, positions=scheme)
    places = torch.randint(20, (3, 20), generator=torch.Generator().manual_seed(5))
    whole = model(TOKENS, positions=places)
    assert not torch.allclose(whole, model(TOKENS), atol=1e-3)
    close(model(TOKENS, positions=torch.arange(20).expand(3, 20)), model(TOKENS))
    cache = model.new_cache(3, 20, None, places)
    with torch.no_grad():
        read = torch.cat([model(piece, cache=cache) for piece in TOKENS.split([4, 1, 15], dim=1)], dim=1)
    close(read, whole)
    cache = model.new_cache(3, 20, None, places)
    rows = torch.tensor([2, 0])
    with torch.no_grad():
        model(TOKENS[:, :9], cache=cache)
        cache.keep(rows)
        close(model(TOKENS[rows, 9:], cache=cache), whole[rows, 9:])


@each_scheme
def test_a_scheme_works_in_bfloat16_and_recomputed(name, scheme):
    model = made(name, positions=scheme).train()
    found = []
    for checkpointing in (False, True):
        model.checkpointing = checkpointing
        with torch.autocast("cpu", torch.bfloat16):
            found.append(float(model(TOKENS[:, :-1], TOKENS[:, 1:])))
    assert found[0] == found[1]
    model.checkpointing = False
    exact = float(model(TOKENS[:, :-1], TOKENS[:, 1:]))
    assert found[0] == pytest.approx(exact, rel=0.02)


def test_alibi_falls_by_a_rate_of_each_head():
    distance = torch.tensor([[[0, 0], [1, 0]]])
    found = alibi(distance, 4)
    assert found.shape == (1, 4, 2, 2)
    assert found[0, :, 1, 0].tolist() == pytest.approx([-(2.0**-2), -(2.0**-4), -(2.0**-6), -(2.0**-8)])
    assert not found[0, :, 0].any()


def test_fire_is_a_function_of_the_squeezed_share_of_the_way():
    fire = Fire(2)
    for name, parameter in fire.named_parameters():
        fire.initialise(name, parameter, torch.Generator().manual_seed(1))
    last = torch.tensor([[[3], [900]]])
    distance = torch.tensor([[[3, 1], [900, 1]]])
    found = fire(distance, last)
    for query, key in ((0, 0), (0, 1), (1, 0), (1, 1)):
        whole = max(int(last[0, query, 0]), 512)
        share = math.log1p(0.1 * int(distance[0, query, key])) / math.log1p(0.1 * whole)
        expected = fire.down(torch.relu(fire.up(torch.tensor([share]))))
        close(found[0, :, query, key], expected)
