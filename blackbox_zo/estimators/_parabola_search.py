"""A line search by values alone: it expands, interpolates and backtracks with a parabola through the slope."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from blackbox_zo._typing import Floats

__all__ = ["MOST", "Line"]

MOST = 12
"""Trials along one line."""


class Line(NamedTuple):
    """A search along `x + alpha p`, and how far it is.

    A query on the line costs one, a gradient d. So a step that succeeds is tried longer, or shorter, where the parabola
    through value, slope and answer says that this gains.

    Attributes:
        direction: p, shape (d,).
        slope: g' p, negative.
        alpha: The next trial.
        start: Value at alpha = 0.
        value: The best value so far, that of the start included.
        move: From x to the point that has it, shape (d,).
        last: The value at the last trial that succeeded; NaN before.
        tries: Number of answered trials.
        growth: By which factor a trial may be longer than the one before.
        over: Whether the search has ended.
    """

    direction: Floats
    slope: float
    alpha: float
    start: float
    value: float
    move: Floats
    last: float
    tries: int
    growth: float
    over: bool

    @classmethod
    def begin(cls, direction: Floats, slope: float, value: float, growth: float = 4.0) -> Line:
        """A search whose first trial is at alpha = 1."""
        return cls(direction, slope, 1.0, value, value, np.zeros(direction.size), math.nan, 0, growth, False)

    def told(self, value: float, move: Floats) -> Line:
        """The search after the answer to its trial.

        Args:
            value: The answer; NaN if the query failed.
            move: From x to the point that was asked, projected into the bounds, shape (d,).
        """
        if not math.isfinite(value):
            value = math.inf
        alpha, start, tries = self.alpha, self.start, self.tries + 1
        best = self._replace(tries=tries)
        if value < self.value:
            best = best._replace(value=value, move=move)
        if value == math.inf and best.value < start:  # a step of which nothing is known moves nothing: towards the best
            if tries >= MOST:
                return best._replace(over=True, value=start)
            alpha = 0.9 if self.direction is not self.move else 0.9 * alpha
            return best._replace(direction=best.move, alpha=alpha, slope=2.0 * (best.value - start), last=math.nan)
        bend = 2.0 * (value - start - self.slope * alpha)
        least = -self.slope * alpha * alpha / bend if bend > 0 else math.inf  # of the parabola
        if value <= start + 1e-4 * self.slope * alpha:  # Nocedal & Wright 2006, eq. (3.6a)
            again = math.isnan(self.last)
            if least > 1.5 * alpha and tries < MOST and (again or value < self.last):
                return best._replace(alpha=min(least, self.growth * alpha), last=value)
            if least < 0.7 * alpha and again:
                return best._replace(alpha=least, last=value)
            return best._replace(over=True)
        if tries >= MOST or best.value < start:
            return best._replace(over=True)
        shorter = max(0.1 * alpha, min(least, 0.5 * alpha)) if math.isfinite(value) else 0.1 * alpha
        return best._replace(alpha=shorter)
