"""What a run says of itself at its end: above all that it did not learn."""

import json

import pytest
from runs import composed, fit

from cleangpt import config, tasks, verdict


def settings(*overrides):
    found = config.parse(composed(*overrides))
    return config.resolve(found, tasks.make(found.dataset))


def evaluations(*losses, train=None):
    """Rows of a run that was evaluated every 100 steps."""
    train = losses if train is None else train
    both = enumerate(zip(losses, train, strict=True), start=1)
    return [{"step": 100 * n, "val/loss": seen, "train/loss": made} for n, (seen, made) in both]


STUCK = evaluations(2.0, 1.7, 1.5, 1.387, 1.386, 1.388, 1.386, 1.386)
FALLING = evaluations(2.0, 1.5, 1.0, 0.7, 0.5, 0.4)
BY_HEART = evaluations(2.0, 1.5, 1.6, 2.0, 2.4, 2.9, train=(2.0, 1.4, 0.9, 0.5, 0.2, 0.05))


@pytest.mark.parametrize(
    ("rows", "accuracy", "name"),
    [
        (STUCK, 0.001, "chance"),
        (STUCK, 0.35, "plateau"),
        (STUCK, 0.989, "plateau"),
        (STUCK, 0.999, "learned"),
        (FALLING, 0.4, "unfinished"),
        (BY_HEART, 0.4, "by heart"),
        (BY_HEART, 1.0, "learned"),
    ],
)
def test_what_became_of_a_run(rows, accuracy, name):
    found = verdict.of(settings(), rows, accuracy)
    assert found.name == name
    assert bool(found.sentences) == (name != "learned"), "a run that learned needs no advice"
    said = " ".join(found.sentences)
    if name != "learned":
        assert f"{accuracy:.2%}" in said
        assert "Try" in said or "Train longer" in said


def test_a_plateau_is_dated_and_what_is_set_already_is_not_advised():
    plain, muon = (
        verdict.of(settings(*words), STUCK, 0.0) for words in (("optimizer=adamw",), ("model.qk_norm=true",))
    )
    assert "flat since step 400 (about 1.3860)" in plain.sentences[1]
    assert "optimizer=muon" in plain.sentences[2]
    assert "model.qk_norm" in plain.sentences[2]
    assert "optimizer=muon" not in muon.sentences[2]
    assert "qk_norm" not in muon.sentences[2]
    assert "batch_size" in muon.sentences[2]


def test_a_model_of_text_that_knows_no_more_than_its_alphabet_is_told_so():
    vocabulary = settings().model.vocab_size  # 15: guessing gives ln 15 = 2.708
    assert vocabulary == 15
    assert verdict.of(settings(), evaluations(2.8, 2.71, 2.7, 2.7, 2.7, 2.7), None).name == "chance"
    assert "2.7081" in verdict.of(settings(), evaluations(*[2.7] * 6), None).sentences[0]
    assert verdict.of(settings(), evaluations(2.8, 2.5, 2.3, 2.1, 2.1, 2.1), None).name == "learned"


def test_where_evaluations_are_few_the_training_loss_tells_of_a_plateau():
    noise = [0.01, -0.02, 0.015, -0.005, 0.0]
    losses = [2.5 - 0.01 * n for n in range(100)] + [1.5 + noise[n % 5] for n in range(300)]
    rows = [{"step": n, "train/loss": loss} for n, loss in enumerate(losses, start=1)]
    since = verdict.flat_since(verdict._losses([*rows, {"step": 400, "val/loss": 1.5}]))
    assert 90 <= since <= 130
    assert verdict.flat_since(verdict._losses(rows[:100])) is None


def test_a_run_is_judged_when_it_ends(tmp_path):
    """A program's end: see test_launch for its words."""
    trainer = fit(tmp_path, "train.steps=20", "train.eval_every=2", "optimizer.lr=1e-9")
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert verdict.of(trainer.config, rows, trainer.state.scores["val/accuracy"]).name == "chance"
