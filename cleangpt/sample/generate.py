"""Decoding with a KV cache: texts of different lengths in one batch, each as if it were alone.

    for piece in generate.stream(model, tokenizer, [tokenizer.encode("Once")], new_tokens=100, how=Sampling(0.8)):
        print(piece.text, end="", flush=True)

    texts = generate.write(model, tokenizer, prompts, new_tokens=100, how=Sampling(0.8, top_p=0.9), seed=1, samples=2)

The model is in evaluation mode. A text is a function of the weights, its prompt, and its key, which comes of the seed
and of the numbers of prompt and sample: not of what else is in the batch (but for the rounding of floating-point sums,
which may turn a choice that is a hair's breadth from being the other way).
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cleangpt.basics.seeds import derive
from cleangpt.machine import compiler
from cleangpt.models.contract import Cache, LanguageModel
from cleangpt.sample.choose import Chooser, Sampling
from cleangpt.tokens.as_text import Detokenizer
from cleangpt.tokens.tokenizers import Tokenizer

GREEDY = Sampling()


class Reading:
    """Texts that grow, one a row, and what the model expects to follow them.

    All rows end in the same column, so the shorter ones begin with padding. A text that outgrows the context is read
    anew from the newest half of it on, and `slid` says so.
    """

    def __init__(
        self,
        model: LanguageModel,
        prompts: Sequence[Sequence[int]] | Tensor,
        new_tokens: int,
        positions: Sequence[Sequence[int]] | np.ndarray | None = None,  # of each text, where they do not simply count
    ):
        self.model, self.context = model, model.config.context or sys.maxsize
        lengths = np.array([len(prompt) for prompt in prompts])
        self.end = int(lengths.max())  # the columns that are filled
        self.starts = self.end - lengths  # the first column that is read of each row
        self.slid = np.zeros(len(prompts), bool)
        if not isinstance(prompts, Tensor):
            rows = [[0] * int(start) + list(prompt) for start, prompt in zip(self.starts, prompts, strict=True)]
            prompts = torch.tensor(rows, dtype=torch.int64).to(next(model.parameters()).device)
        self.tokens = F.pad(prompts, (0, new_tokens))
        self.positions = None if positions is None else self._of_columns(positions)
        self.first = int(self.starts.min())
        self.cache: Cache | None = None

    def _of_columns(self, positions: Sequence[Sequence[int]] | np.ndarray) -> Tensor:
        """Say the position of each column (n, columns + 1), from those of the texts that end in one column."""
        place = np.arange(self.tokens.shape[1] + 1) - self.starts[:, None]
        rows = [np.asarray(row)[np.clip(own, 0, len(row) - 1)] for row, own in zip(positions, place, strict=True)]
        return torch.from_numpy(np.stack(rows)).to(self.tokens.device)

    def following(self) -> Tensor:
        """Compute the logits (n, V) of the token that comes next in each row."""
        if self.end - self.first > self.context:
            self._slide()
        unread = self.end - 1
        if self.cache is None:
            unread = self.first
            # One column more than is filled: a completely full cache would make torch.compile compile anew.
            columns = min(self.context, self.tokens.shape[1] - self.first) + 1
            padding = self.starts - self.first
            starts = torch.from_numpy(padding).to(self.tokens.device) if padding.any() else None
            told = {}
            if self.positions is not None:
                told["positions"] = self.positions[:, self.first : self.first + columns]
            self.cache = self.model.new_cache(len(self.tokens), columns, starts, **told)
        return self.model.following(self.tokens[:, unread : self.end], self.cache)

    def append(self, tokens: Tensor) -> None:
        """Add one token (n,) to each row."""
        self.tokens[:, self.end] = tokens
        self.end += 1

    def keep(self, rows: list[int]) -> None:
        """Go on with these rows only."""
        index = torch.tensor(rows, device=self.tokens.device)
        self.tokens, self.starts, self.slid = self.tokens[index], self.starts[rows], self.slid[rows]
        if self.positions is not None:
            self.positions = self.positions[index]
        if self.cache is not None:
            self.cache.keep(index)

    def _slide(self) -> None:
        outgrown = self.end - self.starts > self.context
        self.starts[outgrown] = self.end - max(1, self.context // 2)
        self.slid |= outgrown
        self.first, self.cache = int(self.starts.min()), None


def compile_for_decoding(model: LanguageModel) -> None:
    """Compile the step of one token for any length, which takes a minute at first."""
    eager = model.following
    compiler.without_a_stopwatch()
    compiled = torch.compile(eager, dynamic=True)

    def following(tokens: Tensor, cache: Cache) -> Tensor:
        if not cache.length or tokens.shape[1] > 1:
            return eager(tokens, cache)
        return compiled(tokens.clone(), cache)  # a copy, since torch.compile guards on where a slice begins

    vars(model)["following"] = following  # in front of the class's own


@torch.inference_mode()
def greedy(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]] | Tensor,
    new_tokens: int,
    positions: np.ndarray | None = None,
) -> Tensor:
    """Go on with prompts (n, P), or of any lengths, by the likeliest token each time: (n, new_tokens)."""
    reading = Reading(model, prompts, new_tokens, positions)
    for _ in range(new_tokens):
        reading.append(reading.following().argmax(dim=-1))
    return reading.tokens[:, reading.end - new_tokens :]


@dataclass(frozen=True)
class Piece:
    """Text that one step adds to one row."""

    row: int
    token: int
    text: str  # whole characters, those that earlier tokens began among them
    ended: str | None  # "end": the model ended the document; "stop": a stop string came; "length": no more tokens
    slid: bool  # the model no longer reads the beginning


@torch.inference_mode()
def stream(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    *,
    new_tokens: int,
    how: Sampling = GREEDY,
    keys: Sequence[int] | None = None,
    stop: Sequence[str] = (),
    positions: Sequence[Sequence[int]] | None = None,
    watch: Callable[[Tensor, Chooser], None] = lambda logits, chooser: None,
) -> Iterator[Piece]:
    """Go on with each prompt, step by step; rows with the same prompt and key have the same text.

    A text ends with the tokenizer's end token, before a stop string, or after `new_tokens`. `watch` sees the logits of
    each step, and who chooses by them.
    """
    reading = Reading(model, prompts, new_tokens, positions)
    chooser = Chooser(how, keys or [0] * len(prompts), prompts, tokenizer.vocab_size)
    writers = [Detokenizer(tokenizer, stop) for _ in prompts]
    rows = list(range(len(prompts)))  # which text each row of the batch is
    live = set(rows)
    for step in range(1, new_tokens + 1):
        logits = reading.following()
        watch(logits, chooser)
        chosen = chooser(logits)
        reading.append(chosen)
        for place, (row, token) in enumerate(zip(rows, chosen.tolist(), strict=True)):
            if row not in live:
                continue
            writer, is_end = writers[row], token == tokenizer.end
            text = "" if is_end else writer.push(token)
            ended = "end" if is_end else "length" if step == new_tokens else None
            if ended:
                text += writer.finish()
            if writer.stopped:
                ended = "stop"
            if ended:
                live.discard(row)
            yield Piece(row, token, text, ended, bool(reading.slid[place]))
        if not live:
            return
        if 2 * len(live) <= len(rows):  # the cache is copied, which has to pay
            kept = [place for place, row in enumerate(rows) if row in live]
            reading.keep(kept)
            chooser.keep(kept)
            rows = [rows[place] for place in kept]


@dataclass
class Text:
    """Text that a model wrote after a prompt."""

    prompt: int  # its number
    sample: int  # which of several
    text: str = ""
    tokens: list[int] = field(default_factory=list)  # the end token, or those of a stop string, included
    ended: str | None = None  # as in Piece
    slid: bool = False

    def add(self, piece: Piece) -> None:
        self.text += piece.text
        self.tokens.append(piece.token)
        self.ended, self.slid = piece.ended, piece.slid


def key_of(seed: int, prompt: int, sample: int) -> int:
    """Derive the key that the random numbers of a text are made from."""
    return derive(seed, "sample", prompt, sample)


def write(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    *,
    new_tokens: int,
    how: Sampling = GREEDY,
    seed: int = 0,
    samples: int = 1,
    stop: Sequence[str] = (),
    batch_size: int = 64,
    positions: Sequence[Sequence[int]] | None = None,
) -> Iterator[list[Text]]:
    """Write `samples` texts after each prompt, batch by batch, with prompts of like length together."""
    wanted = [Text(number, sample) for number in range(len(prompts)) for sample in range(samples)]
    wanted.sort(key=lambda text: len(prompts[text.prompt]))
    for start in range(0, len(wanted), batch_size):
        batch = wanted[start : start + batch_size]
        keys = [key_of(seed, text.prompt, text.sample) for text in batch]
        own = [prompts[text.prompt] for text in batch]
        places = None if positions is None else [positions[text.prompt] for text in batch]
        pieces = stream(model, tokenizer, own, new_tokens=new_tokens, how=how, keys=keys, stop=stop, positions=places)
        for piece in pieces:
            batch[piece.row].add(piece)
        yield batch


def continuations(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
    stop: Sequence[str] = (),
    batch_size: int = 64,
) -> list[str]:
    """Decode greedily after each prompt, up to a stop string; the texts in the order of the prompts."""
    batches = write(model, tokenizer, prompts, new_tokens=new_tokens, stop=stop, batch_size=batch_size)
    found = {text.prompt: text.text for batch in batches for text in batch}
    return [found[number] for number in range(len(prompts))]
