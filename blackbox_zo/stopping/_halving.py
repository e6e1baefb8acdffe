"""`SuccessiveHalving`: of the queries that have come as far, only the best go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from blackbox_zo._checks import check_positive
from blackbox_zo._typing import override
from blackbox_zo.stopping._base import Curve, StoppingRule

__all__ = ["SuccessiveHalving"]


@final
@dataclass(frozen=True)
class SuccessiveHalving(StoppingRule):
    """Asynchronous successive halving (ASHA: Li et al. 2020, MLSys), in the form that stops queries and resumes none.

    At the steps `first`, `first * eta`, `first * eta²`, … a query goes on if its value is among the best 1/eta of all
    that have come so far, its own included. While fewer than eta have, all go on. Nobody waits for another.

    Args:
        eta: Of how many one goes on, at least 2 as a rule; above 1.
        first: The first step at which a query may be stopped, positive.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> import blackbox_zo as bz
        >>> rule = SuccessiveHalving(eta=2)
        >>> others = [bz.stopping.Curve([(1, value)]) for value in (1.0, 2.0, 3.0)]
        >>> [rule.stops(bz.stopping.Curve([(1, value)]), others) for value in (0.5, 1.5, 2.5)]
        [False, False, True]
    """

    eta: float = 3
    first: float = 1

    def __post_init__(self) -> None:
        check_positive("SuccessiveHalving", eta=self.eta, first=self.first)
        if not self.eta > 1:
            raise ValueError(f"`SuccessiveHalving(eta=...)` must be above 1, got {self.eta!r}; 1/eta go on.")

    @override
    def stops(self, mine: Curve, others: Sequence[Curve]) -> bool:
        rung = self._rung(mine)
        if rung is None:
            return False
        value = mine.values[-1]
        reached = [found for other in others if (found := other.value_at(rung)) is not None]
        n = len(reached) + 1
        return n >= self.eta and sum(found < value for found in reached) >= int(n / self.eta)

    def _rung(self, mine: Curve) -> float | None:
        """The highest rung that the newest report is the first to reach; None if it reaches none."""
        rung, found, before = self.first, None, mine.steps[-2] if len(mine.steps) > 1 else -1.0
        while rung <= mine.steps[-1]:
            if rung > before:
                found = rung
            rung *= self.eta
        return found
