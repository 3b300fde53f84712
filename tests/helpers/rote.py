"""A model that knows its answers by heart, to be scored."""

from collections import ChainMap
from collections.abc import Mapping
from functools import cache
from types import SimpleNamespace

import numpy as np
import torch

from cleangpt.machine.launcher import World
from cleangpt.score.evaluate import Judge
from cleangpt.tasks.arithmetic import Settings, Task
from helpers.sums import written

ALONE = World(0, 1, 0, 1)
# Ways to write problems.
FORMATS = [
    {"padded": padded, "reversed": reversed_, "symbols": symbols, "end_token": end}
    for reversed_ in (True, False)
    for padded, symbols, end in ((True, True, True), (True, True, False), (True, False, True), (False, True, True))
]


@cache
def by_heart(s: Settings) -> dict[tuple[int, ...], int]:
    """What follows each part of each right answer."""
    task, follows = Task(s), {}
    for a, b in np.ndindex(task.universe.numbers, task.universe.numbers):
        follows |= steps(task, *written(s, a, b))
    return follows


def steps(task: Task, prompt: str, answer: str) -> dict[tuple[int, ...], int]:
    tokens = tuple(task.tokenizer.encode(prompt + answer))
    return {tokens[:place]: tokens[place] for place in range(len(prompt), len(tokens))}


class Read(list):
    """Tokens that were read, in the place of keys and values."""

    def keep(self, rows):
        self[:] = [tokens[rows] for tokens in self]


class Rote:
    """A model that knows by heart what follows each text; what it does not know is followed by a zero.

    It answers each prompt of its task right, but where `says` gives another answer.
    """

    def __init__(self, task: Task, says: dict[tuple[int, int], str] | None = None, follows: Mapping | None = None):
        self.config = SimpleNamespace(vocab_size=task.tokenizer.vocab_size, context=task.sequence_length, n_embd=1)
        self.training = True
        told = {}
        for (a, b), answer in (says or {}).items():
            told |= steps(task, written(task.settings, a, b)[0], answer)
        self.follows = ChainMap(told, by_heart(task.settings) if follows is None else follows)

    def forward(self, tokens, cache=None, documents=None, since=0):
        return self.hidden(tokens, cache)[:, since:]

    def hidden(self, tokens, cache=None):
        assert not self.training
        read = tokens
        if cache is not None:
            cache.append(tokens)
            read = torch.cat(list(cache), dim=1)
        logits = torch.zeros(*tokens.shape, self.config.vocab_size)
        first = read.shape[1] - tokens.shape[1]
        for n, row in enumerate(read.tolist()):
            for place in range(tokens.shape[1]):
                logits[n, place, self.follows.get(tuple(row[: first + place + 1]), 0)] = 1
        return logits

    def following(self, tokens, cache):
        return self.forward(tokens, cache)[:, -1]

    def new_cache(self, batch, length, starts=None):
        assert starts is None
        return Read()

    def eval(self):
        self.training = False

    def train(self, mode=True):
        self.training = mode


def judge(model, world: World = ALONE, kind: type[Judge] = Judge) -> Judge:
    return kind(model, torch.device("cpu"), world)


def rote(task: Task, says: dict[tuple[int, int], str] | None = None) -> Judge:
    return judge(Rote(task, says))


def flawed(task, share: float) -> dict[tuple[int, int], str]:
    """False answers to this share of the problems, wrong from one token on: which one goes around."""
    chance = np.random.default_rng(0)
    says = {}
    for a, b in np.ndindex(task.universe.numbers, task.universe.numbers):
        if chance.random() < share:
            _, answer = written(task.settings, a, b)
            place = len(says) % len(answer)
            says[a, b] = answer[:place].ljust(len(answer), "*")
    return says
