"""Decoding: the cache changes nothing but the speed, and a text is the same whatever else is in its batch."""

import math

import numpy as np
import pytest
import torch
from helpers.architectures import IDS, SHAPES
from helpers.saved_models import LETTERS, lively

from cleangpt.basics.seeds import uniforms
from cleangpt.sample import generate
from cleangpt.sample.choose import Chooser, Sampling, choose, least_of_nucleus
from cleangpt.sample.generate import Reading, greedy, key_of, stream, write
from cleangpt.tokens.as_text import Detokenizer
from cleangpt.tokens.tokenizers import Bytes, Characters, train_bpe

V, CONTEXT = LETTERS.vocab_size, 24
MODELS = {name: lively(build(vocab_size=V + 5)) for name, build in zip(IDS, SHAPES, strict=True)}
each_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
SPREAD = Sampling(temperature=1.0)


def prompts_of(*lengths: int, seed: int = 0) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    return [generator.integers(V, size=length).tolist() for length in lengths]


@torch.no_grad()
def plainly(model, prompt: list[int], new_tokens: int, choose=lambda logits, step: int(logits.argmax())) -> list[int]:
    """Decoding as it is explained: read everything anew for each token, one text at a time."""
    text, start = list(prompt), 0
    for step in range(new_tokens):
        if len(text) - start > CONTEXT:
            start = len(text) - CONTEXT // 2
        text.append(choose(model(torch.tensor([text[start:]]))[0, -1], step))
    return text[len(prompt) :]


# ---- the cache, padding, the window


@each_model
@pytest.mark.parametrize("lengths", [[5], [7, 7], [1, 9, 4], [20, 2, 2, 13], [24, 1]])
def test_cached_logits_of_a_padded_batch_are_those_of_each_text_alone(model, lengths):
    prompts = prompts_of(*lengths)
    texts = [list(prompt) for prompt in prompts]
    reading = Reading(model, prompts, new_tokens=24 - max(lengths) + 1)
    with torch.no_grad():
        for token in range(24 - max(lengths) + 1):
            following = reading.following()
            alone = torch.stack([model(torch.tensor([text]))[0, -1] for text in texts])
            torch.testing.assert_close(following, alone, rtol=1e-3, atol=1e-4)
            reading.append(torch.full((len(texts),), token))
            for text in texts:
                text.append(token)


@each_model
def test_greedy_decoding_past_the_context_equals_reading_everything_anew(model):
    prompts = prompts_of(3, 24, 11)
    found = greedy(model, prompts, 45)
    assert found.tolist() == [plainly(model, prompt, 45) for prompt in prompts]


def test_prompts_in_a_tensor_and_in_lists_are_the_same():
    prompts = prompts_of(6, 6, 6)
    found = [greedy(MODELS["llama"], form, 9).tolist() for form in (prompts, torch.tensor(prompts))]
    assert found[0] == found[1]


def test_a_text_says_when_it_outgrew_the_context():
    (texts,) = write(MODELS["gpt"], LETTERS, prompts_of(4, 20), new_tokens=12)
    assert {len(text.tokens) for text in texts} == {12}
    assert {text.prompt: text.slid for text in texts} == {0: False, 1: True}


def test_the_cache_is_filled_once_and_read_a_token_at_a_time(monkeypatch):
    model, read = MODELS["llama"], []
    real = model.hidden
    monkeypatch.setattr(model, "hidden", lambda tokens, *rest: (read.append(tokens.shape), real(tokens, *rest))[1])
    greedy(model, prompts_of(5, 8), 6)
    assert read == [(2, 8), *[(2, 1)] * 5]


@pytest.mark.parametrize("name", ["gpt", "llama-gqa"])
def test_half_precision_decodes_too(name):
    half = {"gpt": SHAPES[0], "llama-gqa": SHAPES[3]}[name](vocab_size=V)
    half.load_state_dict(lively(half).state_dict())
    reading = Reading(half.to(torch.bfloat16), prompts_of(5, 3), 3)
    with torch.no_grad():
        for _ in range(3):
            logits = reading.following()
            assert logits.dtype == torch.bfloat16
            assert logits.isfinite().all()
            reading.append(logits.argmax(dim=-1))


def test_a_compiled_step_writes_the_same_and_is_compiled_at_most_twice_for_all_sizes(monkeypatch):
    from torch._dynamo.testing import CompileCounter

    model, counter, real = lively(SHAPES[3](vocab_size=V)), CompileCounter(), torch.compile
    batches = [prompts_of(4, 4), prompts_of(9, 9, 9), prompts_of(2, 2), prompts_of(*[1] * 5)]
    expected = [greedy(model, prompts, 30).tolist() for prompts in batches]
    monkeypatch.setattr(torch, "compile", lambda step, **how: real(step, backend=counter, **how))
    generate.compile_for_decoding(model)
    assert [greedy(model, prompts, 30).tolist() for prompts in batches] == expected
    assert 1 <= counter.frame_count <= 2  # once more when the number of texts first differs
    monkeypatch.undo()
    torch.compiler.reset()


# ---- a text does not depend on its batch


HOWS = [
    Sampling(),
    SPREAD,
    Sampling(0.7, top_k=5, repetition_penalty=1.3),
    Sampling(1.5, top_p=0.8),
    Sampling(1.0, min_p=0.1, top_k=20, top_p=0.95),
]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("name", ["gpt", "llama-gqa"])
def test_a_text_is_the_same_alone_and_in_any_batch(name, how):
    model, prompts = MODELS[name], prompts_of(4, 17, 1, 9, 4)
    common = {"new_tokens": 20, "how": how, "seed": 3, "samples": 2}
    found = {}
    for batch_size in (64, 3, 1):
        for batch in write(model, LETTERS, prompts, batch_size=batch_size, **common):
            for text in batch:
                found.setdefault((text.prompt, text.sample), []).append(text.tokens)
    assert sorted(found) == [(p, s) for p in range(5) for s in range(2)]
    assert all(tokens[0] == tokens[1] == tokens[2] for tokens in found.values())
    if how.temperature:
        assert len({tuple(tokens[0]) for tokens in found.values()}) == 10


def test_another_seed_writes_another_text_and_the_same_seed_the_same():
    def text(seed):
        return next(write(MODELS["gpt"], LETTERS, prompts_of(4), new_tokens=20, how=SPREAD, seed=seed))[0].text

    assert text(1) == text(1) != text(2)


@pytest.mark.parametrize("how", HOWS[1:])
def test_sampling_equals_the_slow_way(how):
    model, (prompt,) = MODELS["llama"], prompts_of(6)
    key, seen = key_of(5, 0, 0), list(prompt)

    def slowly(logits, step):
        token = choose_slowly(logits[:V].tolist(), how, seen, float(uniforms(key, np.array([step]))[0]))
        seen.append(token)
        return token

    pieces = stream(model, LETTERS, [prompt], new_tokens=30, how=how, keys=[key])
    assert [piece.token for piece in pieces] == plainly(model, prompt, 30, slowly)


def choose_slowly(logits: list[float], how: Sampling, seen: list[int], uniform: float) -> int:
    """Sampling in plain Python."""
    for token in set(seen):
        logits[token] *= how.repetition_penalty if logits[token] < 0 else 1 / how.repetition_penalty
    weights = {token: math.exp((logit - max(logits)) / how.temperature) for token, logit in enumerate(logits)}
    likeliest = sorted(weights, key=weights.get, reverse=True)[: how.top_k]
    total, kept, mass = sum(weights[token] for token in likeliest), [], 0.0
    for token in likeliest:
        if mass < (how.top_p or 1) * total and weights[token] >= (how.min_p or 0):
            kept.append(token)
        mass += weights[token]
    place = uniform * sum(weights[token] for token in kept)
    for token in sorted(kept):
        place -= weights[token]
        if place < 0:
            return token
    raise AssertionError


# ---- choosing


def test_choices_have_the_frequencies_of_the_distribution():
    logits = torch.tensor([2.0, 0.0, -1.0, 1.0, float("-inf")])
    count = 40_000
    uniform = torch.from_numpy(uniforms(7, np.arange(count)))
    found = choose(logits.expand(count, -1), Sampling(0.5), uniform).bincount(minlength=5) / count
    torch.testing.assert_close(found, (logits / 0.5).softmax(-1), atol=0.01, rtol=0)
    assert found[4] == 0


def test_numbers_of_keys_are_uniform_and_unrelated():
    a, b = uniforms(key_of(0, 0, 0), np.arange(5000)), uniforms(key_of(0, 0, 1), np.arange(5000))
    assert 0 < a.min() < 0.01
    assert 0.99 < a.max() < 1
    assert abs(a.mean() - 0.5) < 0.02
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.05
    assert abs(np.corrcoef(a[1:], a[:-1])[0, 1]) < 0.05


@pytest.mark.parametrize("mass", [0.01, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("scale", [0.0, 1.0, 5.0])
def test_the_nucleus_is_the_same_found_among_few_or_by_sorting_all(mass, scale, monkeypatch):
    weights = (scale * torch.randn(4, 2000, generator=torch.Generator().manual_seed(0))).softmax(-1)
    few = least_of_nucleus(weights, mass)
    monkeypatch.setattr("cleangpt.sample.choose.FIRST_LOOK", 2000)
    assert torch.equal(few, least_of_nucleus(weights, mass))


def test_equals_are_kept_together():
    logits = torch.tensor([[1.0, 3.0, 1.0, 0.0]])
    uniform = torch.linspace(0.001, 0.999, 500)
    found = choose(logits.expand(500, -1), Sampling(1.0, top_k=2), uniform).unique().tolist()
    assert found == [0, 1, 2]


@pytest.mark.parametrize("how", [Sampling(), Sampling(100.0), Sampling(1.0, top_k=3), Sampling(1.0, top_p=0.9)])
def test_tokens_that_the_tokenizer_does_not_have_are_never_chosen(how):
    logits = torch.zeros(300, V + 5)
    logits[:, V:] = 50.0
    chooser = Chooser(how, range(300), [[0]] * 300, V)
    for _ in range(5):
        assert chooser(logits).max() < V


def test_a_very_low_temperature_is_greedy():
    logits = torch.randn(50, V, generator=torch.Generator().manual_seed(1))
    uniform = torch.rand(50)
    assert torch.equal(choose(logits, Sampling(1e-30), uniform), logits.argmax(-1))


# ---- where a text ends


class Parrot(torch.nn.Module):
    """A model that writes a certain text after each first letter."""

    def __init__(self, tokenizer, texts: dict[str, list[int]]):
        super().__init__()
        self.config = MODELS["gpt"].config.model_copy(update={"block_size": 1000})
        self.says = {tokenizer.encode(letter)[0]: tokens for letter, tokens in texts.items()}
        self.rows, self.size = [], tokenizer.vocab_size
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def new_cache(self, batch, columns, starts):
        self.written = 0
        return self

    def keep(self, rows):
        self.rows = [self.rows[row] for row in rows]

    def following(self, tokens, cache):
        if tokens.shape[1] > 1:
            self.rows = [self.says[int(row[row.nonzero()[0]])] for row in tokens]
        logits = torch.zeros(len(tokens), self.size)
        for row, says in zip(logits, self.rows, strict=True):
            row[says[self.written] if self.written < len(says) else 1] = 1
        self.written += 1
        return logits


def spoken(tokenizer, says: dict[str, str], **more):
    model = Parrot(tokenizer, {letter: tokenizer.encode(text) for letter, text in says.items()})
    prompts = [tokenizer.encode(letter + ".") for letter in says]
    pieces = list(stream(model, tokenizer, prompts, **{"new_tokens": 12, **more}))
    texts = ["".join(piece.text for piece in pieces if piece.row == row) for row in range(len(prompts))]
    ends = [[piece.ended for piece in pieces if piece.row == row][-1] for row in range(len(prompts))]
    return texts, ends


def test_each_row_ends_by_itself_and_the_others_go_on():
    tokenizer = Characters([*"$ abcdefgh.,;"], end="$")
    says = {"a": "bad$gggg", "b": "cab; dad", "c": "ha,haha;hahahahaha", "d": "$", "e": "abc;;;"}
    texts, ends = spoken(tokenizer, says, stop=[";", "hah"])
    assert texts == ["bad", "cab", "ha,", "", "abc"]
    assert ends == ["end", "stop", "stop", "end", "stop"]
    assert spoken(tokenizer, {"a": "bad bad bad bad"})[0] == ["bad bad bad "]
    assert spoken(tokenizer, {"a": "bad bad bad bad"})[1] == ["length"]


def test_no_part_of_a_stop_string_is_ever_shown():
    for words in (["ab"], ["aab", "b,"], ["abc", "bcd"], ["c,c"]):
        for text in ("aaab,c", "ababcd", "abcabd,", "c,bc,c,", "dcba"):
            writer, seen = Detokenizer(LETTERS, words), ""
            for token in LETTERS.encode(text):
                seen += writer.push(token)
                cut = min((place for word in words if (place := text.find(word)) >= 0), default=len(text))
                assert text[:cut].startswith(seen)
                if writer.stopped:
                    break
            assert seen + writer.finish() == text[:cut]


def test_continuations_are_greedy_and_in_the_order_of_the_prompts():
    prompts = prompts_of(9, 2, 5, 2)
    model = MODELS["llama"]
    found = generate.continuations(model, LETTERS, prompts, 10, batch_size=3)
    assert found == [LETTERS.decode(plainly(model_cut(model), prompt, 10)) for prompt in prompts]
    letter = found[0][4]
    assert generate.continuations(model, LETTERS, prompts, 10, stop=[letter])[0] == found[0].split(letter)[0]


def model_cut(model):
    """The model with the logits of the tokenizer's tokens only."""
    return lambda tokens: model(tokens)[..., :V]


# ---- characters


TEXT = "naïve café — 10 € 😀 日本語\n"


@pytest.mark.parametrize(
    "tokenizer",
    [Bytes(), train_bpe([TEXT, "abc"] * 3, 300), Characters(sorted(set(TEXT)))],
    ids=["bytes", "bpe", "chars"],
)
def test_characters_are_shown_whole_and_nothing_is_lost(tokenizer):
    writer, seen = Detokenizer(tokenizer), []
    tokens = tokenizer.encode(TEXT)
    for token in tokens:
        seen.append(writer.push(token))
    assert "".join(seen) + writer.finish() == TEXT
    assert not any("\ufffd" in text for text in seen)
    assert sum(map(bool, seen)) > 4


@pytest.mark.parametrize("data", [b"\xe2\x82", b"a\xff\xfeb", b"\xf0\x9f\x98", b"\xe2\x28\xa1", bytes(range(256))])
def test_bytes_that_are_no_text_are_shown_as_decoding_shows_them(data):
    writer = Detokenizer(Bytes())
    seen = "".join(writer.push(byte) for byte in data) + writer.finish()
    assert seen == data.decode(errors="replace")


# ---- the benchmark


@pytest.mark.parametrize("name", IDS[:-2])  # transformers has no class with all options
def test_what_is_compared_writes_the_same(name):
    from benchmark.transformers_model import build

    prompts = torch.tensor(prompts_of(5, 5))
    theirs = build(MODELS[name]).generate(prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=15)
    assert theirs[:, 5:].tolist() == greedy(MODELS[name], prompts, 15).tolist()
