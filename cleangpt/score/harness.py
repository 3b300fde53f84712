"""Our models in EleutherAI's lm-evaluation-harness: `eval/score.py suite=lm-eval tasks=[lambada_openai,piqa]`.

The harness brings tasks, prompts and metrics; here a model answers its three kinds of request. The answers are those
of the harness's own Hugging Face model on exported weights, and a test compares them.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lm_eval import simple_evaluate, utils
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.tasks import TaskManager

from cleangpt.basics import schema
from cleangpt.basics.errors import UserError
from cleangpt.machine import distributed
from cleangpt.sample import generate
from cleangpt.score.evaluate import Judge
from cleangpt.terminal import patience
from cleangpt.terminal.narrow import Table
from cleangpt.tokens import exchange
from cleangpt.tokens.tokenizers import Tokenizer

BOOTSTRAPS = 1000  # for the standard errors of what is no mean
NEW_TOKENS = 256  # where a task does not say how many


class Model(TemplateLM):
    """A model of ours as the harness knows models. Under torchrun each process answers its share of the documents."""

    def __init__(self, judge: Judge, tokenizer: Tokenizer):
        super().__init__()
        self.judge, self.ours = judge, tokenizer
        self.begin = exchange.begin(tokenizer)
        self.max_length = judge.model.config.block_size
        self._rank, self._world_size = judge.world.rank, judge.world.size
        self._device = torch.device("cpu")  # of the counts that processes tell each other

    # ---- text and tokens

    @property
    def eot_token_id(self) -> int | None:
        return self.ours.end

    @property
    def prefix_token_id(self) -> int:
        """Return the BOS token, for texts scored from their first token."""
        found = self.ours.end if self.begin is None else self.begin
        if found is None:
            raise UserError(
                "this model's tokenizer has no token that begins or ends a text, and these tasks score texts from "
                "their first token on: train on text with several documents, or choose tasks with contexts"
            )
        return found

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        found = self.ours.encode(string)
        if self.begin is None or add_special_tokens is False or found[:1] == [self.begin]:
            return found
        return [self.begin, *found]

    # ---- the three kinds of request

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False, **_: Any
    ) -> list[tuple[float, bool]]:
        """Compute the log-likelihood of each (context, continuation), and whether greedy decoding would write it."""
        places: dict[tuple[int, ...], list[int]] = {}  # what has to be read, and which requests are about it
        for place, (_, context, continuation) in enumerate(requests):
            if len(continuation) > self.max_length:
                raise UserError(
                    f"a continuation of {len(continuation)} tokens is longer than the context of {self.max_length}: "
                    "choose tasks with shorter answers"
                )
            read = tuple((context + continuation)[-(self.max_length + 1) :][:-1])
            places.setdefault(read, []).append(place)
        answers: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        for read, logits in self._logits(list(places)):
            for place in places[read]:
                wanted = torch.tensor(requests[place][2], device=logits.device)
                there = logits[len(read) - len(wanted) : len(read)]  # (C, V)
                likelihoods = there.log_softmax(-1).gather(1, wanted[:, None])
                answers[place] = (float(likelihoods.sum()), bool((there.argmax(-1) == wanted).all()))
        return answers

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Compute the log-likelihood of whole texts, in windows as long as the context."""
        windows = [
            (number, *utils.make_disjoint_window(window))
            for number, request in enumerate(requests)
            for window in utils.get_rolling_token_windows(
                self.tok_encode(request.args[0]), self.prefix_token_id, self.max_length, context_len=1
            )
        ]
        sums = [0.0] * len(requests)
        for (number, *_), (likelihood, _) in zip(windows, self._loglikelihood_tokens(windows), strict=True):
            sums[number] += likelihood
        return sums

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Decode greedily after each context, up to a stop string or the end token."""
        alike: dict[tuple[int, tuple[str, ...]], dict[int, list[int]]] = {}  # prompts by their place
        for place, request in enumerate(requests):
            context, asked = request.args
            how = normalize_gen_kwargs(asked, NEW_TOKENS)
            if how.get("do_sample") or how.get("temperature"):
                raise UserError(
                    f"task {request.task_name} samples its answers, and CleanGPT decodes greedily here: leave it out"
                )
            new_tokens = how["max_gen_toks"]
            if new_tokens >= self.max_length:
                raise UserError(
                    f"task {request.task_name} wants {new_tokens} new tokens, and the context is {self.max_length}: "
                    "leave it out, or give it a smaller max_gen_toks"
                )
            stops = tuple(stop for stop in how.get("until") or [] if stop)
            prompt = self.tok_encode(context)[-(self.max_length - new_tokens) :]
            alike.setdefault((new_tokens, stops), {})[place] = prompt
        texts = [""] * len(requests)
        for (new_tokens, stop), prompts in alike.items():
            asked = list(prompts.values())
            at_once = self.judge.rows_at_once(max(map(len, asked)) + new_tokens)
            found = generate.continuations(self.judge.model, self.ours, asked, new_tokens, stop, at_once)
            for place, text in zip(prompts, found, strict=True):
                texts[place] = text
        return texts

    @torch.no_grad()
    def _logits(self, texts: list[tuple[int, ...]]) -> Iterator[tuple[tuple[int, ...], torch.Tensor]]:
        """Compute logits (T, V) of each text: the longest first, as many at once as fit, padded on the right."""
        left = sorted(texts, key=len, reverse=True)
        while left:
            longest = len(left[0])
            at_once = self.judge.rows_at_once(longest)
            rows, left = left[:at_once], left[at_once:]
            filled = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=self.judge.device)
            yield from zip(rows, self.judge.model.forward(filled).float(), strict=True)

    # ---- several processes

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        return torch.stack(distributed.gather(tensor))

    def gather_object(self, obj: Any, dst: int = 0) -> list[Any] | None:
        found = distributed.gather(obj)
        return found if self.rank == dst else None

    def barrier(self) -> None:
        distributed.gather(None)


# --------------------------------------------------------------------------------------------------------------
# Whole suites


def score(
    judge: Judge, tokenizer: Tokenizer, names: list[str], include: str | None, fewshot: int | None, limit: int | None
) -> dict[str, Any]:
    """Have the harness score a model; a plain dict, which is empty on the ranks beside the first."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    began = time.monotonic()
    if include is not None and not Path(include).is_dir():
        raise UserError(f"`include` is {include}, and there is no such folder: name one that holds tasks as YAML")
    with patience.doing("Looking for the tasks"):
        manager = TaskManager(include_path=include, include_defaults=include is None)
        if include is not None and not all(manager.match_tasks([name]) for name in names):
            manager = TaskManager(include_path=include)  # thousands of files
    if unknown := [name for name in names if not manager.match_tasks([name])]:
        guess = schema.nearest(unknown[0], list(manager.all_tasks))
        hint = f"did you mean {guess}?" if guess else "`lm-eval ls tasks` lists all"
        raise UserError(f"`tasks` names {unknown[0]}, which the harness does not have: {hint}")
    try:
        found = simple_evaluate(  # which has bars of its own
            Model(judge, tokenizer),
            tasks=names,
            num_fewshot=fewshot,
            limit=limit,
            task_manager=manager,
            bootstrap_iters=BOOTSTRAPS,
            log_samples=False,
        )
    except (OSError, ConnectionError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"the data of {', '.join(names)} can't be had ({first}): score them once where there is a network, and "
            "bring its HF_HOME here, or use tasks of your own with include=<folder>"
        ) from None
    if found is None:
        return {}
    return {
        "suite": "lm-eval",
        "tasks": found["results"],
        "groups": found.get("groups", {}),
        "fewshot": found.get("n-shot", {}),
        "samples": found.get("n-samples", {}),
        "versions": found.get("versions", {}),
        "limit": limit,
        "seconds": time.monotonic() - began,
    }


def table(score: dict[str, Any]) -> Table:
    """Lay out a score as a table with a row for each metric."""
    made = Table(title="lm-evaluation-harness", title_justify="left", title_style="bold")
    for name in ("task", "few-shot", "samples", "metric", "value", "standard error"):
        made.add_column(name, justify="left" if name in ("task", "metric") else "right")
    for task, metrics in score["tasks"].items():
        for name, value in metrics.items():
            metric, _, variant = name.partition(",")
            if metric.endswith("_stderr") or not isinstance(value, int | float) or "," not in name:
                continue
            error = metrics.get(f"{metric}_stderr,{variant}")
            shown = f"{error:.4f}" if isinstance(error, float) else ""
            samples = score["samples"].get(task, {}).get("effective", "")
            label = metric if variant == "none" else f"{metric}, {variant}"
            made.add_row(task, str(score["fewshot"].get(task, "")), str(samples), label, f"{value:.4f}", shown)
    return made
