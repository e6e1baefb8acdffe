"""`Problem`, and `Counted`: its function as a solver sees it, counted, ended at the budget, with run lengths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from blackbox_zo._typing import Floats

__all__ = ["TARGETS", "Counted", "Problem", "Spent", "start_of"]

TARGETS: Floats = np.power(10.0, np.linspace(2.0, -8.0, 51))
"""Distances of f from its optimum: 10^2, 10^1.8, ..., 10^-8. The 21st is 1e-2."""


class Spent(BaseException):
    """The budget is spent. Not an `Exception`, so that no solver mistakes it for a failure of the function."""


@dataclass(frozen=True)
class Problem:
    """A function to minimise, and what is known of it.

    Attributes:
        suite: Name of its suite.
        function: Its number in the suite.
        d: Dimension.
        instance: Which shift and rotation.
        f: The function, of an array (d,).
        f_opt: Its lowest value.
        x0: The start, (d,), the same for every solver.
        bounds: Lowest and highest value of each coordinate, for solvers that take bounds; or None.
        scale: The unit in which targets are distances from f_opt.
        true: The function without its noise, if f has noise.
    """

    suite: str
    function: int
    d: int
    instance: int
    f: Callable[[Floats], float]
    f_opt: float
    x0: Floats
    bounds: tuple[float, float] | None = (-5.0, 5.0)
    scale: float = 1.0
    true: Callable[[Floats], float] | None = None


def start_of(function: int, d: int, instance: int) -> Floats:
    """A start, uniform in [-4, 4]^d, by `numpy.random.default_rng([function, d, instance])`."""
    return np.random.default_rng([function, d, instance]).uniform(-4.0, 4.0, d)


@dataclass
class Counted:
    """The function of a problem as a solver asks it.

    A point with NaN or infinity in it is a query like any other, and its value is NaN: some functions of the suites
    would return their optimum there. A query beyond the budget raises `Spent`, and so does each after it.

    Attributes:
        problem: The problem.
        budget: Most queries.
        queries: Queries so far.
        refused: Queries beyond the budget, and not answered.
        hits: The number of queries after which each target was first reached, in order; as many as were reached.
        best: Lowest value so far.
        best_x: Where it was.
    """

    problem: Problem
    budget: int
    queries: int = 0
    refused: int = 0
    hits: list[int] = field(default_factory=list)
    best: float = float("inf")
    best_x: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.best_x = self.x0
        self._levels = [*(self.problem.f_opt + self.problem.scale * TARGETS).tolist(), float("-inf")]

    @property
    def x0(self) -> Floats:
        """A copy of the start."""
        return self.problem.x0.copy()

    @property
    def d(self) -> int:
        """Dimension."""
        return self.problem.d

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Of each coordinate, or None."""
        return self.problem.bounds

    @property
    def left(self) -> int:
        """Queries left."""
        return self.budget - self.queries

    def __call__(self, x: Floats) -> float:
        """The value at `x`, an array (d,)."""
        if self.queries >= self.budget:
            self.refused += 1
            raise Spent
        self.queries += 1
        point = np.asarray(x, dtype=float).reshape(self.d)
        if not np.isfinite(point).all():
            return float("nan")
        value = float(self.problem.f(point))
        if value < self.best:
            self.best, self.best_x = value, point.copy()
            while value <= self._levels[len(self.hits)]:
                self.hits.append(self.queries)
        return value
