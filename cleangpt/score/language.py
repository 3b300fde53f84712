"""Exact scores of a language model: every token of a split once, as a dict, tables and pictures."""

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cleangpt.basics.errors import UserError
from cleangpt.basics.seeds import Permutation
from cleangpt.score.evaluate import ALONE, Judge, Shown, Watch
from cleangpt.tasks.contract import Task
from cleangpt.terminal import patience
from cleangpt.terminal.narrow import Table

SHOWN_PROMPT, SHOWN = 24, 60  # tokens of a sample that a person sees


def score(task: Task, judge: Judge, split: str, limit: int | None, method: str, watch: Watch = ALONE) -> dict[str, Any]:
    """Score a model on the windows of a split, or on a fixed sample of them."""
    if method == "generate":
        raise UserError("`method` must be auto or forced for text: there is no one right answer to generate")
    whole = task.size(split)
    if not whole:
        of = getattr(task.settings, "dir", task.settings.name)
        raise UserError(f"{of} has no {split} split: use split=val, or set dataset.{split}_fraction")
    began = time.monotonic()
    count = min(whole, limit or whole)
    order = Permutation(whole, task.key("scored")) if count < whole else None
    share = judge.share(count)
    length = task.sequence_length
    step = 4 * judge.rows_at_once(length)
    places = np.zeros((3, length))  # losses, right tokens and tokens, by the place in the window
    rows: list[np.ndarray] = []
    with patience.doing("Scoring", count, "windows", watch.voice) as progress:
        for start in range(share.start, share.stop, step):
            if judge.stop.number:
                break
            index = np.arange(start, min(start + step, share.stop))
            batch = task.batch(split, order(index) if order else index)
            real = np.ones(batch.targets.shape, bool) if batch.real is None else batch.real
            row = 0
            for likeliest, targets, losses in judge.teacher_forced(batch):
                mask = torch.from_numpy(real[row : row + len(targets)]).to(losses.device)
                found = (losses * mask).double().cpu().numpy()
                places[0] += found.sum(axis=0)
                places[1] += ((likeliest == targets) & mask).sum(dim=0).cpu().numpy()
                places[2] += mask.sum(dim=0).cpu().numpy()
                rows.append(np.stack([found.sum(axis=1), mask.sum(dim=1).cpu().numpy()], axis=1))
                row += len(targets)
                progress.advance(len(targets) * judge.world.size)
    per_window = judge.gather(np.concatenate([np.empty((0, 2)), *rows]))  # (windows, 2): loss, tokens
    places = judge.gather(places[None]).sum(axis=0)
    tokens = int(per_window[:, 1].sum())
    loss = float(per_window[:, 0].sum() / tokens)
    spread = _spread(per_window, loss)
    return {
        "task": task.settings.name,
        "split": split,
        "method": "forced",
        "complete": count == whole,
        "windows": count,
        "window": length,
        "tokens": tokens,
        "loss": loss,
        "interval": [loss - 1.96 * spread, loss + 1.96 * spread],
        **{name: measure.value for name, measure in task.measures(loss, split).items()},
        **task.facts(split),
        "next_token_accuracy": float(places[1].sum() / tokens),
        "by_place": _by_place(places),
        "forced_equals_decoded": None,
        "seconds": time.monotonic() - began,
    }


def _spread(per_window: np.ndarray, loss: float) -> float:
    """Estimate the standard error of the mean loss, windows taken as independent."""
    if len(per_window) < 2:
        return 0.0
    deviations = per_window[:, 0] - loss * per_window[:, 1]
    return float(np.sqrt(len(per_window) / (len(per_window) - 1) * (deviations**2).sum()) / per_window[:, 1].sum())


def _by_place(places: np.ndarray) -> list[dict[str, Any]]:
    """Cut the loss by how many tokens of context there were, in steps that double."""
    length = places.shape[1]
    edges = [0, *(2**k for k in range(length.bit_length()) if 2**k < length), length]
    return [
        {
            "context": f"{a + 1}" if b == a + 1 else f"{a + 1} to {b}",
            "tokens": int(tokens),
            "loss": float(loss / tokens),
            "next_token_accuracy": float(right / tokens),
        }
        for a, b in pairwise(edges)
        for loss, right, tokens in [places[:, a:b].sum(axis=1)]
        if tokens
    ]


def show(task: Task, judge: Judge, count: int) -> list[Shown]:
    """Write how the model goes on from the beginning of some windows of validation."""
    length = task.sequence_length
    prompt = max(1, min(SHOWN_PROMPT, length // 2))
    count = min(count, task.size("val") - 1) or 1
    index = np.linspace(0, max(0, task.size("val") - 2), count).astype(np.int64)
    tokens = np.asarray(torch.as_tensor(task.batch("val", index).inputs).cpu())[:, :prompt]
    written = judge.decode(tokens, max(1, min(SHOWN, length - prompt)))
    rows = zip(tokens.tolist(), written.tolist(), strict=True)
    shown = []
    for begun, rest in ((_text(task, begun), _text(task, rest)) for begun, rest in rows):
        line = f"{begun} ▸ {rest}".replace("\n", "⏎")
        shown.append(Shown(line, {"prompt": begun, "text": rest}))
    return shown


def _text(task: Task, tokens: list[int]) -> str:
    return task.tokenizer.decode([token for token in tokens if token < task.tokenizer.vocab_size])


def tables(task: Task, score: dict[str, Any]) -> list[Table]:
    """Lay out a score: the whole, and by tokens of context."""
    whole = "all" if score["complete"] else "a sample of the"
    title = f"{score['task']}, {whole} tokens of the {score['split']} split, in windows of {score['window']}"
    made = Table(title=title, title_justify="left", title_style="bold")
    low, high = score["interval"]
    shown = {
        "tokens": f"{score['tokens']:,}",
        "loss": f"{score['loss']:.4f}",
        "95% interval": f"{low:.4f} to {high:.4f}",
    }
    for name in task.measures(score["loss"]):
        shown[name.replace("_", " ")] = f"{score[name]:.{3 if name == 'perplexity' else 4}f}"
    shown["next token right"] = f"{score['next_token_accuracy']:.2%}"
    for name in shown:
        head = name.replace("bits per ", "bits per\n").replace("token ", "token\n")  # wider than its numbers
        made.add_column(head, justify="right", overflow="fold", no_wrap=name != "95% interval")
    made.add_row(*shown.values())
    places = Table(title="By tokens of context", title_justify="left", title_style="bold")
    for name in ("context", "tokens", "loss", "next token right"):
        places.add_column(name, justify="right")
    for row in score["by_place"]:
        places.add_row(row["context"], f"{row['tokens']:,}", f"{row['loss']:.4f}", f"{row['next_token_accuracy']:.2%}")
    return [made, places]


def plots(task: Task, score: dict[str, Any], folder: Path, name: str) -> list[Path]:
    """Draw the loss by tokens of context."""
    from cleangpt.watch.plots import bars

    labels = [row["context"] for row in score["by_place"]]
    losses = [row["loss"] for row in score["by_place"]]
    return [bars(folder / f"{name}_context.png", labels, losses, "tokens of context", "loss", "Loss by context")]
