"""Completions, in the model's process: what is read, what is written, and how likely the model finds it."""

from collections.abc import Iterator
from typing import Any

import torch

from cleangpt.basics.errors import UserError
from cleangpt.sample import generate
from cleangpt.sample.choose import Sampling
from cleangpt.sample.generate import Text
from cleangpt.sample.prompts import Prompt
from cleangpt.sample.text_model import positions_of
from cleangpt.serving.model import Model


def complete(model: Model, asked: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what is read, then each piece as it is written, then each text with its probabilities."""
    prompts = [model.read(prompt) for prompt in asked["prompts"]]
    as_a_whole = any(prompt.question for prompt in prompts)  # the first token may be the last digit
    yield "read", (sum(len(prompt.tokens) for prompt in prompts), as_a_whole)
    rows = [(number, sample) for number in range(len(prompts)) for sample in range(asked["n"])]
    texts = [Text(number, sample) for number, sample in rows]
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
            model.decoder,
            model.tokenizer,
            [prompt.tokens for prompt in own],
            new_tokens=limit,
            how=how,
            keys=[generate.key_of(asked["seed"], *rows[row]) for row in mine],
            stop=asked["stop"],
            positions=None if plain else positions_of(own),
        )
        for piece in pieces:
            text = texts[mine[piece.row]]
            text.add(piece)
            yield "piece", (mine[piece.row], piece.text, piece.ended)
    for row, text in enumerate(texts):
        yield "text", (row, _whole(model, prompts[text.prompt], text, asked))


def _whole(model: Model, prompt: Prompt, text: Text, asked: dict[str, Any]) -> dict[str, Any]:
    question = prompt.question
    written = question.read(text.tokens) if question else text.text
    shown = prompt.text + written if asked["echo"] else written
    logprobs = None
    if asked["logprobs"] is not None:
        logprobs = _logprobs(model, prompt, text.tokens, asked["logprobs"], asked["echo"])
    return {
        "text": shown,
        "written": len(text.tokens),
        "ended": text.ended or "length",
        "logprobs": logprobs,
    }


def _logprobs(model: Model, prompt: Prompt, written: list[int], count: int, echo: bool) -> dict[str, Any]:
    """Compute how likely the model found each token, before any rule of choosing."""
    tokens = [*prompt.tokens, *written]
    if model.context and len(tokens) - 1 > model.context:
        raise UserError(
            f"logprobs: the text has {len(tokens)} tokens, and the model reads {model.context} at most: "
            "shorten the prompt, or lower max_tokens"
        )
    device = next(model.decoder.parameters()).device
    told = {}
    if prompt.question and prompt.question.positions is not None:
        told["positions"] = torch.tensor([prompt.question.positions[: len(tokens) - 1]], device=device)
    first = 0 if echo else len(prompt.tokens)
    names = [model.name_of(token) for token in tokens[first:]]
    shares: list[float | None] = [None] if echo else []
    tops: list[dict[str, float] | None] = [None] if echo else []
    if len(tokens) > 1:
        with torch.inference_mode():
            read = torch.tensor([tokens[:-1]], device=device)
            logits = model.decoder(read, **told)[0].float()[:, : model.tokenizer.vocab_size]
            table = logits.log_softmax(dim=-1).cpu()
        for place in range(max(first, 1), len(tokens)):
            row = table[place - 1]
            shares.append(float(row[tokens[place]]))
            likeliest = row.topk(min(count, len(row)))
            pairs = zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
            best: dict[str, float] = {}
            for token, value in pairs:
                best.setdefault(model.name_of(token), value)
            best.setdefault(model.name_of(tokens[place]), shares[-1] or 0.0)
            tops.append(best)
    offsets, at = [], 0 if echo else len(prompt.text)
    for name in names:
        offsets.append(at)
        at += len(name)
    top = tops if count else None
    return {"tokens": names, "token_logprobs": shares, "top_logprobs": top, "text_offset": offsets}
