"""Decimal arithmetic on whole batches of numbers of any length.

A batch of n numbers is an array (n, D) of digits, the lowest first: sums and products of 20 digits need no
integer wider than a machine's, and carries can be counted.
"""

import numpy as np


def digits_of(values: np.ndarray, width: int) -> np.ndarray:
    """Turn integers (n,) into digits (n, width), lowest first."""
    digits = np.empty((len(values), width), np.int64)
    for k in range(width):
        digits[:, k] = (values % 10).astype(np.int64)
        values = values // 10
    return digits


def settle(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn column sums (n, W) into digits, and the carry that leaves each column."""
    digits, carries = np.empty_like(columns), np.empty_like(columns)
    carry = np.zeros(len(columns), columns.dtype)
    for k in range(columns.shape[1]):
        total = columns[:, k] + carry
        digits[:, k] = total % 10
        carries[:, k] = carry = total // 10
    return digits, carries


def add(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Add (n, D) and (n, D): (n, D + 1) digits, and the carries out of their columns."""
    return settle(np.pad(a + b, ((0, 0), (0, 1))))


def multiply(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Multiply (n, D) and (n, D): (n, 2D) digits, and the carries out of their columns."""
    width = a.shape[1]
    columns = np.zeros((len(a), 2 * width), np.int64)
    for k in range(width):
        columns[:, k : k + width] += a[:, k : k + 1] * b
    return settle(columns)


def lengths(digits: np.ndarray) -> np.ndarray:
    """Count the digits (n,) that each number has when it is written; zero has one."""
    seen = np.cumsum(digits[:, ::-1] != 0, axis=1) > 0
    return np.maximum(seen.sum(axis=1), 1)


def longest_run(flags: np.ndarray) -> np.ndarray:
    """Count the most flags of (n, W) that stand side by side: (n,)."""
    longest = run = np.zeros(len(flags), np.int64)
    for k in range(flags.shape[1]):
        run = np.where(flags[:, k], run + 1, 0)
        longest = np.maximum(longest, run)
    return longest
