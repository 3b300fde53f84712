"""Look at a few samples of a task before a training: an author's mistake is a sentence, and no wrong score."""

import numpy as np

from cleangpt.basics.errors import UserError
from cleangpt.tasks.contract import TaskWithAnswers

LOOKED_AT = 256  # samples of each split that are looked at before a training
RESERVED = {"position", "problems", "correct", "accuracy", "interval"}  # what a score has beside its slices


def refuse_unusable(task: TaskWithAnswers) -> None:
    """Refuse samples that a model can't read or nobody can judge, by a few of each split and set."""
    for split in ("train", "val", "test", *task.sets):
        if not (count := min(task.size(split), LOOKED_AT)):
            continue
        batch, length = task.batch(split, np.arange(count)), task.sequence_length
        inputs, targets = np.asarray(batch.inputs), np.asarray(batch.targets)
        tokens = np.concatenate([inputs.ravel(), targets.ravel()])
        wrong = None
        if inputs.shape != targets.shape or inputs.ndim != 2 or len(inputs) != count:
            wrong = f"inputs of shape {inputs.shape} and targets of {targets.shape} for {count} samples"
        elif tokens.dtype != np.int64:
            wrong = f"tokens of {tokens.dtype}, not int64"
        elif inputs.shape[1] > length:
            wrong = f"rows of {inputs.shape[1]} tokens, more than its sequence_length of {length}"
        elif tokens.min() < 0 or tokens.max() >= task.tokenizer.vocab_size:
            known = task.tokenizer.vocab_size
            wrong = f"tokens from {tokens.min()} to {tokens.max()}, of which its tokenizer has {known}"
        elif batch.answer is None or not batch.answer.any(axis=1).all():
            wrong = "questions with an empty answer, which nobody could get wrong"
        for name, values in task.slices(split, np.arange(count)).items() if wrong is None else ():
            properties = values if isinstance(values, dict) else {name: values}
            if taken := RESERVED & {name, *properties}:
                wrong = f"slices called {taken.pop()}, a name that each score has already"
            elif any(np.asarray(found).dtype.kind not in "iub" for found in properties.values()):
                wrong = f"slices `{name}` that are no whole numbers"
        if wrong:
            raise UserError(f"dataset={task.settings.name} can't be learned: its {split} split gives {wrong}")
