"""Elements with finitely many values, each a share of an interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

from blackbox_zo._typing import override

__all__ = ["Between", "Cells"]


@final
@dataclass(frozen=True)
class Cells:
    """The whole numbers from `first` to `last`, each with a share of [0, 1].

    The shares are equal; with `log`, that of v is in proportion to log((v + 1) / v).

    Args:
        first: The smallest.
        last: The largest.
        log: See above; `first` is then positive.
    """

    first: int
    last: int
    log: bool = False

    @property
    def n(self) -> int:
        """How many there are."""
        return self.last - self.first + 1

    def at(self, u: float) -> int:
        """The number at `u`, which is first clipped into [0, 1]."""
        u = min(max(float(u), 0.0), 1.0)
        if self.log:
            value = math.floor(self.first * math.exp(u * math.log((self.last + 1) / self.first)))
        else:
            value = self.first + math.floor(u * self.n)
        return min(max(value, self.first), self.last)

    def middle(self, number: float) -> float:
        """The middle of the share of a number."""
        if self.log:
            return math.log((number + 0.5) / self.first) / math.log((self.last + 1) / self.first)
        return (number + 0.5 - self.first) / self.n


class Between(tuple[float, float]):
    """A pair of bounds, (0, 1), that says which points between them are one and the same.

    Attributes:
        cells: The values that there are.
    """

    cells: Cells

    def __new__(cls, cells: Cells) -> Between:
        pair = super().__new__(cls, (0.0, 1.0))
        pair.cells = cells
        return pair

    @override
    def __reduce__(self) -> Any:
        return Between, (self.cells,)
