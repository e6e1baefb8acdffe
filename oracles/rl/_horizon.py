"""`Horizon`: how much of an episode a search plays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from blackbox_zo._checks import check_at_least

__all__ = ["Horizon"]


@final
@dataclass(frozen=True)
class Horizon:
    """The first `first + growth * step` steps of each episode, unless episodes end of themselves.

    Where nothing but a limit of time ends an episode, its reward is a rate, which shows in the first part: for the same
    steps of the environment many more candidates can be told apart. Where one ends of itself, by a fall or at a goal,
    what comes late may be all that counts. So once an episode of the search has, the steps of the search after it play
    whole episodes. Evaluations always do.

    Args:
        first: Steps of an episode at first, 1 or more.
        growth: Steps more in each step of the search, 0 or more.

    Raises:
        ValueError: An argument is out of its range.
    """

    first: int = 100
    growth: int = 1

    def __post_init__(self) -> None:
        check_at_least("Horizon", 1, first=self.first)
        check_at_least("Horizon", 0, growth=self.growth)

    def __call__(self, step: int) -> int:
        """Steps of an episode in a step of the search."""
        return self.first + self.growth * step
