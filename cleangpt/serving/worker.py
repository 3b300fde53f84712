"""The process that has the model: it reads a request, and sends what it writes, token by token.

A request that was given up is left at the next token.
"""

import contextlib
import os
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

GONE = (EOFError, OSError, BrokenPipeError)


def work(pipe: Connection, folder: str, settings: dict[str, Any]) -> None:
    """Open the model, say how it is called, and write until nobody asks any more."""
    import signal

    from cleangpt.basics.errors import UserError
    from cleangpt.machine import guard

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server ends it
    guard.leave_with_parent(os.getppid())
    with contextlib.suppress(*GONE):
        try:
            writer = Writer(Path(folder), settings)
        except UserError as error:
            pipe.send(("refused", str(error)))
            return
        pipe.send(("ready", writer.about()))
        while True:
            number, request = pipe.recv()
            if request is None:
                continue  # given up before it began, or done
            try:
                for what in writer.answer(request):
                    pipe.send((number, *what))
                    if pipe.poll() and _is_given_up(pipe, number):
                        break
                pipe.send((number, "end", None))
            except UserError as error:
                pipe.send((number, "refused", str(error)))
            except GONE:
                raise
            except Exception as error:  # of this request, as one for more memory than there is: the next may be smaller
                pipe.send((number, "failed", f"{type(error).__name__}: {error}"))


def _is_given_up(pipe: Connection, number: int) -> bool:
    """Read what came meanwhile: while a request is worked on, only that it was given up."""
    given_up, nothing = pipe.recv()
    return given_up == number and nothing is None


class Writer:
    """A model that goes on with prompts, as `sample.py` does."""

    def __init__(self, folder: Path, settings: dict[str, Any]):
        from cleangpt.basics.schema import parse
        from cleangpt.config.programs import SampleConfig
        from cleangpt.disk import snapshot
        from cleangpt.disk.rundir import find, read_config
        from cleangpt.sample.prompts import Reader
        from cleangpt.sample.text_model import TextModel

        opened = find(str(folder))
        trained = read_config(opened.folder / "config.json")
        snapshot.refuse_damage(opened.folder)
        self.settings = parse(settings, SampleConfig)
        self.reader = Reader(opened.folder, trained)
        self.model = TextModel(opened, trained, self.reader, self.settings)
        self.context = trained.model.context

    def about(self) -> dict[str, Any]:
        return {"name": self.model.name, "context": self.context, "vocab_size": self.reader.tokenizer.vocab_size}

    def answer(self, asked: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        """Yield what is read, then each piece as it is written, then each text with its probabilities."""
        from cleangpt.sample import generate
        from cleangpt.sample.choose import Sampling

        prompts = [self._read(prompt) for prompt in asked["prompts"]]
        as_a_whole = any(prompt.question for prompt in prompts)  # the first token may be the last digit
        yield "read", (sum(len(prompt.tokens) for prompt in prompts), as_a_whole)
        rows = [(number, sample) for number in range(len(prompts)) for sample in range(asked["n"])]
        texts = [generate.Text(number, sample) for number, sample in rows]
        top_p = asked["top_p"] if asked["top_p"] < 1 else None
        how = Sampling(asked["temperature"], None, top_p, None, 1.0)
        kinds: dict[Any, list[int]] = {}  # questions have positions, and a length of their own
        for row, (number, _) in enumerate(rows):
            question = prompts[number].question
            limit = min(asked["max_tokens"], question.new_tokens) if question else asked["max_tokens"]
            kinds.setdefault((limit, question is None or question.positions is None), []).append(row)
        for (limit, plain), mine in kinds.items():
            own = [prompts[rows[row][0]] for row in mine]
            pieces = generate.stream(
                self.model.model,
                self.reader.tokenizer,
                [prompt.tokens for prompt in own],
                new_tokens=limit,
                how=how,
                keys=[generate.key_of(asked["seed"], *rows[row]) for row in mine],
                stop=asked["stop"],
                positions=None if plain else [prompt.question.positions for prompt in own],
            )
            for piece in pieces:
                text = texts[mine[piece.row]]
                text.add(piece)
                yield "piece", (mine[piece.row], piece.text, piece.ended)
        for row, text in enumerate(texts):
            yield "text", (row, self._whole(prompts[text.prompt], text, asked))

    def _read(self, prompt: str | list[int]) -> Any:
        from cleangpt.basics.errors import UserError
        from cleangpt.sample.prompts import Prompt

        if isinstance(prompt, str):
            return self.reader.read(prompt, self.settings.template) if prompt else self.reader.natural()[0]
        if not prompt:
            return self.reader.natural()[0]
        if not all(0 <= token < self.reader.tokenizer.vocab_size for token in prompt):
            raise UserError(f"prompt: tokens are numbers from 0 to {self.reader.tokenizer.vocab_size - 1}")
        if self.context and len(prompt) > self.context:
            raise UserError(f"the prompt has {len(prompt)} tokens, and the model reads {self.context} at most")
        return Prompt(self.reader.tokenizer.decode(prompt), prompt)

    def _whole(self, prompt: Any, text: Any, asked: dict[str, Any]) -> dict[str, Any]:
        question = prompt.question
        written = question.read(text.tokens) if question else text.text
        shown = prompt.text + written if asked["echo"] else written
        logprobs = None
        if asked["logprobs"] is not None:
            logprobs = self._logprobs(prompt, text.tokens, asked["logprobs"], asked["echo"])
        return {
            "text": shown,
            "written": len(text.tokens),
            "ended": text.ended or "length",
            "logprobs": logprobs,
        }

    def _logprobs(self, prompt: Any, written: list[int], count: int, echo: bool) -> dict[str, Any]:
        """Compute how likely the model found each token, before any rule of choosing."""
        import torch

        from cleangpt.basics.errors import UserError

        tokens = [*prompt.tokens, *written]
        if self.context and len(tokens) - 1 > self.context:
            raise UserError(
                f"logprobs: the text has {len(tokens)} tokens, and the model reads {self.context} at most: "
                "shorten the prompt, or lower max_tokens"
            )
        device = next(self.model.model.parameters()).device
        told = {}
        if prompt.question and prompt.question.positions is not None:
            told["positions"] = torch.tensor([prompt.question.positions[: len(tokens) - 1]], device=device)
        first = 0 if echo else len(prompt.tokens)
        names = [self._name(token) for token in tokens[first:]]
        shares: list[float | None] = [None] if echo else []
        tops: list[dict[str, float] | None] = [None] if echo else []
        if len(tokens) > 1:
            with torch.inference_mode():
                read = torch.tensor([tokens[:-1]], device=device)
                logits = self.model.model(read, **told)[0].float()[:, : self.reader.tokenizer.vocab_size]
                table = logits.log_softmax(dim=-1).cpu()
            for place in range(max(first, 1), len(tokens)):
                row = table[place - 1]
                shares.append(float(row[tokens[place]]))
                likeliest = row.topk(min(count, len(row)))
                pairs = zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
                best: dict[str, float] = {}
                for token, value in pairs:
                    best.setdefault(self._name(token), value)
                best.setdefault(self._name(tokens[place]), shares[-1] or 0.0)
                tops.append(best)
        offsets, at = [], 0 if echo else len(prompt.text)
        for name in names:
            offsets.append(at)
            at += len(name)
        top = tops if count else None
        return {"tokens": names, "token_logprobs": shares, "top_logprobs": top, "text_offset": offsets}

    def _name(self, token: int) -> str:
        return "<end>" if token == self.reader.tokenizer.end else self.reader.tokenizer.decode([token])
