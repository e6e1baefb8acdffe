"""`OneByOne`: a search that hands out one point at a time, as other tools ask for them."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np

from blackbox_zo._auto import auto
from blackbox_zo._typing import Floats, Tree
from blackbox_zo.distinct import distinct
from blackbox_zo.estimators import Estimator, EvolutionStrategy, Portfolio
from blackbox_zo.feedback import Values
from blackbox_zo.proposal import Proposal
from blackbox_zo.rules import Rule
from blackbox_zo.search import Search
from blackbox_zo.variables import Vector

__all__ = ["Asked", "OneByOne", "check_method"]

RADIUS = 0.3
"""Of the points for those who would wait, in units of the variable; as in "auto"."""


class Asked:
    """One point that was handed out, and the queries that wait for its value.

    Attributes:
        point: Shape (d,), within the bounds.
        told: Whether its value is known.
        returned: Whether it was given back.
    """

    __slots__ = ("point", "queries", "returned", "told")

    def __init__(self, point: Floats) -> None:
        self.point, self.told, self.returned = point, False, False
        self.queries: list[tuple[Search, Proposal, int]] = []


class OneByOne:
    """Any number of points are out at a time, and come back in any order.

    A step that holds nothing but points that are out already, as those of a method that must wait for them, is not
    asked again: it learns their values with the others. Who asks meanwhile gets a point of a CMA-ES that starts at the
    best so far.

    Args:
        method: As for `minimize`.
        x0: The start.
        bounds: Its bounds.
        unit: The unit of movement.
        seed: Determines all randomness.

    Attributes:
        best: The best point told so far, and its value; x0 and NaN before.
    """

    def __init__(self, method: Any, x0: Tree, bounds: Any = None, unit: Any = None, seed: int = 0) -> None:
        start, estimator, rule = self._chosen(check_method(method), x0, bounds, unit)
        self._search, self._seed = Search(start, distinct(start, estimator), rule, seed=seed), seed
        self._start, self._bounds, self._unit = x0, bounds, start.unit
        self._aside: Search | None = None
        self._queue: deque[Asked] = deque()
        self._out: dict[bytes, Asked] = {}
        self.best: tuple[Floats, float] = start.flat, math.nan

    @staticmethod
    def _chosen(method: Any, x0: Tree, bounds: Any, unit: Any) -> tuple[Vector, Estimator, Rule | None]:
        start = Vector(x0, bounds, unit)
        if isinstance(method, str):
            start, method = auto(start, x0, bounds, unit)
        estimator, rule = method if isinstance(method, tuple) else (method, None)
        return start, estimator, rule

    def ask(self) -> Asked | None:
        """The next point; None if all that the method wants to know is out."""
        while not self._queue and self._more(self._search):
            pass
        return self._queue.popleft() if self._queue else None

    def ask_aside(self) -> Asked:
        """A point for one who would wait."""
        if self._aside is None:
            start = Vector(self.best[0], self._bounds, self._unit)
            self._aside = Search(start, EvolutionStrategy(RADIUS), seed=self._seed + 1)
        while not self._queue:
            self._more(self._aside, whole=True)
        return self._queue.popleft()

    def _more(self, search: Search, whole: bool = False) -> bool:
        """Ask a search for a step; False if nothing in it is new."""
        proposal = search.ask(repeats=True)
        points = proposal.points
        new = whole or not all(point.tobytes() in self._out for point in points)
        for i, point in enumerate(points):
            place = search, proposal, int(proposal.ids[i])
            if not new:
                self._out[point.tobytes()].queries.append(place)
                continue
            asked = Asked(np.array(point))
            asked.queries.append(place)
            self._queue.append(asked)
            self._out[point.tobytes()] = asked
        return new

    def tell(self, asked: Asked, value: float) -> None:
        """The value of a point that was handed out; NaN or infinity is a failure. A second value is ignored."""
        if asked.told:
            return
        asked.told, value = True, value if math.isfinite(value) else math.nan
        if self._out.get(asked.point.tobytes()) is asked:
            del self._out[asked.point.tobytes()]
        self._see(asked.point, value)
        for search, proposal, query in asked.queries:
            search.tell(proposal, Values([value]), ids=[query])
        if all(search is self._aside for search, _, _ in asked.queries):
            self._search.tell_known([asked.point], [value])

    def know(self, point: Floats, value: float) -> None:
        """The value of a point that somebody else chose, shape (d,)."""
        if math.isfinite(value):
            self._see(point, value)
            # A search begins by asking its start twice, to see noise; a value known there must not stand for both
            if self._search.nfev or not np.array_equal(self._search.x, point):
                self._search.tell_known([point], [value])

    def give_back(self, asked: Asked) -> None:
        """A point that was not evaluated: the next to ask gets it; if that fails, too, it is a failure."""
        if asked.returned:
            self.tell(asked, math.nan)
        elif not asked.told:
            asked.returned = True
            self._queue.appendleft(asked)

    @property
    def recommended(self) -> Floats | None:
        """Under noise, where the search stands, shape (d,); None if the best point will do."""
        search = self._search
        noisy = isinstance(search.estimator, Portfolio) and search.state.noise
        return search.variable.flat if noisy and isinstance(search.variable, Vector) else None

    def _see(self, point: Floats, value: float) -> None:
        if value < self.best[1] or (math.isnan(self.best[1]) and not math.isnan(value)):
            self.best = point, value


def check_method(method: Any) -> Any:
    """A method as `minimize` takes it.

    Raises:
        TypeError: It is none, or cannot use values.
    """
    pair = method if isinstance(method, tuple) and len(method) == 2 else (method, None)
    if method != "auto" and not (isinstance(pair[0], Estimator) and (pair[1] is None or isinstance(pair[1], Rule))):
        raise TypeError(f'`method` must be "auto", an estimator, or (estimator, rule); got {method!r:.80}.')
    if isinstance(pair[0], Estimator) and Values not in pair[0].accepts:
        raise TypeError(f"`method` must be able to use values; `{type(pair[0]).__name__}` takes rankings alone.")
    return method
