"""Problems written end to end as text, in windows that begin anywhere, as Lee et al. and nanoGPT train on them."""

from dataclasses import replace

import numpy as np

from cleangpt.basics.seeds import derive, scramble
from cleangpt.tasks.contract import Batch


def problems_in(window: int, shortest: int) -> int:
    """Count the problems that surely fill a window, wherever in the first of them it begins."""
    return -(-window // shortest) + 2


def windows(rows: Batch, count: int, window: int, keys: np.ndarray, confined: bool) -> Batch:
    """Pack rows, `count` of them for each key (n,), into windows (n, window) that begin within the first problem.

    With `confined` a token looks only at those of its own problem.
    """
    assert rows.loss_weights is not None
    last = np.where(np.arange(rows.targets.shape[1]) < _lengths(rows)[:, None], rows.targets, -1)
    tokens = np.concatenate([rows.inputs[:, :1], last], axis=1)  # (n × count, T + 1), -1 behind the end
    weights = np.pad(rows.loss_weights, ((0, 0), (1, 0)))
    n = len(keys)
    tokens, weights = tokens.reshape(n, -1), weights.reshape(n, -1)
    number = np.repeat(np.arange(count), tokens.shape[1] // count)[None].repeat(n, axis=0)
    order = np.argsort(tokens < 0, axis=1, kind="stable")
    first = (tokens[:, : tokens.shape[1] // count] >= 0).sum(axis=1)
    begin = (scramble(keys, derive(5, "window")) % first.astype(np.uint64)).astype(np.int64)
    place = np.take_along_axis(order, begin[:, None] + np.arange(window + 1), axis=1)
    tokens, weights, number = (np.take_along_axis(x, place, axis=1) for x in (tokens, weights, number))
    assert (tokens >= 0).all(), "too few problems for a window"
    packed = Batch(inputs=tokens[:, :-1], targets=tokens[:, 1:], loss_weights=weights[:, 1:].astype(np.float32))
    return replace(packed, documents=number[:, :-1]) if confined else packed


def _lengths(rows: Batch) -> np.ndarray:
    """Count the targets (n,) of each row, which its answer ends."""
    assert rows.answer is not None
    place = np.arange(rows.answer.shape[1])
    return np.where(rows.answer, place + 1, 0).max(axis=1)
