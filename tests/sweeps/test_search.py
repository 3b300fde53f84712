"""Searches: trials lie in their space, go on where they were, and end early where others are better."""

import json

import pytest
from helpers.sweeping import SWEEPER, Fake, FakeRun, complete, composing

from cleangpt.basics.errors import ConfigError, UserError
from cleangpt.sweeps import jobs, loop, settings


def searching(folder, *words, **changes):
    from cleangpt.sweeps.search import Search

    folder.mkdir(exist_ok=True)
    words = words or (
        "optimizer.lr=tag(log,interval(1e-4,1e-2))",
        "model.n_layer=1,2",
        "train.batch_size=range(8,17,4)",
    )
    return Search(settings.sweeper({**SWEEPER, **changes}), words, composing(folder), folder)


def test_trials_lie_within_the_space_and_differ(tmp_path):
    plan = searching(tmp_path / "s", trials=12)
    found = []
    while (job := plan.next()) is not None:
        found.append(dict(word.split("=") for word in job.overrides))
        complete(job, **{"best/val/loss": 1.0 + len(found)})
        plan.ended(job, jobs.outcome(job, 0, 0))
    rates = [float(one["optimizer.lr"]) for one in found]
    assert len(set(rates)) == len(found) == 12
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert sum(rate < 1e-3 for rate in rates) >= 2, "on a log scale half of them are below"
    assert {one["model.n_layer"] for one in found} == {"1", "2"}
    assert {one["train.batch_size"] for one in found} <= {"8", "12", "16"}
    assert plan.report()[0].startswith("Best val/loss: 2, trial 0: optimizer.lr=")


def test_an_interrupted_search_goes_on_with_its_trials_and_what_it_learned(tmp_path):
    first = searching(tmp_path / "s")
    done, begun = first.next(), first.next()
    complete(done, **{"best/val/loss": 1.0})
    first.ended(done, jobs.outcome(done, 0, 0))
    first.watched(begun, [{"step": 1, "val/loss": 3.0}])
    again = searching(tmp_path / "s")
    assert [(job.number, outcome.status) for job, outcome in again.before] == [(0, "done before")]
    resumed = again.next()
    assert (resumed.number, resumed.overrides, resumed.folder) == (1, begun.overrides, begun.folder)
    again.watched(resumed, [{"step": 1, "val/loss": 3.0}, {"step": 2, "val/loss": 2.5}])
    others = [again.next(), again.next(), again.next()]
    assert [job and job.number for job in others] == [2, 3, None], "four trials in all"
    assert len({job.overrides for job in (done, resumed, *others[:2])}) == 4, "proposals do not begin anew"


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        (["optimizer.lr=tag(log,interval(1e-4,1e-1))"], {}),
        (["optimizer.lr=tag(log,interval(1e-4,1e-2))", "train.steps=3"], {}),
        (["optimizer.lr=tag(log,interval(1e-4,1e-2))"], {"metric": "val/accuracy"}),
    ],
)
def test_another_search_is_not_mixed_with_one_that_is_there(tmp_path, words, changes):
    searching(tmp_path / "s", "optimizer.lr=tag(log,interval(1e-4,1e-2))").next()
    with pytest.raises(UserError, match="is another one"):
        searching(tmp_path / "s", *words, **changes)


def test_a_trial_that_is_worse_than_the_median_is_stopped_and_known_as_pruned(tmp_path, quick, capsys):
    plan = searching(tmp_path / "s", trials=3, startup_trials=1)
    losses = {0: 1.0, 1: 5.0, 2: 0.5}

    class Learning(FakeRun):
        def poll(self):
            if self.left == self.fake.looks:
                row = {"step": 1, "val/loss": losses[self.job.number]}
                self.job.run.metrics.write_text(json.dumps(row) + "\n")
            status = super().poll()
            if status == 0:
                complete(self.job, **{"best/val/loss": losses[self.job.number]})
            return status

    class LearningFake(Fake):
        def start(self, job):
            self.running += 1
            return Learning(self, job)

    fake = LearningFake(1, {}, looks=4)
    assert loop.run(plan, fake, tmp_path / "s") == 0
    assert fake.notes == [("stop", 1)]
    assert [trial.state.name for trial in plan.study.trials] == ["COMPLETE", "PRUNED", "COMPLETE"]
    said = capsys.readouterr().out
    assert "pruned at step 1" in said
    assert "Best val/loss: 0.5, trial 2" in said


def test_what_is_searched_for_is_what_the_task_calls_better(tmp_path):
    chosen = [
        ("val/accuracy", "auto", "MAXIMIZE"),
        ("val/loss", "auto", "MINIMIZE"),
        ("val/accuracy", "minimize", "MINIMIZE"),
    ]
    for n, (metric, direction, found) in enumerate(chosen):
        assert searching(tmp_path / str(n), metric=metric, direction=direction).study.direction.name == found


def test_a_metric_that_no_evaluation_has_fails_with_those_that_it_has(tmp_path):
    plan = searching(tmp_path / "s", metric="val/los")
    job = plan.next()
    complete(job, **{"best/val/loss": 1.0})
    outcome = jobs.outcome(job, 0, 0)
    plan.ended(job, outcome)
    assert outcome.status == "failed"
    assert "`hydra.sweeper.metric` val/los is no value of an evaluation: there are val/loss" in outcome.message


def test_a_search_without_a_space_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="a search needs values to choose from"):
        searching(tmp_path / "s", "seed=1")
