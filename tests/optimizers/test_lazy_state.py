"""An optimizer of torch, which makes its state in its first step, resumes exactly too."""

import pytest
import torch
from helpers.trainings import fit, losses, weights

from cleangpt.basics.errors import UserError
from cleangpt.optimizers import adamw


def lazy(kind, **settings):
    """Stand in for an optimizer's class: what torch makes of the groups, whatever their settings are."""
    return lambda _config, groups: kind([{**group, "weight_decay": 0.0} for group in groups], **settings)


@pytest.mark.parametrize(
    "made", [lazy(torch.optim.SGD, lr=1.0, momentum=0.9), lazy(torch.optim.Adam, lr=1.0)], ids=["momentum", "adam"]
)
def test_a_run_resumes_exactly(tmp_path, monkeypatch, made):
    monkeypatch.setattr(adamw, "Optimizer", made)
    words = ("optimizer=adamw", "train.snapshot_every=4")
    whole = fit(tmp_path / "whole", *words)
    again = fit(tmp_path / "again", *words, snapshot=tmp_path / "whole" / "snapshots" / "step_00000004")
    assert torch.equal(weights(whole), weights(again))
    assert losses(tmp_path / "whole")[4:] == losses(tmp_path / "again")


def test_state_that_a_snapshot_can_not_hold_is_named(tmp_path, monkeypatch):
    class Counting(torch.optim.SGD):
        def step(self):
            super().step()
            for group in self.param_groups:
                for parameter in group["params"]:
                    self.state[parameter]["steps"] = 1

    monkeypatch.setattr(adamw, "Optimizer", lazy(Counting, lr=1.0))
    with pytest.raises(UserError, match=r"/steps is no tensor"):
        fit(tmp_path, "optimizer=adamw", "train.snapshot_every=4")
