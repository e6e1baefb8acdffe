"""`Horizon`: cuts the episodes of a search short."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from blackbox_zo._checks import check_at_least

__all__ = ["Horizon"]


@final
@dataclass(frozen=True)
class Horizon:
    """Cuts each episode after `first + growth * step` steps, until an episode terminates.

    If only a time limit ends episodes, the first steps already show the reward rate, so the same number of environment
    steps compares many more candidates. If an episode can terminate, by a fall or at a goal, its end may decide the
    return. So once an episode of the search has terminated, all later steps of the search play whole episodes.
    Evaluations always do.

    Args:
        first: Steps of an episode in the first step of the search, 1 or more.
        growth: Steps added in each step of the search, 0 or more.

    Raises:
        ValueError: An argument is out of its range.
    """

    first: int = 100
    growth: int = 1

    def __post_init__(self) -> None:
        check_at_least("Horizon", 1, first=self.first)
        check_at_least("Horizon", 0, growth=self.growth)

    def __call__(self, step: int) -> int:
        """Steps of an episode in step `step` of the search."""
        return self.first + self.growth * step
