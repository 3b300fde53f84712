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

from typing import Any

from cleangpt.basics import found
from cleangpt.basics.schema import Section

SETTINGS = found.settings(__name__, "cleangpt.tasks")  # by name


def make(settings: Section, context: int | None = None) -> Any:
    """Make the task that these settings describe. `context` is what the model can read at once, if that is given."""
    return found.module_of(type(settings)).Task(settings, context)


def of(name: str) -> type:
    """Return the class of the task that answers to this name."""
    return found.module_of(SETTINGS[name]).Task
