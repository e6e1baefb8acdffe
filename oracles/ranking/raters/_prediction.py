"""Whether a rater's answers follow from what is shown: each round is predicted from the rater's earlier ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blackbox_zo._typing import Floats, Ints

__all__ = ["predicted", "scores"]

NOISE = 0.3
"""Variance of the noise of a score, where that of the utility within a round is 1."""


def scores(level: Ints) -> Floats:
    """The places of an order as centred scores: higher is better, ties share the mean of their places; shape (m,)."""
    held = np.bincount(level)
    middle = np.cumsum(held) - (held - 1) / 2
    place = middle[level]
    return np.asarray((place.mean() - place) * np.sqrt(12) / len(level))


def predicted(points: Sequence[Floats], told: Sequence[Floats], now: Floats) -> Floats:
    """The scores to expect of a new round, by Gaussian process regression of the scores of earlier ones.

    The kernel is `exp(-|x - y|² / (2 l²))`, l² the median of all squared distances. Scores only compare candidates of
    one round, so it is centred within each round.

    Args:
        points: The candidates of each earlier round, shape (m_i, d).
        told: Their scores by each of r raters, shape (m_i, r).
        now: The new candidates, shape (m, d).

    Returns:
        Shape (m, r).
    """
    x = np.concatenate([*points, now])
    lengths = (x * x).sum(axis=1)
    far = np.maximum(lengths[:, None] + lengths - 2 * x @ x.T, 0.0)
    typical = float(np.median(far[np.triu_indices(len(x), 1)]))
    if not typical > 0:
        return np.zeros((len(now), told[0].shape[1]))
    kernel = np.exp(-0.5 * far / typical)
    start = 0
    for m in (*map(len, points), len(now)):
        part = slice(start, start + m)
        kernel[part] -= kernel[part].mean(axis=0)
        kernel[:, part] -= kernel[:, part].mean(axis=1, keepdims=True)
        start += m
    n = start - len(now)
    signal = float(np.trace(kernel)) / start
    if not signal > 0:
        return np.zeros((len(now), told[0].shape[1]))
    inner = kernel[:n, :n] / signal + NOISE * np.eye(n)
    return np.asarray(kernel[n:, :n] / signal @ np.linalg.solve(inner, np.concatenate(told)))
