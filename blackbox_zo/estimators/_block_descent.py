"""`BlockDescent`: finite differences and a line search on one block of coordinates after the other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from blackbox_zo._checks import check_at_least, check_positive
from blackbox_zo._typing import Floats, Ints, override
from blackbox_zo.directions import Coordinates
from blackbox_zo.estimators._base import Estimator, vector_of
from blackbox_zo.estimators._parabola_search import MOST, Line
from blackbox_zo.estimators._stages import one_point
from blackbox_zo.feedback import Feedback, Values
from blackbox_zo.randomness import Key
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Variable, Vector

__all__ = ["BlockDescent"]

DIFFERENCES, LINE = range(2)


class BlockState(NamedTuple):
    """How far the sweep is.

    Attributes:
        phase: What the next queries are for.
        value: f(x); NaN before the first answer.
        block: Number of blocks that are done.
        line: The line search; its direction is of the block alone, shape (b,).
        curvature: Second derivative along the last line that gained; NaN before.
        interval: h of the differences.
        idle: Consecutive blocks without a gain.
        turn: Number of answers used, by which late ones are known.
    """

    phase: int
    value: float
    block: int
    line: Line
    curvature: float
    interval: float
    idle: int
    turn: int


@final
@dataclass(frozen=True)
class BlockDescent(Estimator):
    """Block coordinate descent (Wright 2015, arXiv 1502.04759) by values, for very many variables.

    Each block of coordinates has its forward differences asked in one step, b queries for b coordinates; then x goes
    down their gradient by a line search of a few queries, whose first trial is the length that the last curvature
    suggests. A query thus tells of one coordinate, which no method can better where there are fewer queries than
    coordinates. x never gets worse, and a step costs O(b d).

    The estimate is minus the move, for `SGD(1.0)`.

    Args:
        radius: The first differences and the first trial of a line, positive, in units of the variable.
        size: b, coordinates a block.
        sweeps: After so many times through all coordinates it is over; none is no limit.

    Raises:
        ValueError: An argument is out of its range.
    """

    radius: float = 0.2
    size: int = 64
    sweeps: int | None = None

    exact = True
    warmup = 1 + MOST

    def __post_init__(self) -> None:
        check_positive("BlockDescent", radius=self.radius)
        check_at_least("BlockDescent", 1, size=self.size)
        if self.sweeps is not None:
            check_at_least("BlockDescent", 1, sweeps=self.sweeps)

    @override
    def start(self, variable: Variable) -> BlockState:
        vector_of(self, variable)
        none = np.zeros(0)
        line = Line(none, 0.0, 0.0, 0.0, 0.0, none, math.nan, 0, 4.0, True)
        return BlockState(DIFFERENCES, math.nan, 0, line, math.nan, 1e-3 * self.radius, 0, 0)

    @override
    def over(self, state: BlockState, variable: Variable) -> str:
        blocks = -(-variable.size // self.size)
        if self.sweeps is not None and state.block >= self.sweeps * blocks:
            return f"{self.sweeps} times through all coordinates"
        return "converged: no block of coordinates gains" if state.idle >= 2 * blocks else ""

    @override
    def inform(self, state: BlockState, variable: Variable, points: Floats, values: Floats) -> BlockState:
        # Of use is f(x) alone
        same = np.flatnonzero((points == vector_of(self, variable).value).all(axis=1))
        return state._replace(value=float(values[same[0]])) if same.size else state

    def _coordinates(self, block: int, d: int) -> Ints:
        first = block % -(-d // self.size) * self.size
        return np.arange(first, min(first + self.size, d))

    # -------------------------------------------------------------------------------------------------------- asking

    @override
    def sample(self, state: BlockState, variable: Variable, key: Key) -> Queries:
        # Deterministic: the key is not used
        variable = vector_of(self, variable)
        x = variable.value
        axes = Coordinates(variable.blocks, self._coordinates(state.block, variable.size))
        if state.phase == LINE:
            row = self._move(state, variable, axes.coordinates)
            return one_point(variable, row, (state.turn,))
        h = np.where(x + state.interval <= variable.box[1], state.interval, -state.interval)[axes.coordinates]
        index: Ints = np.arange(axes.k)
        if math.isnan(state.value):
            index, h = np.concatenate((index[:1], index)), np.concatenate(([0.0], h))
        return Queries(axes, index, h, x, (state.turn,))

    def _move(self, s: BlockState, variable: Vector, axes: Ints) -> Floats:
        """From x to the trial of the line, shape (d,)."""
        there = variable.value.copy()
        there[axes] += s.line.alpha * s.line.direction
        out: Floats = variable.project(there) - variable.value
        return out

    # ----------------------------------------------------------------------------------------------------- answering

    @override
    def estimate(
        self, state: BlockState, variable: Variable, queries: Queries, feedback: Feedback
    ) -> tuple[BlockState, Step]:
        assert isinstance(feedback, Values)
        variable = vector_of(self, variable)
        still = Step(queries.directions, np.zeros(queries.directions.k))
        axes = self._coordinates(state.block, variable.size)
        whole = 1 if state.phase == LINE else len(axes) + math.isnan(state.value)
        if queries.tag != (state.turn,) or feedback.n != whole:  # late, or cut short by the budget
            return state, still
        state = state._replace(turn=state.turn + 1)
        if state.phase == DIFFERENCES:
            return self._differenced(state, variable, axes, queries.scale, feedback.values), still
        line = state.line.told(float(feedback.values[0]), queries.directions.rows[0][axes])
        if not line.over:
            return state._replace(line=line), still
        gain = line.start - line.value
        state = self._turned(state, line, gain)
        if gain <= 0:
            return state, still
        return state, Step(Coordinates(variable.blocks, axes), -line.move)

    def _differenced(self, s: BlockState, variable: Vector, axes: Ints, h: Floats, values: Floats) -> BlockState:
        """The gradient of the block, and the line down it."""
        if math.isnan(s.value):
            value, values, h = float(values[0]), values[1:], h[1:]
            if math.isnan(value):
                return s._replace(idle=s.idle + 1)
            s = s._replace(value=value)
        g = np.nan_to_num((values - s.value) / h, nan=0.0)
        x, low, high = (of[axes] for of in (variable.value, *variable.box))
        g[((x <= low) & (g > 0)) | ((x >= high) & (g < 0))] = 0.0  # held at a bound
        norm = float(np.linalg.norm(g))
        if norm == 0.0:
            return self._turned(s, s.line, 0.0)
        length = norm / s.curvature if s.curvature > 0 else self.radius
        direction = -g * (length / norm)
        growth = 8.0 if math.isnan(s.curvature) else 4.0
        return s._replace(phase=LINE, line=Line.begin(direction, float(g @ direction), s.value, growth))

    def _turned(self, s: BlockState, line: Line, gain: float) -> BlockState:
        """The next block; with what this one has shown of the curvature."""
        curvature, interval = s.curvature, s.interval
        if gain > 0:
            p, move = line.direction, line.move  # the move may have been cut off by bounds
            bend = 2 * (line.value - line.start - line.slope * float(p @ move) / float(p @ p)) / float(move @ move)
            if bend > 0:
                curvature = bend
                interval = 2 * math.sqrt(1e-15 * max(abs(line.value), 1e-300) / bend)
                interval = min(max(interval, 1e-9 * self.radius), 1e-2 * self.radius)
        return s._replace(
            phase=DIFFERENCES, block=s.block + 1, curvature=curvature, interval=interval,
            value=line.value if gain > 0 else s.value, idle=0 if gain > 0 else s.idle + 1,
        )  # fmt: skip
