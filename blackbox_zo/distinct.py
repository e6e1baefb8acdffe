"""`Distinct`: any estimator where there are finitely many points, each of which is asked about once."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np

from blackbox_zo._typing import Floats, Ints, override
from blackbox_zo.directions import Block, Dense, Directions
from blackbox_zo.estimators import Estimator
from blackbox_zo.estimators._base import vector_of
from blackbox_zo.feedback import Feedback, Ranking, Values
from blackbox_zo.randomness import Key
from blackbox_zo.rules import Rule
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Variable, Vector
from blackbox_zo.variables._cells import Cells

__all__ = ["Distinct", "distinct"]

Cell = tuple[int, ...]


class _State(NamedTuple):
    """What is known.

    Attributes:
        inner: State of the wrapped estimator.
        cells: The points asked about so far, as whole numbers, shape (n, d).
        values: Their values, shape (n,).
    """

    inner: Any
    cells: Ints
    values: Floats


@final
@dataclass(frozen=True)
class Distinct(Estimator):
    """Asks about each point of a grid once; the wrapped estimator is told known values again at no cost.

    A step asks those points of the wrapped estimator's that are new. If none is, it asks as many new ones nearest to
    them, which the wrapped estimator learns when it comes to them. Once all points are known, they are asked again.

    Args:
        estimator: Chooses the points.
        grid: The values of each element; see `Vector.grid`.
    """

    estimator: Estimator
    grid: tuple[Cells, ...]

    def __post_init__(self) -> None:
        for name in ("accepts", "warmup"):  # as the wrapped estimator's
            object.__setattr__(self, name, getattr(self.estimator, name))

    @property
    def n(self) -> int:
        """Number of points of the grid."""
        return math.prod(cells.n for cells in self.grid)

    @override
    def rule(self) -> Rule:
        return self.estimator.rule()

    @override
    def start(self, variable: Variable) -> _State:
        return _State(self.estimator.start(variable), np.empty((0, len(self.grid)), dtype=np.int64), np.empty(0))

    @override
    def sample(self, state: _State, variable: Variable, key: Key) -> Queries:
        vector, whole = vector_of(self, variable), self.estimator.sample(state.inner, variable, key)
        seen = set(map(tuple, state.cells.tolist()))
        cells = self._cells(vector, whole)
        first = {cell: i for i, cell in reversed(list(enumerate(cells))) if cell not in seen}
        if first:
            points = whole.points()[sorted(first.values())]
        else:
            near = self._near(cells, seen, key, whole.n)
            points = whole.points() if not near else vector.coordinates(self._middles(near))
        rows, origin = points - vector.value, vector.value
        return Queries(_Asked(vector.blocks, rows, whole), np.arange(len(rows)), np.ones(len(rows)), origin)

    @override
    def estimate(self, state: _State, variable: Variable, queries: Queries, feedback: Feedback) -> tuple[_State, Step]:
        vector = vector_of(self, variable)
        assert isinstance(queries.directions, _Asked)
        whole = queries.directions.whole
        asked, wanted = self._cells(vector, queries), self._cells(vector, whole)
        values = feedback.values if isinstance(feedback, Values) else np.full(len(asked), np.nan)
        cells = np.concatenate((state.cells, np.array(asked, dtype=np.int64)))
        known = _State(state.inner, cells, np.concatenate((state.values, values)))
        found: Feedback
        if isinstance(feedback, Values):
            table = dict(zip(map(tuple, cells.tolist()), known.values.tolist(), strict=True))
            found = Values([table.get(cell, np.nan) for cell in wanted])
        else:  # only those of one ranking can be compared
            at = {cell: i for i, cell in enumerate(asked)}
            places = np.array([at.get(cell, -1) for cell in wanted])
            levels = np.where(places < 0, -1, feedback.levels[:, places])
            found = Ranking.from_levels(levels, feedback.weights)
        inner, step = self.estimator.estimate(state.inner, variable, whole, found)
        return known._replace(inner=inner), step

    @override
    def inform(self, state: _State, variable: Variable, points: Floats, values: Floats) -> _State:
        vector = vector_of(self, variable)
        inner = self.estimator.inform(state.inner, variable, points, values)
        told, seen = self._cells_of(vector, points), set(map(tuple, state.cells.tolist()))
        fresh = [i for i, cell in enumerate(told) if cell not in seen]
        cells = np.array([told[i] for i in fresh], dtype=np.int64).reshape(len(fresh), len(self.grid))
        return _State(inner, np.concatenate((state.cells, cells)), np.concatenate((state.values, values[fresh])))

    def left(self, state: _State) -> int:
        """Number of points that are not known yet."""
        return self.n - len(set(map(tuple, state.cells.tolist())))

    def _cells(self, vector: Vector, queries: Queries) -> list[Cell]:
        return self._cells_of(vector, queries.points())

    def _cells_of(self, vector: Vector, points: Floats) -> list[Cell]:
        """The cells of points in the coordinates of the variable, shape (n, d)."""
        rows = vector.inside(vector.outside(np.array(points))).tolist()
        return [tuple(cells.at(u) for cells, u in zip(self.grid, row, strict=True)) for row in rows]

    def _middles(self, cells: list[Cell]) -> Floats:
        return np.array([[c.middle(v) for c, v in zip(self.grid, cell, strict=True)] for cell in cells])

    def _near(self, starts: Iterable[Cell], seen: set[Cell], key: Key, n: int) -> list[Cell]:
        """Up to n new cells, in the order of the number of steps that lead there from the nearest of `starts`."""
        generator, d = key.generator("distinct"), len(self.grid)
        queue, found = deque(dict.fromkeys(starts)), dict[Cell, None]()
        visited = set(queue)
        while queue and len(found) < n:
            cell = queue.popleft()
            for move in generator.permutation(2 * d).tolist():
                i, up = divmod(move, 2)
                value = cell[i] + (1 if up else -1)
                there = (*cell[:i], value, *cell[i + 1 :])
                if there in visited or not self.grid[i].first <= value <= self.grid[i].last:
                    continue
                visited.add(there)
                if there in seen:
                    queue.append(there)
                else:
                    found[there] = None
        return list(found)[:n]


class _Asked(Directions):
    """Rows from x to the points of a step, and all the queries that the wrapped estimator wanted."""

    def __init__(self, blocks: tuple[Block, ...], rows: Floats, whole: Queries) -> None:
        super().__init__(blocks, len(rows))
        self._dense, self.whole = Dense(blocks, rows), whole

    @override
    def add_(self, out: Floats, block: Block, weights: Floats) -> None:
        self._dense.add_(out, block, weights)


def distinct(variable: Vector, estimator: Estimator) -> Estimator:
    """An estimator that asks about no point twice, where there are finitely many; else the estimator itself."""
    return Distinct(estimator, variable.grid) if variable.grid else estimator
