"""What a page asks of a model, in its process: a text with all choices, and answers to held-out problems."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from cleangpt.basics.errors import UserError
from cleangpt.basics.seeds import Permutation
from cleangpt.config.programs import SampleConfig
from cleangpt.sample.choose import Chooser
from cleangpt.sample.generate import Text
from cleangpt.sample.prompts import Prompt
from cleangpt.score.evaluate import wilson
from cleangpt.serving.model import Model
from cleangpt.tasks.contract import Question

LIKELIEST = 10  # tokens that are told of each choice
QUIZ = 16  # problems that are answered at once


def speak(model: Model, prompt: str, how: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the prompt as it is read, each token with what else might have come, and how the text ended."""
    settings: SampleConfig = model.settings.model_copy(update=how)
    read = model.read(prompt)
    choice: dict[str, Tensor] = {}

    def watch(logits: Tensor, chooser: Chooser) -> None:
        before = logits[0, : model.tokenizer.vocab_size].float().softmax(dim=-1).cpu()
        choice.update(before=before, after=chooser.shares(logits)[0])

    tokens = [model.name_of(token) for token in read.tokens]
    yield "prompt", {"text": read.text, "tokens": tokens, "asks": read.question is not None}
    text = Text(0, 0)
    for piece in model.text_model.speak(read, settings, watch=watch):
        text.add(piece)
        shares = {name: float(found[piece.token]) for name, found in choice.items()}
        likeliest = {name: _likeliest(model, found) for name, found in choice.items()}
        told = {"name": model.name_of(piece.token), "text": piece.text, "share": shares, "likeliest": likeliest}
        yield "token", told
    verdict = _verdict(read.question, text.tokens) if read.question else None
    yield "ended", {"why": text.ended, "slid": text.slid, "verdict": verdict}


def _likeliest(model: Model, shares: Tensor) -> list[tuple[str, float]]:
    """Name the likeliest tokens, none of those that can't come."""
    found = shares.topk(min(LIKELIEST, len(shares)))
    pairs = zip(found.indices.tolist(), found.values.tolist(), strict=True)
    return [(model.name_of(token), share) for token, share in pairs if share > 0]


def quiz(model: Model, start: int, count: int, right: int) -> Iterator[tuple[str, Any]]:
    """Answer held-out problems, as `sample.py` does, and count.

    They come in an order of their own; `start` of them were asked before, and `right` answers given.
    """
    task = model.reader.task
    if task is None:
        raise UserError("this model was not trained on problems with one right answer")
    split = next((name for name in ("test", "val") if task.size(name)), None)
    if split is None:
        raise UserError("no problem was held out of what this model was trained on")
    size = task.size(split)
    yield "of", {"split": split, "problems": size}
    places = Permutation(size, task.key("quiz"))(np.arange(start, min(start + count, size)))
    for part in range(0, len(places), QUIZ):
        questions = task.questions(task.batch(split, places[part : part + QUIZ]))
        prompts = [Prompt(question.text, question.tokens, question) for question in questions]
        texts = [text for batch in model.text_model.write(prompts, model.settings) for text in batch]
        for text in sorted(texts, key=lambda text: text.prompt):
            question = questions[text.prompt]
            found = {"question": question.text, **_verdict(question, text.tokens)}
            start, right = start + 1, right + found["correct"]
            yield "answer", {**found, "number": start, "so_far": right, "interval": wilson(right, start)}


def _verdict(question: Question, answer: list[int]) -> dict[str, Any]:
    given, right = question.read(answer), question.read(question.right)
    return {"given": given, "right": right, "correct": question.is_right(answer), "digits": digits(given, right)}


def digits(given: str, right: str) -> list[tuple[str, bool]]:
    """Mark each character of an answer; numbers are compared from their ends, and what is missing is a `_`."""
    width = max(len(given), len(right))
    by_place = right.lstrip("-").isdecimal()
    one, other = (text.rjust(width) if by_place else text.ljust(width) for text in (given, right))
    pairs = [(mine, mine == theirs) for mine, theirs in zip(one, other, strict=True)]
    missing = width - len(given)
    for place in range(width):
        if (by_place and place < missing) or (not by_place and place >= len(given)):
            pairs[place] = ("_", False)
    return pairs
