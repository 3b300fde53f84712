"""Scores: the fast way equals real decoding, is compared with it, and can be watched and stopped."""

import re
from functools import cache

import numpy as np
import pytest
import torch
from helpers.configs import PLAIN
from helpers.limits import within
from helpers.rote import FORMATS, Rote, flawed, judge, rote
from helpers.sums import arithmetic, encode, written

from cleangpt.machine.signals import Stopped
from cleangpt.models import gpt, llama
from cleangpt.models.build import build
from cleangpt.score import evaluate, of_task
from cleangpt.score import exact_match as scoring
from cleangpt.score.evaluate import ALONE, Judge
from cleangpt.tasks.arithmetic import Settings, Task
from cleangpt.terminal import patience

SPLITS = ("train", "val", "test")
MODELS = ["llama", "gpt"]


@cache
def half_trained(s: Settings, name: str) -> Judge:
    """A real model that gets some of the problems right."""
    task = Task(s)
    common = {"n_layer": 1, "n_embd": 32, "n_head": 2, "dropout": 0.0, "tied": False, "attention": "auto"}
    common |= {"block_size": task.sequence_length, "vocab_size": task.tokenizer.vocab_size}
    if name == "gpt":
        rows = task.sequence_length
        config = gpt.Settings(name="gpt", bias=True, position_rows=rows, **PLAIN["gpt"], **common)
    else:
        own = {"head_dim": 16, "n_kv_head": 1, "ffn_dim": 64, "rope_base": 1e4, "norm_eps": 1e-5}
        own |= {"rope_scaling": None, **PLAIN["llama"]}
        config = llama.Settings(name="llama", **own, **common)
    model = build(config)
    model.initialise(torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    batch = task.batch("train", np.arange(task.size("train")))
    inputs, targets, weights = map(torch.from_numpy, (batch.inputs, batch.targets, batch.loss_weights))
    for _ in range(40):
        (model.forward(inputs, targets, weights) / weights.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return judge(model)


def without_time(score: dict) -> dict:
    return {key: value for key, value in score.items() if key != "seconds"}


# ---- one pass against real decoding


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("changes", FORMATS, ids=str)
def test_one_pass_gives_the_verdicts_of_real_decoding_on_every_problem(name, changes):
    task = arithmetic(digits=1, **changes)
    model = half_trained(task.settings, name)
    samples = [scoring.choose(task, split, None) for split in SPLITS]
    forced, decoded = (
        np.concatenate([scoring._divided(task, model, sample, method, ALONE)[0].all(axis=1) for sample in samples])
        for method in ("forced", "generate")
    )
    assert np.array_equal(forced, decoded)
    assert 5 < forced.sum() < 95  # it has to say something about right and about wrong answers
    problems = [pair for sample in samples for pair in zip(*task.pairs(sample.split, sample.index), strict=True)]
    texts = [written(task.settings, a, b) for a, b in problems]
    tokens = torch.tensor([task.tokenizer.encode(prompt) for prompt, _ in texts])  # all of one length
    for _ in range(task.answer_length):  # without a cache
        tokens = torch.cat([tokens, model.model.forward(tokens)[:, -1:].argmax(dim=-1)], dim=1)
    given = [task.tokenizer.decode(row) for row in tokens.tolist()]
    slow = [text.startswith(prompt + answer) for text, (prompt, answer) in zip(given, texts, strict=True)]
    assert forced.tolist() == slow


@pytest.mark.parametrize("changes", FORMATS, ids=str)
def test_the_least_margin_is_that_of_the_right_answer_nearest_to_a_wrong_one(changes):
    task = arithmetic(digits=1, **changes)
    model = half_trained(task.settings, "gpt")
    score = of_task.score(task, model, "train", None, "forced")
    batch = task.batch("train", np.arange(task.size("train")))
    logits = model.model.eval().forward(torch.from_numpy(np.ascontiguousarray(batch.inputs))).detach().numpy()
    ahead = {}
    for row, question in enumerate(task.questions(batch)):
        gaps = []
        for place in np.flatnonzero(batch.answer[row]):
            others = np.delete(logits[row, place], batch.targets[row, place])
            gaps.append(float(logits[row, place, batch.targets[row, place]] - others.max()))
        if min(gaps) > 0:
            ahead[question.text] = min(gaps)
    assert len(ahead) == score["correct"] > 5
    least = min(ahead, key=ahead.get)
    assert score["least_margin"]["question"] == least
    assert score["least_margin"]["logits"] == pytest.approx(ahead[least], abs=1e-4)


@pytest.mark.parametrize("changes", FORMATS, ids=str)
def test_both_methods_give_one_score(changes):
    task = arithmetic(digits=1, **changes)
    model = half_trained(task.settings, "llama")
    forced, generated = (of_task.score(task, model, "train", None, method) for method in ("forced", "generate"))
    kinds = ("method", "forced_equals_decoded", "by_position", "position_kind", "seconds", "least_margin")
    assert {k: v for k, v in forced.items() if k not in kinds} == {k: v for k, v in generated.items() if k not in kinds}
    assert (forced["method"], generated["method"]) == ("forced", "generate")
    assert forced["forced_equals_decoded"] == forced["problems"]
    assert generated["forced_equals_decoded"] is None
    assert 0 < forced["correct"] < forced["problems"]
    # The first token of an answer is judged the same by both; later ones only after right ones.
    if changes["padded"]:
        assert forced["by_position"][0] == generated["by_position"][0]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("changes", [{}, *FORMATS[:2], {"name": "multiplier"}, {"loss": "all"}], ids=str)
def test_what_is_read_once_for_many_problems_gives_what_reading_all_of_each_gives(name, changes):
    task = arithmetic(digits=1, **changes)
    model = half_trained(task.settings, name)
    a, b = (x.reshape(-1) for x in np.indices((10, 10)))
    batch = encode(task, a, b)
    shared, _ = evaluate.shared_beginning(batch.inputs, evaluate.first_that_counts(batch))
    assert (shared > 0) == (changes.get("loss") != "all"), "the example should share what its loss leaves out"
    whole = model.model.eval().forward(torch.from_numpy(np.ascontiguousarray(batch.inputs))).argmax(dim=-1).numpy()
    assert np.array_equal(model.predictions(batch)[0][batch.answer], whole[batch.answer])


def test_rows_share_what_leaves_the_least_to_read():
    rows = np.array([[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 6, 5], [2, 2, 6, 5]] * 2)
    found = [evaluate.shared_beginning(rows, longest) for longest in range(4)]
    assert [shared for shared, _ in found] == [0, 1, 2, 2]  # three tokens would be read of six groups
    assert found[2][1].tolist() == [0, 0, 0, 1, 2, 2, 2, 3]
    assert evaluate.shared_beginning(rows[::3], 3)[0] == 0, "what is read for one row alone is not worth it"


def test_a_choice_by_a_hairs_breadth_is_left_to_the_plain_reading(monkeypatch):
    """As if what is shared rounded otherwise: the far likelier token stays, of two that are as likely none is sure."""
    task = arithmetic(digits=1)
    model = half_trained(task.settings, "llama").model
    batch = encode(task, *(x.reshape(-1) for x in np.indices((10, 10))))
    right = judge(model).predictions(batch)[0]
    exact = model.forward

    def rounded(tokens, cache=None, **more):
        logits = exact(tokens, cache=cache, **more)
        noise = torch.rand(logits.shape, generator=torch.Generator().manual_seed(0))
        return logits + 0.2 * noise if cache is not None else logits

    monkeypatch.setattr(model, "forward", rounded)
    monkeypatch.setattr(evaluate, "HAIR", 0.2)
    with monkeypatch.context() as careless:
        careless.setattr(evaluate, "HAIR", 0.0)
        assert not np.array_equal(judge(model).predictions(batch)[0], right), "the noise should turn some choice"
    assert np.array_equal(judge(model).predictions(batch)[0], right)


@pytest.mark.parametrize("method", ["forced", "generate"])
@pytest.mark.parametrize("limit", [None, 700])
def test_a_first_look_shows_a_stratified_sample_and_changes_nothing(limit, method, monkeypatch):
    monkeypatch.setattr(scoring, "FIRST", 300)
    task = arithmetic(digits=2)
    model = rote(task, flawed(task, 0.3))
    shown = []
    watched = of_task.score(task, model, "test", limit, method, watch=evaluate.Watch(shown.append, patience.Nobody()))
    assert without_time(watched) == without_time(of_task.score(task, model, "test", limit, method))
    (table,) = shown
    assert table.title.startswith(f"A first look: 300 of {watched['problems']:,} problems")
    assert list(table.columns[1].cells) == ["300"]
    few = of_task.score(task, model, "test", 300, method)
    assert list(table.columns[3].cells) == [f"{few['accuracy']:.3%}"]


def test_a_signal_at_any_time_of_a_score_stops_it(monkeypatch):
    task = arithmetic(digits=1)
    wrong = rote(task, flawed(task, 0.5))
    for name in ("_divided", "prove", "_wrong"):
        with monkeypatch.context() as patched:
            real = getattr(scoring, name)

            def asked(*arguments, real=real):
                wrong.stop.number = 15
                return real(*arguments)

            patched.setattr(scoring, name, asked)
            with pytest.raises(Stopped):
                of_task.score(task, wrong, "train", None, "forced")
        wrong.stop.number = 0
    assert of_task.score(task, wrong, "train", None, "forced")["wrong"]


def test_a_signal_ends_an_evaluation_of_more_problems_than_anyone_waits_for():
    asked = rote(arithmetic(digits=1))
    asked.stop.number = 15
    with within(20), pytest.raises(Stopped):
        evaluate.validate(asked, arithmetic(digits=20, val_size=10**12))


def test_of_few_problems_there_is_no_first_look(monkeypatch):
    monkeypatch.setattr(scoring, "FIRST", 300)
    shown = []
    task = arithmetic(digits=2)
    of_task.score(task, rote(task), "test", 600, "forced", watch=evaluate.Watch(shown.append, patience.Nobody()))
    assert shown == []


def test_auto_is_the_fast_way():
    task = arithmetic(digits=1)
    scores = [without_time(of_task.score(task, rote(task), "test", None, method)) for method in ("auto", "forced")]
    assert scores[0] == scores[1]
    assert scores[0]["method"] == "forced"


class Flatterer(Judge):
    """Claims that all is predicted right."""

    def predictions(self, batch):
        return batch.targets, np.ones(batch.targets.shape)


class Detractor(Judge):
    """Claims of one problem that it is predicted wrong."""

    def predictions(self, batch):
        predicted, margins = super().predictions(batch)
        predicted[57] += 1
        return predicted, margins


def test_forced_predictions_that_lie_are_found_out():
    task = arithmetic(digits=1)
    model = half_trained(task.settings, "llama").model
    with pytest.raises(scoring.Disagreement, match="method=generate"):
        of_task.score(task, judge(model, kind=Flatterer), "train", None, "forced")


def test_a_single_right_answer_that_is_called_wrong_is_found_out():
    task = arithmetic(digits=2)
    liar = judge(Rote(task), kind=Detractor)
    with pytest.raises(scoring.Disagreement, match="1 of 256 problems"):
        of_task.score(task, liar, "test", None, "forced")


def test_prove_compares_so_many_problems_as_there_are_but_no_more_than_its_limit():
    task = arithmetic(digits=2)
    sample = scoring.choose(task, "test", None)
    right = np.ones(len(sample.index), bool)
    assert scoring.prove(task, rote(task), sample, right) == scoring.PROOF
    few = scoring.choose(task, "test", 30)
    assert scoring.prove(task, rote(task), few, right[:30]) == 30


def test_prove_finds_one_false_verdict_among_many_wrong_answers():
    task = arithmetic(digits=2)
    sample = scoring.choose(task, "test", 200)
    problems = zip(*task.pairs("test", sample.index), strict=True)
    wrong = {(int(a), int(b)): "999\n" for a, b in problems}
    right = np.zeros(200, bool)
    assert scoring.prove(task, rote(task, wrong), sample, right) == 200
    for lie in (0, 199):
        right = np.zeros(200, bool)
        right[lie] = True
        with pytest.raises(scoring.Disagreement):
            scoring.prove(task, rote(task, wrong), sample, right)


def test_prove_looks_at_all_of_a_sample_even_when_many_answers_are_wrong():
    task = arithmetic()
    sample = scoring.choose(task, "test", 5000)
    ignorant = judge(Rote(task, follows={}))
    full_length = np.min(task.pairs("test", sample.index), axis=0) >= 100
    assert scoring.prove(task, ignorant, sample, np.zeros(5000, bool)) == scoring.PROOF
    with pytest.raises(scoring.Disagreement) as error:
        scoring.prove(task, ignorant, sample, full_length)  # as if it were right there
    found = int(re.search(r"on (\d+) of 256", str(error.value))[1])
    assert found > 128 * full_length.mean() / 2  # half of the proof goes to wrong answers
