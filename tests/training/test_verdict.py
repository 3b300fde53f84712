"""A run judges itself at its end: above all it says that it did not learn."""

import json

import pytest
from helpers.corpora import prepared, prose
from helpers.trainings import composed, fit

from cleangpt import tasks
from cleangpt.config import experiment
from cleangpt.tasks.text import Task
from cleangpt.training import verdict
from cleangpt.training.verdict import End


def settings(*overrides):
    found = experiment.parse(composed(*overrides))
    return experiment.resolve(found, tasks.make(found.dataset))


def evaluations(*losses, train=None):
    """Make the rows of a run that was evaluated every 100 steps."""
    train = losses if train is None else train
    both = enumerate(zip(losses, train, strict=True), start=1)
    return [{"step": 100 * n, "val/loss": seen, "train/loss": made} for n, (seen, made) in both]


def judged(rows, accuracy=None, guessing=None, solved=None, early=False, words=()):
    return verdict.of(settings(*words), rows, End(accuracy, guessing, solved, early))


STUCK = evaluations(2.0, 1.7, 1.5, 1.387, 1.386, 1.388, 1.386, 1.386)
FALLING = evaluations(2.0, 1.5, 1.0, 0.7, 0.5, 0.4)
BY_HEART = evaluations(2.0, 1.5, 1.6, 2.0, 2.4, 2.9, 3.3, train=(2.0, 1.4, 0.1, 0.1, 0.1, 0.1, 0.05))
WILD = evaluations(3.0, 2.8, 9.0, 12.0, 14.3, train=(2.8, 2.9, 2.7, 2.8, 2.72))
ALMOST = evaluations(2.0, 1.0, 0.1, 0.03, 0.012, train=(2.0, 0.9, 0.05, 0.01, 0.005))


@pytest.mark.parametrize(
    ("rows", "accuracy", "name"),
    [
        (STUCK, 0.001, "plateau"),
        (STUCK, 0.989, "plateau"),
        (STUCK, 0.999, "learned"),
        (FALLING, 0.4, "unfinished"),
        (ALMOST, 0.985, "unfinished"),
        (BY_HEART, 0.4, "by heart"),
        (BY_HEART, 1.0, "learned"),
        (WILD, 0.0, "plateau"),
        ([], 0.0, "unfinished"),
        ([{"step": 1, "train/loss": None}, {"step": 2, "val/loss": None}], 0.0, "unfinished"),
    ],
)
def test_what_became_of_a_run(rows, accuracy, name):
    found = judged(rows, accuracy)
    assert found.name == name
    assert bool(found.sentences) == (name != "learned"), "a run that learned needs no advice"
    if name != "learned":
        assert f"{accuracy:.2%}" in found.sentences[0]
        assert found.sentences[2].startswith("Try ")
        assert "inf" not in " ".join(found.sentences)


def test_who_reached_the_goal_has_learned_and_who_missed_it_has_not():
    assert judged(FALLING, 0.4, solved=True) == ("learned", [])
    assert judged(STUCK, 0.992, solved=False).name == "plateau"
    assert judged(FALLING, 0.992, solved=False).sentences[0].startswith("It did not learn this completely: 99.20%")


def test_a_run_that_stopped_early_is_not_told_that_its_loss_was_falling():
    assert judged(FALLING, 0.4).name == "unfinished"
    assert judged(FALLING, 0.4, early=True).name == "plateau"


def test_a_run_without_one_finite_loss_is_judged_too():
    nothing = [{"step": 1, "train/loss": None, "val/loss": None}]
    assert judged(nothing, 0.0, early=True).name == "plateau"
    assert judged([{"step": 1, "val/loss": 2.0}, {"step": 2, "val/loss": 3.0}], 0.0).name == "plateau"


def test_a_plateau_is_dated_and_what_is_set_already_is_not_advised():
    plain, muon = (judged(STUCK, 0.0, words=words) for words in (("optimizer=adamw",), ("model.qk_norm=true",)))
    assert "flat since step 400 (about 1.3860): likely a plateau, or chance" in plain.sentences[1]
    assert "optimizer=muon" in plain.sentences[2]
    assert "model.qk_norm" in plain.sentences[2]
    assert "optimizer=muon" not in muon.sentences[2]
    assert "qk_norm" not in muon.sentences[2]
    assert "batch_size" in muon.sentences[2]


def test_a_model_of_text_that_knows_no_more_than_how_often_each_letter_comes_is_told_so():
    assert judged(evaluations(4.0, 3.4, 3.3, 3.3, 3.3, 3.3), guessing=3.31).name == "plateau"
    assert "3.3000, and knowing only" in judged(evaluations(*[3.3] * 6), guessing=3.31).sentences[0]
    assert judged(evaluations(4.0, 2.5, 2.3, 2.1, 2.1, 2.1), guessing=3.31).name == "learned"
    assert judged(evaluations(4.0, 1.5, 4.0), guessing=3.31).name == "learned", "its best weights are kept"
    assert judged([{"step": 5, "train/loss": 3.0}], guessing=3.31).name == "learned", "nothing is known against it"


def test_what_is_known_by_who_knows_only_frequencies(tmp_path):
    made, _ = prepared(tmp_path, "abab" * 500, val_fraction=0.1, test_fraction=0.0)
    assert Task(made, 8).guessing() == pytest.approx(0.6931, abs=1e-3)
    (tmp_path / "prose").mkdir()
    made, _ = prepared(tmp_path / "prose", prose(4000))
    assert 2.0 < Task(made, 8).guessing() < 4.0


def test_where_evaluations_are_few_the_training_loss_tells_of_a_plateau():
    noise = [0.01, -0.02, 0.015, -0.005, 0.0]
    losses = [2.5 - 0.01 * n for n in range(100)] + [1.5 + noise[n % 5] for n in range(300)]
    rows = [{"step": n, "train/loss": loss} for n, loss in enumerate(losses, start=1)]
    since = verdict.flat_since(verdict._losses([*rows, {"step": 400, "val/loss": 1.5}]))
    assert 90 <= since <= 130
    assert verdict.flat_since(verdict._losses(rows[:100])) is None


def test_a_run_that_moved_nothing_is_a_plateau(tmp_path):
    """Show the end of a program: see test_launch for its words."""
    trainer = fit(tmp_path, "train.steps=20", "train.eval_every=2", "optimizer.lr=1e-9")
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    accuracy = trainer.state.scores["val/accuracy"]
    assert verdict.of(trainer.config, rows, End(accuracy, None, None)).name == "plateau"
