"""`QuasiNewton`: dense BFGS on finite differences, with a first step from a wide diagonal quadratic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from blackbox_zo._checks import check_positive
from blackbox_zo._typing import Floats, Ints, override
from blackbox_zo.directions import Coordinates
from blackbox_zo.estimators._base import Estimator, vector_of
from blackbox_zo.estimators._bfgs import newton_step, updated
from blackbox_zo.estimators._opening import separable, span
from blackbox_zo.estimators._parabola_search import MOST, Line
from blackbox_zo.estimators._quasi_newton_state import CENTRAL, FORWARD, LINE, OPENING, REASONS, QuasiNewtonState
from blackbox_zo.estimators._stages import move_by, one_point, still
from blackbox_zo.feedback import Feedback, Values
from blackbox_zo.randomness import Key
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Variable, Vector

__all__ = ["QuasiNewton"]

ROUNDING = 5e-16
"""Relative error of a value where nothing is known of it."""

KEPT = 0.003
"""Where a line gains a smaller share of what B promises, f is no quadratic at this scale."""

COUNTS = 1e-3
"""That is judged while the promise is at least so large, as a share of the differences seen in the opening."""


@final
@dataclass(frozen=True)
class QuasiNewton(Estimator):
    """BFGS on finite differences within bounds, for functions whose values have little or no noise.

    It opens with central differences at `radius`: a gradient and the diagonal of a Hessian over a wide span, which
    small ruggedness does not deceive. If the step to the least point of that quadratic gains what it promised, the
    diagonal is the first B; else the first move's curvature is. Then forward differences of d queries alternate with
    line searches of a few. B is scaled down where it proves too large (see `updated`), so one too-steep direction does
    not shorten the steps in all others. Where a line search fails, differences become central; where it fails again, or
    gains no more than the values' rounding, the search is over. So it is where a line gains next to nothing of what B
    promised, which tells rugged functions from ill-conditioned ones. Used alone, it then opens again, at a tenth of
    the radius.

    The interval of the differences is `2 sqrt(e / L)` (Gill et al. 1983; Nocedal & Wright 2006, section 8.1), e the
    error of f and L the curvature along recent moves. Where values come in coarse steps, so that differences vanish, it
    widens. A failed query is asked on the other side of x.

    The estimate is minus the move, for `SGD(1.0)`. It keeps d × d numbers.

    Args:
        radius: Half the span of the first differences, positive, in units of the variable.

    Raises:
        ValueError: `radius` is not positive.
    """

    radius: float = 0.2

    exact = True
    warmup = 1 + MOST

    def __post_init__(self) -> None:
        check_positive("QuasiNewton", radius=self.radius)

    @override
    def start(self, variable: Variable) -> QuasiNewtonState:
        return self._opening(vector_of(self, variable), float(self.radius), math.nan)

    def _opening(self, variable: Vector, radius: float, value: float) -> QuasiNewtonState:
        d = variable.size
        none = np.zeros(d)
        line = Line(none, 0.0, 0.0, 0.0, 0.0, none, math.nan, 0, 4.0, True)
        return QuasiNewtonState(
            OPENING, value, none, _free(variable), none, np.zeros((0, 0)), line, np.zeros(0), radius, 10.0 * radius,
            math.nan, math.nan, math.nan, 1.0, 1.0, False, math.nan, 0, 0, 0,
        )  # fmt: skip

    @override
    def over(self, state: QuasiNewtonState, variable: Variable) -> str:
        return REASONS[state.reason]

    @override
    def inform(self, state: QuasiNewtonState, variable: Variable, points: Floats, values: Floats) -> QuasiNewtonState:
        # Of use is f(x) alone
        if state.phase != OPENING or not math.isnan(state.value):
            return state
        same = np.flatnonzero((points == vector_of(self, variable).value).all(axis=1))
        return state._replace(value=float(values[same[0]])) if same.size else state

    # -------------------------------------------------------------------------------------------------------- asking

    @override
    def sample(self, state: QuasiNewtonState, variable: Variable, key: Key) -> Queries:
        # Deterministic: the key is not used
        variable = vector_of(self, variable)
        x = variable.value
        if state.phase == LINE:
            row = variable.project(x + state.line.alpha * state.line.direction) - x
            return one_point(variable, row, (state.turn,))
        free = state.wanted
        if not free.size:  # nothing can move
            return one_point(variable, np.zeros(x.size), (state.turn,))
        if state.phase == OPENING:
            up, down = span(variable, free, state.radius)
            index, scale = np.concatenate((np.arange(free.size),) * 2), np.concatenate((up, down))
            if math.isnan(state.value):
                index, scale = np.concatenate(([0], index)), np.concatenate(([0.0], scale))
        else:
            h = self._interval(state, variable)[free]
            index, scale = np.arange(free.size), h
            if state.phase == CENTRAL:
                index, scale = np.concatenate((index, index)), np.concatenate((h, -h))
        return Queries(Coordinates(variable.blocks, free), index, scale, x, (state.turn,))

    def _interval(self, s: QuasiNewtonState, variable: Vector) -> Floats:
        """By how much each coordinate is changed for a difference, shape (d,); signed, inside the bounds."""
        x, (low, high) = variable.value, variable.box
        error = ROUNDING * max(abs(s.value), 1e-9 * s.scale)
        curvature = s.curvature if s.curvature > 0 else max(s.scale, 1e-300) / s.radius**2
        least = (30.0 if s.phase == CENTRAL else 2.0) * math.sqrt(error / curvature) * s.widened
        h: Floats = np.minimum(np.maximum(np.maximum(least, 1e-9 * np.abs(x)), 1e-9 * s.reach), s.radius)
        if variable.bounded:
            h = np.minimum(h, np.maximum(high - low, 0.0) / 4)
        out: Floats = s.side * np.where(x + h <= high, h, -h)
        return out

    # ----------------------------------------------------------------------------------------------------- answering

    @override
    def estimate(
        self, state: QuasiNewtonState, variable: Variable, queries: Queries, feedback: Feedback
    ) -> tuple[QuasiNewtonState, Step]:
        assert isinstance(feedback, Values)
        variable = vector_of(self, variable)
        if queries.tag != (state.turn,) or feedback.n != self._expected(state):  # late, or cut short by the budget
            return state, still(variable)
        state, move = state._replace(turn=state.turn + 1), None
        if not state.wanted.size:
            state = self._again(state, variable, float(feedback.values[0]), 1)
        elif state.phase == OPENING:
            state, move = self._opened(state, variable, queries, feedback.values)
        elif state.phase == LINE:
            state, move = self._along(state, variable, float(feedback.values[0]), queries.directions.rows[0])
        else:
            state = self._differenced(state, variable, queries, feedback.values)
        return state, still(variable) if move is None else move_by(variable, move)

    def _expected(self, s: QuasiNewtonState) -> int:
        """Number of queries of a whole step."""
        if s.phase == LINE or not s.wanted.size:
            return 1
        each = 1 if s.phase == FORWARD else 2
        return each * s.wanted.size + (s.phase == OPENING and math.isnan(s.value))

    def _opened(
        self, s: QuasiNewtonState, variable: Vector, queries: Queries, values: Floats
    ) -> tuple[QuasiNewtonState, Floats | None]:
        """A diagonal quadratic, and the line search towards its least point."""
        free = queries.directions.coordinates  # type: ignore[attr-defined]
        k, d = free.size, variable.size
        value = float(values[0]) if math.isnan(s.value) else s.value
        if math.isnan(value):
            return self._again(s, variable, math.nan, 4), None
        at, h = values[-2 * k :].reshape(2, k), queries.scale[-2 * k :].reshape(2, k)
        if not np.isfinite(at).any() or (np.nan_to_num(at, nan=value) == value).all():
            return self._again(s, variable, value, 5), None
        slope, curvature, p = separable(h, at - value, 2 * s.radius)
        g, step = np.zeros(d), np.zeros(d)
        g[free], step[free] = slope, p
        predicted = -float(slope @ p + 0.5 * curvature @ (p * p))
        j = int(np.nanargmin(at))  # the best point of the stencil is a candidate too
        line = Line.begin(step, float(slope @ p), value)
        if at.flat[j] < value:
            to = np.zeros(d)
            to[free[j % k]] = h.flat[j]
            line = line._replace(value=float(at.flat[j]), move=to)
        diagonal = np.zeros(d)
        diagonal[free] = np.abs(curvature) + np.where(curvature > 0, 0.0, 1e-12 * np.abs(curvature).max())
        most = float(np.nanmax(np.abs(at)))
        s = s._replace(
            phase=LINE, value=value, gradient=g, line=line, predicted=predicted, scale=max(most, abs(value)),
            spread=max(float(np.nanmax(at)), value) - min(float(at.flat[j]), value),
            matrix=np.diag(diagonal), curvature=float(np.abs(curvature).max()),
        )  # fmt: skip
        return s, None

    def _along(
        self, s: QuasiNewtonState, variable: Vector, value: float, move: Floats
    ) -> tuple[QuasiNewtonState, Floats | None]:
        """One more trial of the line search, and the move at its end."""
        line = s.line.told(value, move)
        if not math.isnan(s.predicted):  # the opening's step
            gained = line.start - value
            trusted = line.tries > 1 or gained > 0.9 * s.predicted
            held = float(np.abs(move).max()) >= 1.999 * s.radius
            if not trusted:
                s = s._replace(matrix=np.zeros((0, 0)))
            if line.tries == 1 and gained > 0 and not (trusted and held):
                line = line._replace(over=True)  # it is the least point already, or the quadratic misleads
        s = s._replace(line=line)
        if not line.over:
            return s, None
        gain, first = line.start - line.value, not math.isnan(s.predicted)
        promised = -0.5 * line.slope
        poor = gain < KEPT * promised and promised > COUNTS * s.spread
        if poor and not first and (gain > 0 or s.failures):
            return self._again(s, variable, line.value, 6), line.move if gain > 0 else None
        if gain <= 0:
            return self._stuck(s, variable), None
        reach = max(s.reach, 4 * float(np.abs(line.move).max()))
        s = s._replace(value=line.value, predicted=math.nan, failures=0, reach=reach)
        if gain <= 16 * ROUNDING * abs(line.value) and not first:
            if s.central:
                return self._again(s, variable, line.value, 2), line.move
            s = s._replace(central=True)
        return self._at_new_x(s, variable, np.zeros(0) if first else line.move), line.move

    def _at_new_x(self, s: QuasiNewtonState, variable: Vector, moved: Floats) -> QuasiNewtonState:
        """The gradient is to be asked; after a move of which the opening was the start, there is none before it."""
        phase = CENTRAL if s.central else FORWARD
        unknown, wanted = np.zeros(variable.size), _free(variable)
        return s._replace(phase=phase, gradient=unknown, wanted=wanted, before=s.gradient, moved=moved, side=1.0)

    def _stuck(self, s: QuasiNewtonState, variable: Vector) -> QuasiNewtonState:
        """After a line search without gain: central differences, then steepest descent, then the end."""
        if s.failures >= 2:
            return self._again(s, variable, s.value, 3)
        matrix = s.matrix if s.failures == 0 else np.zeros((0, 0))
        s = s._replace(central=True, failures=s.failures + 1, matrix=matrix, predicted=math.nan)
        return self._at_new_x(s, variable, np.zeros(0))

    def _differenced(self, s: QuasiNewtonState, variable: Vector, queries: Queries, values: Floats) -> QuasiNewtonState:
        """More of the gradient; when it is whole, B and the next direction."""
        free = queries.directions.coordinates  # type: ignore[attr-defined]
        h = queries.scale[: free.size]
        if s.phase == CENTRAL:
            ahead, behind = values[: free.size], values[free.size :]
            slope = np.where(np.isnan(behind), (ahead - s.value) / h, (ahead - behind) / (2 * h))
            slope = np.where(np.isnan(ahead), (s.value - behind) / h, slope)
        else:
            slope = (values - s.value) / h
        if s.side > 0 and not slope.any():  # NaN counts as a slope
            if float(np.abs(h).max()) >= 0.25 * s.radius:
                return self._again(s, variable, s.value, 1)
            return s._replace(widened=30.0 * s.widened)
        gradient, failed = s.gradient.copy(), np.isnan(slope)
        gradient[free] = np.where(failed, 0.0, slope)
        s = s._replace(gradient=gradient)
        if failed.any() and s.side > 0:
            return s._replace(wanted=free[failed], side=-1.0)
        return self._aimed(s, variable)

    def _aimed(self, s: QuasiNewtonState, variable: Vector) -> QuasiNewtonState:
        """B with the last move, and the next line."""
        g, b, curvature = s.gradient, s.matrix, s.curvature
        if s.moved.size:
            y = g - s.before
            sy, ss = float(s.moved @ y), float(s.moved @ s.moved)
            curvature = max(abs(sy) / ss, 0.3 * curvature if curvature > 0 else 0.0)
            if not b.size:
                b = np.eye(g.size) * (abs(sy) / ss or 1.0)
            b = updated(b, s.moved, y)
        (low, high), x = variable.box, variable.value
        at_low, at_high = x <= low, x >= high
        for matrix in (b, np.zeros((0, 0))):
            if matrix.size:
                p = newton_step(matrix, g, at_low, at_high)
            else:
                p = -np.where((at_low & (g > 0)) | (at_high & (g < 0)), 0.0, g)
                p *= s.radius / (float(np.linalg.norm(p)) or 1.0)
            slope = float(g @ p)
            if slope < 0:
                break
        else:
            return self._again(s, variable, s.value, 1)
        p *= min(1.0, s.reach / float(np.abs(p).max()))
        line = Line.begin(p, float(g @ p), s.value, 4.0 if matrix.size else 8.0)
        return s._replace(phase=LINE, matrix=matrix, line=line, curvature=curvature)

    def _again(self, s: QuasiNewtonState, variable: Vector, value: float, reason: int) -> QuasiNewtonState:
        """Over, for a reason; whoever asks on starts with a narrower opening."""
        value = math.nan if reason == 4 else value
        return self._opening(variable, max(0.1 * s.radius, 1e-12), value)._replace(reason=reason, turn=s.turn)


def _free(variable: Vector) -> Ints:
    """Coordinates that can move."""
    low, high = variable.box
    return np.flatnonzero(low < high)
