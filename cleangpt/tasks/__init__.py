"""What can be learned. A task is one file (or folder) here and one YAML in conf/dataset/.

Its file defines `Settings`, the keys of its YAML, whose `name` lists the names that it answers to, and `Task`,
which is made from them. Nothing else has to be told about it: the files of this folder are found by looking.
A task has

    tokenizer            text ↔ tokens, with `vocab_size`
    sequence_length      the tokens that a model reads of one sample
    size(split)          how many samples train, val and test have; 0 where there is no such split
    batch(split, index, epoch_keys)  the samples of these indices, as a `Batch`. In training each comes with a key
                         of its epoch, by which a task may vary its samples
    place(device)        bring data to the device, if there is any
    reads_disk           whether to make samples ahead, since reading them may take a while
    fingerprint()        what tells this data from other data, for a run that is resumed
    val_size             how many samples of val an evaluation looks at
    has_answers          whether a sample is right or wrong, so that there is an accuracy
    guessing()           without answers: the loss of knowing only how often each token comes
    measures(loss)       what a loss of validation means in other measures, by name
    more_is_better       the names of its scores (accuracy, …) that are better when they are higher; others when lower
    score(judge, split, limit, method, watch)  the exact score of a model on a split, as a plain dict; `watch` (of
                         evaluate.py, optional) is told how far it is. Whoever prints and stores the score reads
                         split, method, complete, problems or windows, seconds, forced_equals_decoded
    headline(score)      what of it goes into summary.json, by name
    tables(score)        a score as tables for a person
    plots(score, folder, name)  a score as pictures; their paths
    show(judge, count)   a few samples with the model's answers, a line each

where its samples are questions with one right answer, for sample.py

    ask(text)            a person's question as a `Question`
    examples(count)      a few held-out ones

and knows nothing of the trainer.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np


@dataclass(frozen=True)
class Batch:
    """n samples of T tokens to read, as numpy arrays, or as tensors where the data lies on the device.

    What is padding has neither weight nor answer.
    """

    inputs: Any  # (n, T) int64
    targets: Any  # (n, T) int64, the token that follows
    loss_weights: np.ndarray | None  # (n, T) float32, what a target counts in the loss; None: 1
    answer: np.ndarray | None  # (n, T) bool, targets that have to be right for the sample to be right; None: no answer
    real: np.ndarray | None  # (n, T) bool, inputs that are not padding; None: all
    documents: Any = None  # (n, T) int64, the number of each token's document, where attention stays within it


@dataclass(frozen=True)
class Question:
    """Something to ask a model, to which one answer is right."""

    text: str  # as a person writes it
    tokens: list[int]  # as the model reads it
    right: list[int]  # the tokens of the right answer, its end included
    new_tokens: int  # of the longest answer
    read: Callable[[list[int]], str]  # an answer's tokens as a person writes them

    def is_right(self, answer: list[int]) -> bool:
        return answer[: len(self.right)] == self.right

    def verdict(self, answer: list[int]) -> str:
        marked = "✓" if self.is_right(answer) else f"✗ it is {self.read(self.right)}"
        return f"{self.text} = {self.read(answer)} {marked}"


def _discover() -> dict[str, type]:
    found = {}
    for module_info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        if hasattr(module, "Settings"):
            found[module_info.name] = module.Settings
    return found


SETTINGS = _discover()


def of(name: str) -> type:
    """The class of the task that answers to this name."""
    settings = next(found for found in SETTINGS.values() if name in get_args(found.model_fields["name"].annotation))
    return importlib.import_module(settings.__module__).Task


def make(settings, context: int | None = None):
    """The task that these settings describe. `context` is what the model can read at once, where that is given."""
    return importlib.import_module(type(settings).__module__).Task(settings, context)
