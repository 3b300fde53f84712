"""Chances of right answers, computed from a forced pass, against sampling and against plain sums."""

import numpy as np
import pytest
import torch
from helpers.configs import toy
from helpers.rote import judge
from helpers.sums import arithmetic

from cleangpt.basics.errors import UserError
from cleangpt.config import experiment
from cleangpt.models.build import build
from cleangpt.score import asking, exact_match, layout
from cleangpt.score.asking import Ask


def half_sure(task, **changes):
    """A model that gives right answers a chance, and not all of it."""
    options = {f"dataset.{key}": value for key, value in task.settings.model_dump().items()}
    config = experiment.parse(toy("model=gpt", **options, **changes))
    model = build(experiment.resolve(config, task).model)
    model.initialise(torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    batch = task.batch("test", np.arange(task.size("test")))
    told = [torch.from_numpy(np.ascontiguousarray(x)) for x in (batch.inputs, batch.targets, batch.loss_weights)]
    for _ in range(25):
        optimizer.zero_grad()
        (model(*told) / len(batch.inputs)).backward()
        optimizer.step()
    return judge(model)


@pytest.fixture(scope="module")
def asked():
    task = arithmetic(digits=1, padded=False)
    return task, half_sure(task, **{"model.block_size": 12})


def by_hand(task, of, row: int, temperature: float, top_k: int | None) -> float:
    """The chance of one answer, token by token, in float64."""
    batch = task.batch("test", np.array([row]))
    logits = of.model(torch.from_numpy(batch.inputs))[0].double().detach().numpy()
    chance = 1.0
    for place, (token, counts) in enumerate(zip(batch.targets[0], batch.answer[0], strict=True)):
        if counts:
            row_logits = logits[place]
            kept = np.sort(row_logits)[::-1][:top_k] if top_k else row_logits
            weights = np.exp((row_logits - row_logits.max()) / temperature) * (row_logits >= kept.min())
            chance *= weights[token] / weights.sum()
    return float(chance)


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, None), (0.5, None), (1.5, 3)])
def test_the_chance_of_an_answer_is_the_product_of_those_of_its_tokens(asked, temperature, top_k):
    task, of = asked
    count = task.size("test")
    found = asking.chances(of, task.batch("test", np.arange(count)), Ask("", temperature, top_k))
    expected = [by_hand(task, of, row, temperature, top_k) for row in range(count)]
    assert np.allclose(found, expected, rtol=1e-4)
    assert 0.02 < np.mean(expected) < 0.98


def test_a_score_says_both_chances_and_what_was_drawn(asked):
    task, of = asked
    score = exact_match.score(task, of, "test", None, "auto", ask=Ask(temperature=1.0, samples=6))
    chance = asking.chances(of, task.batch("test", np.arange(task.size("test"))), Ask(temperature=1.0))
    found = score["asked"]
    assert found["pass@1"] == pytest.approx(chance.mean())
    assert found["pass@6"] == pytest.approx((1 - (1 - chance) ** 6).mean())
    assert found["drawn"]["right"] == pytest.approx(chance.mean(), abs=0.12)
    assert layout.tables(task, score)


def test_chances_that_sampling_contradicts_give_no_score(asked, monkeypatch):
    task, of = asked
    right = asking._log_chances
    monkeypatch.setattr(asking, "_log_chances", lambda logits, ask: right(logits / 3, ask))
    with pytest.raises(asking.Disagreement):
        exact_match.score(task, of, "test", None, "auto", ask=Ask(temperature=1.0, samples=50))


def test_a_rare_right_answer_is_no_contradiction(asked, monkeypatch):
    task, of = asked
    count = task.size("test")
    monkeypatch.setattr(asking, "chances", lambda judge, batch, ask: np.full(len(batch.inputs), 1e-5))
    lucky = np.zeros(count)
    lucky[:2] = 1
    monkeypatch.setattr(asking, "_drawn", lambda *_: lucky)
    found = asking.passes(task, of, "test", np.arange(count), np.ones(count), Ask(temperature=1.0))
    assert found["drawn"]["right"] == 2 / count
    lucky[:6] = 1
    with pytest.raises(asking.Disagreement):
        asking.passes(task, of, "test", np.arange(count), np.ones(count), Ask(temperature=1.0))


def test_a_prefix_stands_before_each_problem_and_real_decoding_agrees(asked):
    task, of = asked
    before = asking.behind(task, "+\n", of)
    plain, prefixed = task.batch("test", np.arange(5)), before.batch("test", np.arange(5))
    start = task.tokenizer.encode("+\n")
    assert (prefixed.inputs[:, :2] == start).all()
    assert np.array_equal(prefixed.inputs[:, 2:], plain.inputs)
    assert np.array_equal(prefixed.targets[:, 2:], plain.targets)
    assert (prefixed.targets[:, :2] == np.stack([[start[1]] * 5, plain.inputs[:, 0]], axis=1)).all()
    questions = before.questions(prefixed)
    assert [question.text for question in questions] == [question.text for question in task.questions(plain)]
    score = exact_match.score(task, of, "test", None, "auto", ask=Ask(prefix="+\n"))
    assert score["forced_equals_decoded"] == task.size("test")
    assert score["prefix"] == "+\n"
    with pytest.raises(UserError, match=r"model\.block_size="):
        asking.behind(task, "+" * 20, of)
