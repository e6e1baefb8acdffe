"""`CoordinateSearch`: a global line search along every coordinate, for separable functions of many minima."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from blackbox_zo._checks import check_positive
from blackbox_zo._typing import Floats, Ints, override
from blackbox_zo.directions import Coordinates
from blackbox_zo.estimators._base import Estimator, vector_of
from blackbox_zo.estimators._interval_search import next_places
from blackbox_zo.estimators._stages import move_by, one_point, still, towards
from blackbox_zo.feedback import Feedback, Values
from blackbox_zo.randomness import Key
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Variable, Vector

__all__ = ["CoordinateSearch"]

ROUNDING = 5e-16
"""Relative error of a value."""

COUPLED = 0.05
"""How far what f gains for a joint move may be from the sum over single coordinates, as a share of the sum of sizes."""

DOMINATED = 2.0
"""Where the largest size is more than so many times the sum of the others, the share is of that many times the others:
a joint move then gains what that one gains, whether f is separable or not."""

IDLE = 50
"""Rounds without a gain after which it is over."""

AXES, JOINT = range(2)

REASONS = (
    "",
    "the start failed",
    "not separable: a joint move gains other than its parts",
    f"no coordinate gained in {IDLE} rounds",
)


class CoordinateState(NamedTuple):
    """What is known along each coordinate through x.

    Attributes:
        phase: What the next queries are for.
        value: f(x); NaN before the first answer.
        share: Which part of an interval between bounds, and of `radius`, is searched.
        places: Where each coordinate was asked about, the first x first, shape (d, m).
        rises: What f gained there, from x, shape (d, m); infinity where the query failed.
        idle: Consecutive rounds without a gain.
        reason: Why it is over, an index of `REASONS`; 0 while it is not.
        turn: Number of answers used, by which late ones are known.
    """

    phase: int
    value: float
    share: float
    places: Floats
    rises: Floats
    idle: int
    reason: int
    turn: int


@final
@dataclass(frozen=True)
class CoordinateSearch(Estimator):
    """A global search along all coordinates at once, for separable functions `f(x) = sum_i f_i(x_i)`.

    Each round asks about one place along each coordinate, d queries: first half the way to the farther end of its
    interval, but no further than `radius`, then both ends; then in turn the middle of the easiest interval between
    places (STEP; Swarzberg, Seront & Bersini 1994), which finds the best of many minima, and the least point of the
    parabola at the best place, which makes it exact. One more query is where all coordinates are at their best; x moves
    there.

    If f is separable, that query gains the sum of what the coordinates gained alone. After the first round such a query
    is made in any case, half the way along all coordinates at once. So most functions that are not separable have shown
    it after d + 2 queries, and the search is over. It is over, too, when no coordinate has gained for 50 rounds. Used
    alone, it then searches anew around x, in half the interval if x did not move. x never gets worse.

    The estimate is minus the move, for `SGD(1.0)`. It keeps two numbers for each query.

    Args:
        radius: How far from x the ends are where there is no bound, and how far the first round goes at most, positive,
            in units of the variable. Without a bound the span doubles as long as its end is the best place.

    Raises:
        ValueError: `radius` is not positive.

    Example:
        >>> import blackbox_zo as bz, numpy as np
        >>> rastrigin = lambda x: float((10 + x**2 - 10 * np.cos(2 * np.pi * x)).sum())
        >>> r = bz.minimize(rastrigin, np.full(5, 3.3), bz.CoordinateSearch(), budget=500, bounds=(-5, 5.5))
        >>> bool(r.fun < 1e-8)
        True
    """

    radius: float = 1.0

    exact = True
    everywhere = True
    warmup = 4

    def __post_init__(self) -> None:
        check_positive("CoordinateSearch", radius=self.radius)

    @override
    def start(self, variable: Variable) -> CoordinateState:
        x = vector_of(self, variable).value
        return CoordinateState(AXES, math.nan, 1.0, x[:, None].copy(), np.zeros((x.size, 1)), 0, 0, 0)

    @override
    def over(self, state: CoordinateState, variable: Variable) -> str:
        return REASONS[state.reason]

    @override
    def inform(self, state: CoordinateState, variable: Variable, points: Floats, values: Floats) -> CoordinateState:
        # Of use is f(x) alone
        same = np.flatnonzero((points == vector_of(self, variable).value).all(axis=1))
        return state._replace(value=float(values[same[0]])) if same.size else state

    # -------------------------------------------------------------------------------------------------------- asking

    @override
    def sample(self, state: CoordinateState, variable: Variable, key: Key) -> Queries:
        # Deterministic: the key is not used
        variable = vector_of(self, variable)
        if state.phase == JOINT:
            at = state.places[:, -1] if _opening(state) else _best(state)[0]
            return one_point(variable, towards(at, variable), (state.turn,))
        index: Ints = np.arange(variable.size)
        scale = towards(self._places(state, variable), variable)
        if math.isnan(state.value):
            index, scale = np.concatenate(([0], index)), np.concatenate(([0.0], scale))
        axes = Coordinates(variable.blocks, np.arange(variable.size))
        return Queries(axes, index, scale, variable.value, (state.turn,))

    def _places(self, s: CoordinateState, variable: Vector) -> Floats:
        """Where each coordinate is asked about next: half the way, at both ends, then as `next_places` says."""
        low, high = variable.box
        free = np.isinf(low) | np.isinf(high)
        m = s.places.shape[1]
        if m > 3:
            return next_places(s.places, s.rises, (np.isinf(low), np.isinf(high)), 16 * ROUNDING * abs(s.value))
        reach = s.share * np.where(free, self.radius, high - low)
        down, up = np.maximum(low, s.places[:, 0] - reach), np.minimum(high, s.places[:, 0] + reach)
        above = up - s.places[:, 0] >= s.places[:, 0] - down
        out: Floats = np.where(above == (m < 3), up, down)
        way = out - s.places[:, 0]
        return out if m > 1 else s.places[:, 0] + np.clip(0.5 * way, -self.radius, self.radius)

    # ----------------------------------------------------------------------------------------------------- answering

    @override
    def estimate(
        self, state: CoordinateState, variable: Variable, queries: Queries, feedback: Feedback
    ) -> tuple[CoordinateState, Step]:
        assert isinstance(feedback, Values)
        variable, values, scale = vector_of(self, variable), feedback.values, queries.scale
        whole = 1 if state.phase == JOINT else variable.size + math.isnan(state.value)
        if queries.tag != (state.turn,) or feedback.n != whole:  # late, or cut short by the budget
            return state, still(variable)
        state = state._replace(turn=state.turn + 1)
        if state.phase == JOINT:
            return self._together(state, variable, queries.directions.rows[0], float(values[0]))
        if math.isnan(state.value):
            state, values, scale = state._replace(value=float(values[0])), values[1:], scale[1:]
            if math.isnan(state.value):
                return state._replace(reason=1), still(variable)
        at = variable.project(variable.value + scale)
        state = state._replace(
            places=np.column_stack((state.places, at)),
            rises=np.column_stack((state.rises, np.where(np.isnan(values), np.inf, values - state.value))),
        )
        gains, alone = _best(state)[1], _alone(state, variable)
        gaining = int((gains < -16 * ROUNDING * abs(state.value)).sum())
        if variable.size > 1 and (_opening(state) or gaining > 1 or alone[1] > state.value + float(gains.min())):
            return state._replace(phase=JOINT), still(variable)
        if gaining:
            return self._moved(state, variable, *alone)
        state = state._replace(idle=state.idle + 1)
        return self._again(state, variable.value, 3, 0.5) if state.idle >= IDLE else state, still(variable)

    def _together(
        self, s: CoordinateState, variable: Vector, move: Floats, value: float
    ) -> tuple[CoordinateState, Step]:
        """After the joint move: whether its parts explain what it gained, and the move to the best point known."""
        parts = s.rises[:, -1] if _opening(s) else _best(s)[1]
        sizes = np.abs(parts)
        total, most = float(sizes.sum()), float(sizes.max())
        slack = COUPLED * min(total, DOMINATED * (total - most)) + 64 * ROUNDING * (abs(s.value) + total)
        gap = abs(value - s.value - float(parts.sum()))  # NaN or infinite after a failure
        separable = gap <= slack or (_opening(s) and not math.isfinite(gap))  # where an end failed, later rounds tell
        alone = _alone(s, variable)
        if not value < min(alone[1], s.value):
            move, value = alone
        s, step = self._moved(s, variable, move, value)
        if not separable:
            s = self._again(s, variable.project(variable.value + move), 2, 1.0 if move.any() else 0.5)
        return s, step

    def _moved(self, s: CoordinateState, variable: Vector, move: Floats, value: float) -> tuple[CoordinateState, Step]:
        """At a new x, which is among the places of each coordinate: rises are from there."""
        at = variable.project(variable.value + move)
        here = np.argmax(s.places == at[:, None], axis=1)
        rises = s.rises - s.rises[np.arange(at.size), here][:, None]
        idle = 0 if value < s.value else s.idle
        return s._replace(phase=AXES, value=value, rises=rises, idle=idle), move_by(variable, move)

    def _again(self, s: CoordinateState, x: Floats, reason: int, zoom: float) -> CoordinateState:
        """Over, for a reason; whoever asks on searches around x, in a part of the interval."""
        share = zoom * s.share if s.share > 1e-3 else 1.0
        return CoordinateState(AXES, s.value, share, x[:, None].copy(), np.zeros((x.size, 1)), 0, reason, s.turn)


def _opening(s: CoordinateState) -> bool:
    """Whether this is the first round."""
    return s.places.shape[1] <= 2


def _best(s: CoordinateState) -> tuple[Floats, Floats]:
    """The best place of each coordinate, and what it gains, at most 0, each of shape (d,)."""
    i, j = np.arange(len(s.rises)), np.argmin(s.rises, axis=1)
    return s.places[i, j], s.rises[i, j]


def _alone(s: CoordinateState, variable: Vector) -> tuple[Floats, float]:
    """The best point of the last round: from x to it, and its value; x itself where none is better."""
    last = np.minimum(s.rises[:, -1], 0.0)
    i = int(np.argmin(last))
    move = np.zeros(variable.size)
    if last[i] < 0.0:
        move[i] = towards(s.places[:, -1], variable)[i]
    return move, s.value + float(last[i])
