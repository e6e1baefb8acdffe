"""The candidates of a step of `EvolutionStrategy`, moved into the bounds."""

from __future__ import annotations

from functools import cached_property
from typing import final

from blackbox_zo._typing import Floats
from blackbox_zo.directions import Dense
from blackbox_zo.estimators._flat_bounds import Bounds
from blackbox_zo.variables import Vector

__all__ = ["Candidates"]


@final
class Candidates(Dense):
    """Rows that lead from x into the bounds, and what they were drawn as.

    Args:
        variable: Where x stands.
        y: Displacements from the mean in units of sigma, shape (k, d); taken over. The mean is x where there are no
            bounds, else the g with T(g) = x.
        radius: Sigma.
        bounds: T, or None.
        places: Where the first candidates lie on the line of the last move, shape (p,).
        fitted: Whether the first is where a model is least.
        z: The draws from N(0, I) that `y` was made from, shape (k, d), for a low-rank covariance; else None.
        asked: The points asked about, in the variable's units, shape (k, d), if they are not where `y` leads.

    Attributes:
        y: See above.
        bounds: See above.
        places: See above.
        fitted: See above.
        z: See above.
        x: Where x stood, shape (d,).
    """

    def __init__(
        self, variable: Vector, y: Floats, radius: float, bounds: Bounds | None, places: Floats, *,
        fitted: bool = False, z: Floats | None = None, asked: Floats | None = None,
    ) -> None:  # fmt: skip
        self.fitted, self.z, self._asked = fitted, z, asked
        self.y, self.bounds, self.places, self.radius = y, bounds, places, radius
        y.flags.writeable = False
        self.x = variable.value
        super().__init__(variable.blocks, y if bounds is None else bounds.steps(variable.value, y, radius))

    @cached_property
    def asked(self) -> Floats:
        """The points asked about, in the variable's units, shape (k, d)."""
        return self.x + self.radius * self.rows if self._asked is None else self._asked

    @property
    def drawn(self) -> slice:
        """Those drawn at random, not placed on a line."""
        return slice(len(self.places), self.k)
