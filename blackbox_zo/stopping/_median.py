"""`MedianRule`: a query that has never been as good as the others were on average is stopped."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from blackbox_zo._checks import check_at_least, check_number
from blackbox_zo._typing import override
from blackbox_zo.stopping._base import Curve, StoppingRule

__all__ = ["MedianRule"]


@final
@dataclass(frozen=True)
class MedianRule(StoppingRule):
    """The median stopping rule (Golovin et al. 2017, Google Vizier: a service for black-box optimization, KDD).

    A query is stopped at step s if its best value up to s is worse than the median, over the queries that have ended
    and had come as far as s, of the mean of their values up to s.

    Args:
        least: The number of such queries from which on one may be stopped, at least 1.
        first: The first step at which one may be stopped, at least 0.

    Raises:
        ValueError: An argument is out of its range.
    """

    least: int = 5
    first: float = 1

    def __post_init__(self) -> None:
        check_at_least("MedianRule", 1, least=self.least)
        check_number("MedianRule", first=self.first)
        if not 0 <= self.first < float("inf"):
            raise ValueError(f"`MedianRule(first=...)` must be a finite number of at least 0, got {self.first!r}.")

    @override
    def stops(self, mine: Curve, others: Sequence[Curve]) -> bool:
        step = mine.steps[-1]
        if step < self.first:
            return False
        means = [mean for other in others if other.ended and (mean := other.mean_until(step)) is not None]
        return len(means) >= self.least and mine.best > statistics.median(means)
