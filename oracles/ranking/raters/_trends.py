"""Trends over rounds: whether a rater becomes slower or less careful."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from blackbox_zo._typing import Floats

__all__ = ["Fatigue", "Trend", "trend"]


class Trend(NamedTuple):
    """A linear trend over rounds: the slope per round, and its standard error.

    Both are NaN with fewer than three rounds.
    """

    slope: float
    stderr: float


class Fatigue(NamedTuple):
    """Whether a rater becomes slower or less careful.

    Attributes:
        seconds: Trend of the logarithm of the time an answer took: 0.01 is 1 % slower with each round.
        agreement: Trend of the share of comparisons in which the rater agrees with the others.
    """

    seconds: Trend
    agreement: Trend


def trend(y: Floats) -> Trend:
    """Least squares over the rounds in which y is known."""
    t = np.flatnonzero(np.isfinite(y)).astype(np.float64)
    if len(t) < 3:
        return Trend(np.nan, np.nan)
    y, x = y[np.isfinite(y)], t - t.mean()
    slope = float(x @ y / (x @ x))
    rest = y - y.mean() - slope * x
    return Trend(slope, float(np.sqrt(rest @ rest / (len(t) - 2) / (x @ x))))
