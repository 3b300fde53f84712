"""By what best/ goes, and what evaluations say of samples that are trained on."""

import numpy as np
import pytest
from helpers.trainings import fit, make_trainer, rows

from cleangpt.basics.errors import UserError
from cleangpt.basics.seeds import Permutation
from cleangpt.score import evaluate
from cleangpt.training.whole import _refuse_unknown_goal

RISING = [(3.0, 0.1), (2.0, 0.2), (4.0, 0.9), (5.0, 0.9), (1.0, 0.3)]  # val/loss and val/accuracy of evaluations


@pytest.mark.parametrize(("best", "expected"), [("val/loss", [1, 2, 2, 2, 5]), ("val/accuracy", [1, 2, 3, 3, 3])])
def test_best_goes_by_the_score_that_was_asked_for(tmp_path, monkeypatch, best, expected):
    trainer = make_trainer(tmp_path, f"train.best={best}")
    scores = iter(RISING)
    monkeypatch.setattr(
        evaluate, "validate", lambda *_, **__: dict(zip(("val/loss", "val/accuracy"), next(scores), strict=True))
    )
    found = []
    for step in range(1, len(RISING) + 1):
        trainer.state.step = step
        trainer.evaluate()
        found.append(trainer.state.best_step)
    trainer.writer.close()
    assert found == expected


def test_of_evaluations_that_are_alike_the_one_with_the_lower_loss_is_best(tmp_path):
    trainer = make_trainer(tmp_path, "train.best=val/accuracy")
    assert trainer._is_better({"val/loss": 1.0, "val/accuracy": 0.5}, {"val/loss": 2.0, "val/accuracy": 0.5})
    assert not trainer._is_better({"val/loss": 3.0, "val/accuracy": 0.5}, {"val/loss": 2.0, "val/accuracy": 0.5})


def test_samples_that_are_trained_on_are_fixed_and_judged_exactly(tmp_path):
    trainer = fit(tmp_path, "train.eval_train=50", "train.steps=8")
    logged = [row for row in rows(tmp_path) if "train/accuracy" in row]
    assert [row["step"] for row in logged] == [4, 8]
    task = trainer.task
    index = Permutation(task.size("train"), task.key("evaluated"))(np.arange(50))
    batch = task.batch("train", index)
    right = np.all((trainer.judge.predictions(batch)[0] == batch.targets) | ~batch.answer, axis=1)
    assert logged[-1]["train/accuracy"] == right.mean()
    weight = losses = 0.0
    for rows_of, (_, _, found) in zip([slice(0, 50)], trainer.judge.teacher_forced(batch), strict=True):
        counts = batch.loss_weights[rows_of, batch.loss_weights.shape[1] - found.shape[1] :]
        losses, weight = float((found.numpy() * counts).sum()), counts.sum()
    assert logged[-1]["train/evaluated_loss"] == pytest.approx(losses / weight, rel=1e-5)


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (("train.best=val/accurcy",), "`train.best` is val/accurcy, which dataset=adder does not have"),
        (("train.best=train/accuracy",), "`train.best` is train/accuracy"),
    ],
)
def test_a_score_that_evaluations_do_not_have_is_refused(tmp_path, words, wrong):
    trainer = make_trainer(tmp_path, *words)
    with pytest.raises(UserError, match=wrong):
        _refuse_unknown_goal(trainer.config, trainer.task)
    trainer = make_trainer(tmp_path, "train.best=train/accuracy", "train.eval_train=9")
    _refuse_unknown_goal(trainer.config, trainer.task)
