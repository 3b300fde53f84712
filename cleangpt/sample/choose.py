"""From the logits of the next token to the token.

The filters come in the usual order: repetition penalty, temperature, top_k, top_p, min_p. Tokens that are as likely
as the last one that a filter keeps are kept too, so that an order among equals never matters. The token is found by
inverting the distribution function at a number that is a pure function of the text's key and the step: what else
is in the batch does not change it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cleangpt.basics.seeds import uniforms

LEAST = 1e-30  # temperature: of less there is none in float32
STEPS_AHEAD = 128  # random numbers that are made at a time
FIRST_LOOK = 64  # tokens that are sorted at first: a model that is sure of itself needs no more


@dataclass(frozen=True)
class Sampling:
    """A way to choose tokens; by default always the likeliest one."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0


def choose(logits: Tensor, how: Sampling, uniform: Tensor) -> Tensor:
    """Choose a token (n,) by its logits (n, V) and a number between 0 and 1 (n,)."""
    if logits.device.type == "mps":  # has no float64
        return choose(logits.cpu(), how, uniform).to(logits.device)
    below = weights(logits, how).cumsum(dim=-1, dtype=torch.float64)
    place = uniform.double()[:, None] * below[:, -1:]
    return torch.searchsorted(below, place, right=True)[:, 0]  # the first whose sum is above: its weight is not 0


def weights(logits: Tensor, how: Sampling) -> Tensor:
    """Weigh the tokens (n, V) by temperature and filters: the likeliest has 1, and what is left out 0."""
    logits = logits.float()
    if how.top_k is not None and how.top_k < logits.shape[-1]:
        least = logits.topk(how.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, float("-inf"))
    found = ((logits - logits.amax(dim=-1, keepdim=True)) / max(how.temperature, LEAST)).exp()
    if how.top_p is not None and how.top_p < 1:
        found = found.masked_fill(found < least_of_nucleus(found, how.top_p), 0.0)
    if how.min_p is not None:
        found = found.masked_fill(found < how.min_p, 0.0)
    return found


def least_of_nucleus(weights: Tensor, mass: float) -> Tensor:
    """Find the least weight (n, 1) among the fewest likeliest tokens that have this part of the mass together."""
    wanted = mass * weights.cumsum(dim=-1, dtype=torch.float64)[:, -1:]
    count = min(FIRST_LOOK, weights.shape[-1])
    while True:
        largest = weights.topk(count).values
        inside = largest.cumsum(dim=-1, dtype=torch.float64) - largest < wanted
        if count == weights.shape[-1] or not inside[:, -1].any():
            return largest.gather(-1, inside.sum(dim=-1, keepdim=True) - 1)
        count = min(8 * count, weights.shape[-1])


class Chooser:
    """A choice of tokens for several texts, step by step, each text with random numbers of its own key."""

    def __init__(self, how: Sampling, keys: Sequence[int], prompts: Sequence[Sequence[int]], vocab_size: int):
        self.how, self.keys, self.vocab_size = how, list(keys), vocab_size
        self.step, self.ahead = 0, torch.empty(0)
        self.seen: Tensor | None = None  # (n, V) True for the tokens that a text has already
        if how.repetition_penalty != 1:
            self.seen = torch.zeros(len(prompts), vocab_size, dtype=torch.bool)
            for row, prompt in zip(self.seen, prompts, strict=True):
                row[list(prompt)] = True

    def __call__(self, logits: Tensor) -> Tensor:
        """Choose tokens (n,) by logits (n, V), of more tokens than the tokenizer has perhaps."""
        logits = self._penalised(logits)
        if self.how.temperature == 0:
            chosen = logits.argmax(dim=-1)
        else:
            chosen = choose(logits, self.how, self._uniform(logits.device))
        if self.seen is not None:
            self.seen.scatter_(1, chosen[:, None], True)
        self.step += 1
        return chosen

    def shares(self, logits: Tensor) -> Tensor:
        """Compute how likely each token (n, V) is to be chosen next, by all the rules."""
        logits = self._penalised(logits).cpu()
        if self.how.temperature == 0:
            return torch.nn.functional.one_hot(logits.argmax(dim=-1), logits.shape[-1]).float()
        found = weights(logits, self.how)
        return found / found.sum(dim=-1, keepdim=True)

    def _penalised(self, logits: Tensor) -> Tensor:
        logits = logits[:, : self.vocab_size]
        if self.seen is not None:
            self.seen, penalty = self.seen.to(logits.device), self.how.repetition_penalty
            logits = torch.where(self.seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
        return logits

    def keep(self, rows: list[int]) -> None:
        """Go on with these texts only."""
        self.keys = [self.keys[row] for row in rows]
        if len(self.ahead):
            self.ahead = self.ahead[:, rows]
        if self.seen is not None:
            self.seen = self.seen[rows]

    def _uniform(self, device: torch.device) -> Tensor:
        place = self.step % STEPS_AHEAD
        if place == 0:
            steps = np.arange(self.step, self.step + STEPS_AHEAD)
            values = np.stack([uniforms(key, steps) for key in self.keys], axis=1)  # (steps, n)
            self.ahead = torch.from_numpy(values).to("cpu" if device.type == "mps" else device)
        return self.ahead[place]
