"""The state of a `NoisyQuasiNewton`: its stages, what it knows at x, and why it is over."""

from __future__ import annotations

import math
from typing import NamedTuple

from blackbox_zo._typing import Floats
from blackbox_zo.estimators._parabola_search import Line

__all__ = ["ALONG", "LINE", "OPENING", "REASONS", "NoisyState"]

OPENING, LINE, ALONG = range(3)
"""What the next queries are for."""

FALLS = 4.0
"""How much larger than lately noise is still taken to be."""

REASONS = ("", "the start failed", "noise hides the differences around the start")


class NoisyState(NamedTuple):
    """How far the search is.

    Attributes:
        phase: What the next queries are for.
        values: Those at the start, shape (n,).
        value: f(x), a mean; NaN before the first answer.
        error: Standard deviation of a value.
        lately: The variance of a value, as the last few gradients have it.
        gradient: g at x, shape (d,).
        before: The gradient before the last move, shape (d,).
        matrix: B, shape (d, d).
        line: The line search, if that is the phase.
        moved: The last move along a line, shape (d,), or (0,).
        radius: Half the span of the opening's differences.
        reach: The longest step, as the largest change of a coordinate.
        rounds: Newton steps since the last line that gained.
        predicted: The gain that the opening expects of its step; NaN after it.
        reason: Why it is over, an index of `REASONS`; 0 while it is not.
        turn: Number of answers used, by which late ones are known.
    """

    phase: int
    values: Floats
    value: float
    error: float
    lately: float
    gradient: Floats
    before: Floats
    matrix: Floats
    line: Line
    moved: Floats
    radius: float
    reach: float
    rounds: int
    predicted: float
    reason: int
    turn: int

    def with_spread(self, value: float, variance: float) -> NoisyState:
        """With the mean and the variance of two more values at x.

        While x stands, more and more of them are averaged; but noise that has become much smaller is believed at once.
        """
        share = 0.2 / (1 + min(self.rounds, 19))
        lately = 0.8 * self.lately + 0.2 * variance
        error = min((1 - share) * self.error**2 + share * variance, FALLS * lately)
        return self._replace(value=value, error=math.sqrt(error), lately=lately)
