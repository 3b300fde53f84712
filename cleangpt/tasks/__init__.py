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
    headline(score)      what of it goes into summary.json, by name

where its samples are questions with one right answer, for sample.py

    ask(text)            a person's question as a `Question`
    examples(count)      a few held-out ones

and knows nothing of the trainer.
"""

import importlib
import pkgutil
from typing import get_args


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
