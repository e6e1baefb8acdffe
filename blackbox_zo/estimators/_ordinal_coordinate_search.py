"""`OrdinalCoordinateSearch`: searches along all coordinates at once, from rankings alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from blackbox_zo._checks import check_positive
from blackbox_zo._typing import Counts, Floats, override
from blackbox_zo.directions import Dense
from blackbox_zo.estimators._base import Estimator, vector_of
from blackbox_zo.estimators._ordinal_coordinates import (
    CHECK,
    DUEL,
    LOOK,
    ROUND,
    SPAN,
    ZOOM,
    OrdinalCoordinates,
    checked,
    divided,
    free,
    idled,
    line,
    worse,
)
from blackbox_zo.estimators._ordinal_line import brackets, halved, minima, narrowed, sections
from blackbox_zo.estimators._stages import move_by, still, towards
from blackbox_zo.feedback import Feedback, Ranking
from blackbox_zo.randomness import Key
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Variable, Vector

__all__ = ["OrdinalCoordinateSearch"]

CHECKS = (3, 16)
"""Rounds after which the coordinates are compared from elsewhere, too; after the first, one is looked at alone."""

RIVALS = 4
"""Of the minima along a coordinate, so many of the best are compared while their intervals narrow."""

SECTIONS = 4
"""After so many golden sections the worse half of the rivals is left out."""

REASONS = (
    "",
    "not separable: a joint move is worse than one of its parts",
    "not separable: from elsewhere the coordinates compare otherwise",
    "no point is better than another",
)


@final
@dataclass(frozen=True)
class OrdinalCoordinateSearch(Estimator):
    """A search along all coordinates at once from rankings, for separable functions `f(x) = sum_i f_i(x_i)`.

    An answer ranks x and one place along each coordinate: d comparisons for d + 1 queries, each of its own. x moves
    along all coordinates that gained. The places are half the way to the farther end, then the end on the better side,
    then golden sections of the interval that holds the minimum (Kiefer 1953).

    If f is separable, the new x is better than the best single move, which is asked again with it. After the third
    round and the 16th all coordinates are put where each is known to be worse, and one at a time is put back: this has
    to gain. Most functions that are not separable fail one of the first of these tests, and the search is over.

    After the third round, places along one coordinate are ranked. If they show several minima, each coordinate in turn
    is searched over its whole span: in equal steps, in smaller ones where the better half of these places lie, then the
    four best minima against each other while their intervals narrow. Where no coordinate gains any more, the search
    begins anew around x, and looks along another coordinate first. x never gets worse.

    It is what `minimize` begins with where an oracle ranks. With values, which tell more, `CoordinateSearch` is faster.

    The estimate is minus the move, for `SGD(1.0)`.

    Args:
        radius: How far from x the ends are where there is no bound, positive, in units of the variable. The span
            grows as long as its end is the best place.

    Raises:
        ValueError: `radius` is not positive.

    Example:
        >>> import blackbox_zo as bz, numpy as np
        >>> rastrigin = lambda x: float((10 + x**2 - 10 * np.cos(2 * np.pi * x)).sum())
        >>> oracle = bz.RankOnly(bz.FunctionOracle(rastrigin))
        >>> r = bz.minimize(oracle, np.full(5, 3.3), bz.OrdinalCoordinateSearch(), budget=900, bounds=(-5, 5.5))
        >>> bool(np.abs(r.center).max() < 1e-6)
        True
    """

    radius: float = 1.0

    accepts = (Ranking,)
    everywhere = True
    warmup = 4

    def __post_init__(self) -> None:
        check_positive("OrdinalCoordinateSearch", radius=self.radius)

    @override
    def start(self, variable: Variable) -> OrdinalCoordinates:
        variable = vector_of(self, variable)
        x, (low, high), none, nowhere = variable.value, variable.box, np.empty(0), np.empty((0, 3))
        reach = np.where(np.isinf(high - low), self.radius, high - low)
        low, high = np.maximum(low, x - reach), np.minimum(high, x + reach)
        s = OrdinalCoordinates(ROUND, low, high, low, high, none, none, 0, none, none, nowhere, 0, 0, 0, 0, 0)
        return s._replace(axis=int(free(s)[len(free(s)) // 2])) if len(free(s)) else s

    @override
    def over(self, state: OrdinalCoordinates, variable: Variable) -> str:
        return REASONS[state.reason]

    # -------------------------------------------------------------------------------------------------------- asking

    @override
    def sample(self, state: OrdinalCoordinates, variable: Variable, key: Key) -> Queries:
        # Deterministic: the key is not used
        variable = vector_of(self, variable)
        x = variable.value
        if state.phase in (ROUND, CHECK):
            i = free(state) if state.phase == CHECK else divided(state)
            away, back = (state.away, x) if state.phase == CHECK else (x, self._places(state, variable))
            points = np.tile(away, (1 + len(i), 1))
            points[1 + np.arange(len(i)), i] = back[i]
            if state.single.size:
                points = np.vstack((points, state.single))
        else:
            places = line(state, x)
            points = np.tile(x, (len(places), 1))
            points[:, state.axis] = places
        n, rows = len(points), towards(points, variable)
        return Queries(Dense(variable.blocks, rows), np.arange(n), np.ones(n), x, (state.turn,))

    def _places(self, s: OrdinalCoordinates, variable: Vector) -> Floats:
        """Where each coordinate is asked about next: half the way, at the end, then inside, or beyond an open end."""
        x, (low, high) = variable.value, variable.box
        if s.rounds == 0:
            out: Floats = 0.5 * (x + np.where(s.high - x >= x - s.low, s.high, s.low))
            return out
        width = s.high - s.low
        out = sections(s.low, x, s.high)
        out = np.where((s.high - x <= 1e-9 * width) & np.isinf(high), x + 2 * width, out)
        out = np.where((x - s.low <= 1e-9 * width) & np.isinf(low), x - 2 * width, out)
        if s.rounds == 1:
            out = np.where((s.low == s.first) & (s.low < x), s.first, out)
            out = np.where((s.high == s.last) & (s.high > x), s.last, out)
        return out

    # ----------------------------------------------------------------------------------------------------- answering

    @override
    def estimate(
        self, state: OrdinalCoordinates, variable: Variable, queries: Queries, feedback: Feedback
    ) -> tuple[OrdinalCoordinates, Step]:
        variable = vector_of(self, variable)
        ranking = feedback.ranking()
        if queries.tag != (state.turn,) or feedback.n != queries.directions.k:  # late, or cut short by the budget
            return state, still(variable)
        state = state._replace(turn=state.turn + 1)
        if not ranking.n_edges:  # nothing was compared, or all are equal
            state = idled(state, variable.value) if state.rounds > 1 else state._replace(reason=3)
            return state, still(variable)
        losses = ranking.net_losses()
        if state.phase == ROUND:
            return self._moved(state, variable, losses)
        if state.phase == CHECK:
            if (losses[1:] > losses[0]).any():
                return state._replace(reason=2), still(variable)
            look = state.rounds in (0, CHECKS[0])
            return state._replace(phase=LOOK if look else ROUND), still(variable)
        return self._searched(state, variable, losses)

    def _moved(self, s: OrdinalCoordinates, variable: Vector, losses: Counts) -> tuple[OrdinalCoordinates, Step]:
        """After a round: shorter intervals, and the move along all coordinates that gained."""
        x, i = variable.value, divided(s)
        if s.single.size and losses[-1] < losses[0]:
            return s._replace(reason=1), _to(variable, s.single)
        place, mine = self._places(s, variable), losses[1 : 1 + len(i)]
        better, others = np.zeros(x.size, dtype=np.bool_), np.zeros(x.size, dtype=np.bool_)
        better[i] = mine < losses[0]
        others[i] = (mine > losses[0]) | ~better.any()  # ties may be points that nobody has ranked
        low, then, high = narrowed(s.low, x, s.high, place, better, others)
        single, best = x.copy(), i[np.argmin(mine)]
        single[best] = place[best]
        s = s._replace(
            low=low, high=high, first=np.minimum(s.first, low), last=np.maximum(s.last, high), rounds=s.rounds + 1,
            single=single if better.sum() > 1 else single[:0],
        )  # fmt: skip
        if s.rounds in CHECKS:
            s = checked(s, worse(s, then))
        s = s._replace(idle=0) if better.any() and divided(s).size else idled(s, then)
        return s, _to(variable, then)

    def _searched(self, s: OrdinalCoordinates, variable: Vector, losses: Counts) -> tuple[OrdinalCoordinates, Step]:
        """After places along one coordinate were ranked."""
        places = line(s, variable.value)
        if s.phase == SPAN:
            return s._replace(phase=ZOOM, places=places, order=losses.astype(np.float64)), still(variable)
        if s.phase == DUEL:
            r = len(s.rivals)
            better = losses[r:] < losses[:r]
            low, then, high = s.rivals.T
            rivals = np.column_stack(narrowed(low, then, high, places[r:], better, ~better))
            s = s._replace(rivals=rivals, sections=s.sections + 1)
            if s.sections % SECTIONS == 0:
                s = s._replace(rivals=halved(rivals, np.minimum(losses[:r], losses[r:])))
        else:
            at = minima(losses)
            if s.phase == LOOK and len(at) > 1:
                return s._replace(phase=SPAN, axis=int(free(s)[0])), still(variable)
            at = at[np.argsort(losses[at], kind="stable")[:RIVALS]]
            s = s._replace(rivals=brackets(places, at), sections=0)
        if len(s.rivals) > 1:
            return s._replace(phase=DUEL), still(variable)
        low, then, high, alone = s.low.copy(), variable.value.copy(), s.high.copy(), s.phase == LOOK
        low[s.axis], then[s.axis], high[s.axis] = s.rivals[0]
        later = free(s)[free(s) > s.axis]
        s = s._replace(low=low, high=high, phase=ROUND)
        if later.size and not alone:
            s = s._replace(phase=SPAN, axis=int(later[0]))
        return s, _to(variable, then)


def _to(variable: Vector, point: Floats) -> Step:
    """The move to a point."""
    return move_by(variable, towards(point, variable))
