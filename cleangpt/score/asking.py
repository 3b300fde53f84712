"""Ask a trained model in another way than it was trained: behind a prefix, at a temperature, several times.

Where one text alone is right, the chance that a model writes it is the product of the chances of its tokens, which one
forced pass gives. From it follow the share of right answers at the first try and within k tries, without drawing any;
on some problems answers are drawn nevertheless, and both have to agree.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cleangpt.basics.errors import UserError
from cleangpt.basics.seeds import scramble
from cleangpt.machine import distributed
from cleangpt.sample import generate
from cleangpt.sample.choose import Sampling
from cleangpt.score.evaluate import Judge, first_that_counts, on_device
from cleangpt.tasks.contract import AT_ONCE, Batch, TaskWithAnswers

DRAWN = 200  # problems on which answers are drawn
UNLIKELY = 5.0  # standard deviations between the answers computed and drawn, beyond which there is no score
FEW = 3  # answers more or less, which are no matter of deviations where right ones are rare


class Disagreement(Exception):
    """Chances that real sampling contradicts."""


@dataclass(frozen=True)
class Ask:
    """A way to ask."""

    prefix: str = ""
    temperature: float = 0.0
    top_k: int | None = None
    samples: int = 1

    @property
    def draws(self) -> bool:
        return self.temperature > 0


class Prefixed:
    """A task whose problems are asked behind a few tokens. In all else it is that task."""

    def __init__(self, task: TaskWithAnswers, tokens: list[int]):
        self._task, self._tokens = task, np.array(tokens, np.int64)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def batch(self, split: str, index: np.ndarray) -> Batch:
        plain, count = self._task.batch(split, index), len(self._tokens)
        before = np.broadcast_to(self._tokens, (len(plain.inputs), count))
        targets = np.concatenate([before[:, 1:], plain.inputs[:, :1]], axis=1)

        def behind(values: np.ndarray | None, filled: bool) -> np.ndarray | None:
            return None if values is None else np.pad(values, ((0, 0), (count, 0)), constant_values=filled)

        return replace(
            plain,
            inputs=np.concatenate([before, plain.inputs], axis=1),
            targets=np.concatenate([targets, plain.targets], axis=1),
            loss_weights=behind(plain.loss_weights, False),
            answer=behind(plain.answer, False),
            real=behind(plain.real, True),
        )

    def read_question(self, tokens: list[int]) -> str:
        return self._task.read_question(tokens[len(self._tokens) :])

    def questions(self, batch: Batch) -> list[Any]:
        return TaskWithAnswers.questions(self, batch)  # type: ignore[arg-type]


def behind(task: TaskWithAnswers, prefix: str, judge: Judge) -> TaskWithAnswers:
    """Ask the problems of a task behind a prefix."""
    if not prefix:
        return task
    tokens = list(task.tokenizer.encode(prefix))
    context, length = judge.model.config.context, task.sequence_length + len(tokens)
    if task.position_rows:
        raise UserError("`ask.prefix` has no meaning where the task says the positions: leave it empty")
    if context is not None and length > context:
        raise UserError(
            f"`ask.prefix` makes problems of {length} tokens, and the model reads {context}: train with "
            f"model.block_size={length}"
        )
    return Prefixed(task, tokens)  # type: ignore[return-value]


def passes(
    task: TaskWithAnswers, judge: Judge, split: str, index: np.ndarray, weights: np.ndarray, ask: Ask
) -> Mapping[str, Any]:
    """Compute the mean chance of a right answer at the first try and within so many, over these weighted problems."""
    share = judge.share(len(index))
    mine = index[share.start : share.stop]
    found = [chances(judge, task.batch(split, part), ask) for part in _parts(mine)]
    chance = judge.gather(np.concatenate([np.empty(0), *found]))
    chosen = np.argsort(scramble(np.arange(len(index)), task.key("asked")))[:DRAWN]
    drawn = distributed.from_main(lambda: _drawn(task, judge, split, index[chosen], ask))
    tries = ask.samples * len(chosen)
    spread = math.sqrt((chance[chosen] * (1 - chance[chosen])).sum() * ask.samples)
    if abs(drawn.sum() - ask.samples * chance[chosen].sum()) > UNLIKELY * spread + FEW:
        raise Disagreement(
            f"of {tries} drawn answers {drawn.sum() / tries:.2%} are right, where {chance[chosen].mean():.2%} were "
            "computed: no score is given. Please report this"
        )
    within = 1 - (1 - chance) ** ask.samples
    return {
        "temperature": ask.temperature,
        "top_k": ask.top_k,
        "samples": ask.samples,
        "problems": len(index),
        "pass@1": float(np.average(chance, weights=weights)),
        f"pass@{ask.samples}": float(np.average(within, weights=weights)),
        "drawn": {
            "problems": len(chosen),
            "answers": tries,
            "right": float(drawn.sum() / tries),
            "computed": float(chance[chosen].mean()),
        },
    }


def _parts(index: np.ndarray) -> list[np.ndarray]:
    return [index[start : start + AT_ONCE] for start in range(0, len(index), AT_ONCE)]


@torch.inference_mode()
def chances(judge: Judge, batch: Batch, ask: Ask) -> np.ndarray:
    """Compute the chance (n,) that a model writes the right answers."""
    since = first_that_counts(batch)
    inputs, targets = on_device(batch.inputs, judge.device), on_device(batch.targets, judge.device)
    found = []
    for rows in judge.parts(*inputs.shape):
        told = judge.places(batch, rows)
        logits = judge.model.forward(inputs[rows], since=since, **told).float()
        likely = _log_chances(logits, ask).gather(-1, targets[rows, since:, None])[..., 0].double()
        assert batch.answer is not None
        counts = on_device(batch.answer[rows, since:], judge.device)
        found.append(likely.masked_fill(~counts, 0.0).sum(dim=1).exp().cpu().numpy())
    return np.concatenate([np.empty(0), *found])


def _log_chances(logits: Tensor, ask: Ask) -> Tensor:
    """Compute the logarithms of the chances of all tokens, by the rules that sampling follows."""
    if ask.top_k is not None and ask.top_k < logits.shape[-1]:
        least = logits.topk(ask.top_k).values[..., -1:]
        logits = logits.masked_fill(logits < least, float("-inf"))
    return (logits / ask.temperature).log_softmax(dim=-1)


def _drawn(task: TaskWithAnswers, judge: Judge, split: str, index: np.ndarray, ask: Ask) -> np.ndarray:
    """Draw answers to some problems, and count the right ones of each (n,)."""
    judge.model.eval()
    questions = task.questions(task.batch(split, index))
    places = [question.positions for question in questions if question.positions is not None]
    texts = generate.write(
        judge.model,
        task.tokenizer,
        [question.tokens for question in questions],
        new_tokens=max(question.new_tokens for question in questions),
        how=Sampling(ask.temperature, ask.top_k),
        seed=task.key("asked"),
        samples=ask.samples,
        positions=places or None,
    )
    right = np.zeros(len(questions))
    for batch in texts:
        for text in batch:
            right[text.prompt] += questions[text.prompt].is_right(text.tokens)
    return right
