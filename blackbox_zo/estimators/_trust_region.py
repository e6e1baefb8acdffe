"""`TrustRegion`: a quadratic through few points, minimised in a ball that grows and shrinks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from blackbox_zo._checks import check_at_least, check_positive
from blackbox_zo._typing import Floats, override
from blackbox_zo.directions import Coordinates
from blackbox_zo.estimators._base import Estimator, vector_of
from blackbox_zo.estimators._interpolation import Interpolation
from blackbox_zo.estimators._opening import span
from blackbox_zo.estimators._quadratic_model import coefficients
from blackbox_zo.estimators._spanned import spanned
from blackbox_zo.estimators._stages import move_by, one_point, still
from blackbox_zo.estimators._trust_region_plan import absorbed, judged, planned
from blackbox_zo.estimators._trust_region_state import OPENING, REASONS, TrustRegionState
from blackbox_zo.feedback import Feedback, Values
from blackbox_zo.randomness import Key
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Variable, Vector

__all__ = ["TrustRegion"]

TRIES = 8
"""Openings where points fail, each half as wide as the one before."""

POINTS = 66
"""The most points by default, or 2 d + 1 where that is more: beyond, a query costs more than it brings."""

REACH = 3.0
"""How far from the center points of others are of use, in radii."""


@final
@dataclass(frozen=True)
class TrustRegion(Estimator):
    """A trust region with a quadratic model that interpolates (Powell 2006, NEWUOA; 2009, BOBYQA), within bounds.

    It opens with x and two points for each coordinate, in one step. Then each query is where the model is least in a
    ball around the best point so far, or, where the model was wrong and has points far off, where it mends the model
    most. The ball grows and shrinks with what was gained of what was predicted. Of all quadratics through the points,
    the model is the one whose Hessian changes least; each new point is added, and beyond `n_points` takes the place of
    another.

    Where there are as many points as a quadratic has coefficients, the ball becomes an ellipsoid: longer where the
    model is flatter. So it is fast, too, where scales differ, which Powell's methods are not.

    A failed query shrinks the ball; a failed point of the opening is asked again, nearer. What others have asked near x
    becomes part of the model, and so do late answers. The search is over where values differ by no more than their
    error, rounding or `stderr`. So it is where steps gain next to nothing of what the model promised, which tells
    rugged functions from ill-conditioned ones. Used alone, it then opens again, at a tenth of the radius.

    The estimate is minus the move, for `SGD(1.0)`. A query costs O((m + d)^2) for m points.

    Args:
        radius: Half the span of the first points, and radius of the first ball, positive, in units of the variable.
        n_points: Most points of the model. By default (d + 1) (d + 2) / 2, with which a quadratic is determined, but
            not more than 66 or 2 d + 1. Less than 2 d + 1 or more than (d + 1) (d + 2) / 2 counts as these.

    Raises:
        ValueError: `radius` is not positive, or `n_points` is not a whole number of at least 3.
    """

    radius: float = 0.2
    n_points: int | None = None

    exact = True
    warmup = 2

    def __post_init__(self) -> None:
        check_positive("TrustRegion", radius=self.radius)
        if self.n_points is not None:
            check_at_least("TrustRegion", 3, n_points=self.n_points)

    def _most(self, d: int) -> int:
        given = POINTS if self.n_points is None else int(self.n_points)
        return min(max(given, 2 * d + 1), coefficients(d))

    @override
    def start(self, variable: Variable) -> TrustRegionState:
        return _opening(vector_of(self, variable), float(self.radius), math.nan)

    @override
    def over(self, state: TrustRegionState, variable: Variable) -> str:
        return REASONS[state.reason]

    @override
    def inform(self, state: TrustRegionState, variable: Variable, points: Floats, values: Floats) -> TrustRegionState:
        variable = vector_of(self, variable)
        if state.phase == OPENING:
            return _remembered(state, variable, points, values)
        before, most = state.value, self._most(variable.size)
        for x, value in zip(points, values.tolist(), strict=True):
            away = state.model.back @ (x - state.center)
            if math.sqrt(float(away @ away)) * state.scale <= REACH * state.delta:
                state = absorbed(state, np.array(x), value, most)
        if state.value < before:  # the trial was for another center
            state = planned(state._replace(turn=state.turn + 1), variable, False, False)
        return state

    # -------------------------------------------------------------------------------------------------------- asking

    @override
    def sample(self, state: TrustRegionState, variable: Variable, key: Key) -> Queries:
        # Deterministic: the key is not used
        variable = vector_of(self, variable)
        x, (low, high), free, tag = variable.value, variable.box, state.wanted, (state.turn,)
        if state.phase != OPENING or not free.size:
            row = state.trial - x
            if variable.bounded:  # so that rounding does not miss a bound; points are clipped
                longer = row * (1.0 + 1e-15)
                row = np.where((state.trial <= low) | (state.trial >= high), longer, row)
            return one_point(variable, row, tag)
        up, down = span(variable, free, state.radius)
        index, scale = np.concatenate((np.arange(free.size),) * 2), np.concatenate((up, down))
        if math.isnan(state.value):
            index, scale = np.concatenate(([0], index)), np.concatenate(([0.0], scale))
        return Queries(Coordinates(variable.blocks, free), index, scale, x, tag)

    # ----------------------------------------------------------------------------------------------------- answering

    @override
    def estimate(
        self, state: TrustRegionState, variable: Variable, queries: Queries, feedback: Feedback
    ) -> tuple[TrustRegionState, Step]:
        assert isinstance(feedback, Values)
        variable = vector_of(self, variable)
        points, values = variable.project(queries.points()), feedback.values
        if feedback.stderr is not None and np.isfinite(feedback.stderr).any():
            state = state._replace(noise=float(np.nanmean(feedback.stderr)))
        with np.errstate(all="ignore"):  # values near the largest number
            if queries.tag != (state.turn,):  # late: like an answer to others
                good = np.isfinite(values)
                state = self.inform(state, variable, points[good], values[good])
            else:
                state = self._told(state._replace(turn=state.turn + 1), variable, points, values)
        move = state.center - variable.value
        return state, move_by(variable, move) if move.any() else still(variable)

    def _told(self, s: TrustRegionState, variable: Vector, points: Floats, values: Floats) -> TrustRegionState:
        """After the answers to the newest queries."""
        s = s._replace(reason=0)
        if s.phase == OPENING:
            s = _opened(s, variable, points, values)
        else:
            bottom = s.delta <= s.rho
            s, poor = judged(s, points[0], float(values[0]), self._most(variable.size))
            s = s if s.reason else planned(s, variable, poor, bottom)
        if not s.reason:
            return s
        value, radius = math.nan if REASONS[s.reason] == "the start failed" else s.value, max(0.1 * s.radius, 1e-12)
        return _opening(variable.at(s.center), radius, value)._replace(reason=s.reason, turn=s.turn, noise=s.noise)


def _opening(variable: Vector, radius: float, value: float) -> TrustRegionState:
    """The state before the first points around x, whose value may be known."""
    d, x, (low, high) = variable.size, variable.value, variable.box
    none, one = np.zeros((d, d)), np.eye(d)
    model = Interpolation(
        np.zeros(d), one, one, np.zeros((0, d)), np.zeros(0), np.zeros((0, 0)), 0.0, np.zeros(d), none, 0
    )
    free = np.flatnonzero(low < high)
    return TrustRegionState(
        OPENING, model, x, value, x, 0.0, radius, radius, radius, radius, free, 0, 0.0, 0, 0, 0.0, 0.0, 0
    )


def _remembered(s: TrustRegionState, variable: Vector, points: Floats, values: Floats) -> TrustRegionState:
    """With the points near x that span more than those before, while the opening is not answered."""
    away = points - s.center
    lengths = np.sqrt(np.einsum("ij,ij->i", away, away))
    if math.isnan(s.value) and (lengths == 0.0).any():
        s = s._replace(value=float(values[lengths.argmin()]))
    order = np.argsort(lengths, kind="stable")
    order = order[(lengths[order] > 0.0) & (lengths[order] <= REACH * s.radius)]
    known = np.concatenate((s.model.points, points[order]))
    kept, wanted = spanned(known - s.center)
    if not order.size or not s.wanted.size:
        return s
    model = s.model._replace(points=known[kept], values=np.concatenate((s.model.values, values[order]))[kept])
    return s._replace(model=model, wanted=wanted)


def _opened(s: TrustRegionState, variable: Vector, points: Floats, values: Floats) -> TrustRegionState:
    """The first model, or another opening for the coordinates along which all points failed."""
    if not s.wanted.size and not s.model.values.size:
        return s._replace(reason=REASONS.index("nothing can move"))
    if math.isnan(s.value):
        s, points, values = s._replace(value=float(values[0])), points[1:], values[1:]
        if not math.isfinite(s.value):
            return s._replace(reason=REASONS.index("the start failed"))
    good = np.isfinite(values)
    known = np.concatenate((s.model.points, points[good]))
    values = np.concatenate((s.model.values, values[good]))
    _, wanted = spanned(known - s.center)
    if wanted.size:
        if s.idle >= TRIES:
            return s._replace(reason=REASONS.index("too many points around the start failed"))
        model = s.model._replace(points=known, values=values)
        return s._replace(model=model, wanted=wanted, radius=0.5 * s.radius, idle=s.idle + 1)
    if (values == s.value).all():
        return s._replace(reason=REASONS.index("all values around the start are equal"))
    known, values = np.concatenate((s.center[None, :], known)), np.append(s.value, values)
    try:
        model = Interpolation.fitted(s.center, s.radius, known, values)
    except np.linalg.LinAlgError:
        return s._replace(reason=REASONS.index("the points around tell too little"))
    j = int(values.argmin())
    s = s._replace(
        model=model, center=known[j], value=float(values[j]), scale=s.radius, delta=s.radius, rho=s.radius, idle=0,
        spread=float(values.max() - values.min()),
    )  # fmt: skip
    return planned(s, variable, False, False)
