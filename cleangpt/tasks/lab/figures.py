"""Numbers and strings as figures, and arithmetic on whole batches of them.

A batch of n numbers is an array (n, W) of digits of any base, the lowest first, with -1 beyond the last that is
written: sums and products of 20 digits need no integer wider than a machine's, and carries can be counted. A string is
written the same way, its last character first.
"""

import numpy as np

NONE = -1  # no figure
MINUS = -2  # the sign of a negative number, above its digits


def digits_of(values: np.ndarray, width: int, base: int = 10) -> np.ndarray:
    """Turn integers (n,) into digits (n, width), lowest first, zeros in front included."""
    digits = np.empty((len(values), width), np.int64)
    for k in range(width):
        digits[:, k] = (values % base).astype(np.int64)
        values = values // base
    return digits


def values_of(figures: np.ndarray, base: int = 10) -> np.ndarray:
    """Turn figures (n, W) into integers (n,), of Python's own kind where a machine's would be too narrow."""
    wide = np.int64 if base ** figures.shape[1] < 1 << 62 else object
    values = np.zeros(len(figures), wide)
    for column in np.maximum(figures, 0).T[::-1]:
        values = values * base + column.astype(wide)
    return values


def written(digits: np.ndarray) -> np.ndarray:
    """Leave the zeros in front of numbers (n, W) away."""
    return np.where(np.arange(digits.shape[1]) < lengths(digits)[:, None], digits, NONE)


def settle(columns: np.ndarray, base: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Turn column sums (n, W) into digits, and the carry that leaves each column."""
    digits, carries = np.empty_like(columns), np.empty_like(columns)
    carry = np.zeros(len(columns), columns.dtype)
    for k in range(columns.shape[1]):
        total = columns[:, k] + carry
        digits[:, k] = total % base
        carries[:, k] = carry = total // base
    return digits, carries


def lengths(digits: np.ndarray) -> np.ndarray:
    """Count the digits (n,) that each number has when it is written; zero has one."""
    seen = np.cumsum(digits[:, ::-1] > 0, axis=1) > 0
    return np.maximum(seen.sum(axis=1), 1)


def counts(figures: np.ndarray) -> np.ndarray:
    """Count the figures (n,) that are written."""
    return (figures != NONE).sum(axis=1)


def widened(figures: np.ndarray, width: int) -> np.ndarray:
    """Add columns without figures up to this width."""
    return np.pad(figures, ((0, 0), (0, width - figures.shape[1])), constant_values=NONE)


def aligned(operands: list[np.ndarray]) -> np.ndarray:
    """Put numbers below each other, zeros where they have no digit: (k, n, W)."""
    width = max(figures.shape[1] for figures in operands)
    return np.maximum(np.stack([widened(figures, width) for figures in operands]), 0)


def longest_run(flags: np.ndarray) -> np.ndarray:
    """Count the most flags of (n, W) that stand side by side: (n,)."""
    longest = run = np.zeros(len(flags), np.int64)
    for k in range(flags.shape[1]):
        run = np.where(flags[:, k], run + 1, 0)
        longest = np.maximum(longest, run)
    return longest
