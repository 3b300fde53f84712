"""An author's mistake in a task is a sentence before the training, not a wrong score after it."""

import numpy as np
import pytest
from helpers.configs import toy

from cleangpt import tasks
from cleangpt.basics.errors import UserError
from cleangpt.config import experiment
from cleangpt.tasks.contract import Batch
from cleangpt.tasks.copy import Task
from cleangpt.tasks.usable import refuse_unusable


def made(**methods):
    """The task `copy`, with other methods."""
    settings = experiment.parse(toy("dataset=copy")).dataset
    return type("Broken", (Task,), methods)(settings)


def changed(**fields):
    """A `batch` with other fields, each of them made of the real ones."""

    def batch(self, split, index, epoch_keys=None):
        real = Task.batch(self, split, index, epoch_keys)
        return Batch(**{**real.__dict__, **{name: make(real) for name, make in fields.items()}})

    return batch


def narrow(name):
    return lambda real: getattr(real, name).astype(np.int32)


BROKEN = {
    "rows of": {"sequence_length": 3},
    "of int32": {"batch": changed(targets=narrow("targets"), inputs=narrow("inputs"))},
    "of which its tokenizer has": {"batch": changed(targets=lambda real: real.targets + 1000)},
    "tokens from -1": {"batch": changed(inputs=lambda real: np.where(real.inputs == 3, -1, real.inputs))},
    "and targets of": {"batch": changed(targets=lambda real: real.targets[:, 1:])},
    "empty answer": {"batch": changed(answer=lambda real: real.answer & (np.arange(len(real.answer)) > 0)[:, None])},
    "slices called problems": {"slices": lambda self, split, index: {"problems": index}},
    "slices called position": {"slices": lambda self, split, index: {"position": index}},
    "no whole numbers": {"slices": lambda self, split, index: {"half": index / 2}},
}


@pytest.mark.parametrize("what", BROKEN)
def test_it_is_named(what):
    with pytest.raises(UserError, match=f"dataset=copy can't be learned: its train split gives .*{what}"):
        refuse_unusable(made(**BROKEN[what]))


@pytest.mark.parametrize("name", [name for name, kind in tasks.SETTINGS.items() if kind is not tasks.SETTINGS["text"]])
def test_ours_are_right(name):
    config = experiment.parse(toy(f"dataset={name}"))
    refuse_unusable(tasks.make(config.dataset))


def test_rows_of_different_lengths_need_a_token_to_fill_them_up():
    with pytest.raises(UserError, match="give the task a `pad`"):
        Batch.of(np.array([[1], [2]]), np.array([[3, 4], [5, -1]]), None)
