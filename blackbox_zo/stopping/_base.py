"""The abstract `StoppingRule`, and the reports of a query, which it decides by."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

__all__ = ["Curve", "StoppingRule"]


class Curve:
    """What a query has reported so far; lower is better.

    Attributes:
        steps: The step of each report, growing.
        values: Its value.
        means: The mean of all values up to it.
        best: The lowest value so far; infinite before the first.
        ended: Whether the query has ended, by itself or not.
    """

    __slots__ = ("best", "ended", "means", "steps", "values")

    def __init__(self, reports: Sequence[Sequence[float]] = (), *, ended: bool = False) -> None:
        self.steps, self.values, self.means = list[float](), list[float](), list[float]()
        self.best, self.ended = math.inf, ended
        for step, value in reports:
            self.add(step, value)

    def add(self, step: float, value: float) -> None:
        """Add a report."""
        n = len(self.values)
        self.steps.append(step)
        self.values.append(value)
        self.means.append(((self.means[-1] if n else 0.0) * n + value) / (n + 1))
        self.best = min(self.best, value)

    def value_at(self, step: float) -> float | None:
        """The first value at or after a step; None if it has not come so far."""
        i = bisect_left(self.steps, step)
        return self.values[i] if i < len(self.steps) else None

    def mean_until(self, step: float) -> float | None:
        """The mean of the values up to a step; None if it has none, or has not come so far."""
        i = bisect_right(self.steps, step)
        return self.means[i - 1] if i and self.steps[-1] >= step else None


class StoppingRule(ABC):
    """Decides whether a query goes on. A frozen configuration; to make one of your own, write `stops`."""

    @abstractmethod
    def stops(self, mine: Curve, others: Sequence[Curve]) -> bool:
        """Whether a query that has just reported is to be stopped.

        Args:
            mine: Its reports, the newest last.
            others: Those of all other queries of the search so far, those of a resumed run included.
        """
