"""`NoisyQuasiNewton`: BFGS on differences that are longer than the noise, then ever shorter Newton steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from blackbox_zo._checks import check_positive
from blackbox_zo._typing import Bools, Floats, Ints, override
from blackbox_zo.directions import Coordinates, Dense
from blackbox_zo.estimators._base import Estimator, vector_of
from blackbox_zo.estimators._bfgs import newton_step, stretched, updated
from blackbox_zo.estimators._noisy_differences import displacements, near_bounds, parted, rescaled, slopes
from blackbox_zo.estimators._noisy_quasi_newton_state import ALONG, LINE, OPENING, REASONS, NoisyState
from blackbox_zo.estimators._opening import separable, span
from blackbox_zo.estimators._parabola_search import MOST, Line
from blackbox_zo.estimators._stages import move_by, one_point, still
from blackbox_zo.feedback import Feedback, Values
from blackbox_zo.randomness import Key
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Variable, Vector

__all__ = ["NoisyQuasiNewton"]

REPEATS = 4
"""Values at the start from which noise is known."""

PLAIN = 10.0
"""The opening must show differences so many times the noise."""

ROUNDING = 1e-10
"""Where values at one point are equal, noise is taken to be such a share of the differences of the opening."""

WIDER = 3.0
"""By what the opening is widened where it does not."""

BEND = 8.0
"""What curvature changes f by along a difference, in standard deviations of noise."""

PROVEN = 3.0
"""A line gains something if it gains so many standard deviations."""


@final
@dataclass(frozen=True)
class NoisyQuasiNewton(Estimator):
    """BFGS for functions whose values have noise, if it is small beside what there is to gain.

    It asks x four times, which tells the standard deviation of a value, and opens with central differences at `radius`,
    as `QuasiNewton` does. Then each gradient is taken along the axes of B, by differences so long that curvature alone
    changes f by 8 standard deviations (the interval of Gill et al. 1983, for each eigenvalue of B in turn). So noise is
    the same share of all differences, and costs a Newton step the same along each axis, however ill-conditioned f is.
    The two points of each axis and x also show its curvature, by which B is corrected beside its BFGS update (cf. the
    noise-tolerant BFGS of Shi, Xie, Byrd & Nocedal 2022, arXiv 2010.04352, which lengthens intervals for the update).

    A line search follows while B promises more than noise would hide. Then come Newton steps without one, divided by
    one more whenever a step turns back (Kesten 1958): x becomes the mean of what the gradients say. A step after which
    f is higher by 6 standard deviations is not made. Axes are then random, conjugate with respect to B, so all of the
    Hessian is learnt (Leventhal & Lewis 2011), which the noise in differences of gradients would not let BFGS do.

    The opening is made wider, up to 10 times `radius`, while its differences are less than 10 times the noise. If they
    still are, the search is over. Else it goes on for ever.

    A step asks 2 d + 2 queries, of which two are x itself, or one along a line. The noise may change from place to
    place, as it is measured again with each gradient. The estimate is minus the move, for `SGD(1.0)`. It keeps d × d
    numbers.

    Args:
        radius: Half the span of the first differences, positive, in units of the variable.

    Raises:
        ValueError: `radius` is not positive.

    Example:
        >>> import blackbox_zo as bz, numpy as np
        >>> rng = np.random.default_rng(0)
        >>> noisy = lambda x: float(np.logspace(0, 4, 10) @ (x - 1) ** 2) + rng.normal()
        >>> r = bz.minimize(noisy, np.zeros(10), bz.NoisyQuasiNewton(), budget=1000)
        >>> bool(np.logspace(0, 4, 10) @ (r.center - 1) ** 2 < 0.5)
        True
    """

    radius: float = 0.2

    noisy = True
    warmup = 1 + MOST

    def __post_init__(self) -> None:
        check_positive("NoisyQuasiNewton", radius=self.radius)

    @override
    def start(self, variable: Variable) -> NoisyState:
        d = vector_of(self, variable).size
        none = np.zeros(d)
        line = Line(none, 0.0, 0.0, 0.0, 0.0, none, math.nan, 0, 4.0, True)
        return NoisyState(
            OPENING, np.zeros(0), math.nan, 0.0, 0.0, none, none, np.zeros((d, d)), line, np.zeros(0),
            float(self.radius), 10.0 * self.radius, 0, math.nan, 0, 0,
        )  # fmt: skip

    @override
    def over(self, state: NoisyState, variable: Variable) -> str:
        return REASONS[state.reason]

    @override
    def inform(self, state: NoisyState, variable: Variable, points: Floats, values: Floats) -> NoisyState:
        # Of use are values at x, which tell noise
        if state.phase != OPENING:
            return state
        at_x = values[(points == vector_of(self, variable).value).all(axis=1)]
        return state._replace(values=np.append(state.values, at_x))

    # -------------------------------------------------------------------------------------------------------- asking

    @override
    def sample(self, state: NoisyState, variable: Variable, key: Key) -> Queries:
        # Deterministic: the key is not used
        variable = vector_of(self, variable)
        x, tag = variable.value, (state.turn,)
        if state.phase == LINE:
            row = variable.project(x + state.line.alpha * state.line.direction) - x
            return one_point(variable, row, tag)
        if state.phase == ALONG:
            rows = self._rows(state, variable, key)
            return Queries(Dense(variable.blocks, rows), np.arange(len(rows)), np.ones(len(rows)), x, tag)
        free = _free(variable)
        if not free.size:
            return one_point(variable, np.zeros(x.size), tag)
        again = max(0, REPEATS - len(state.values))
        index = np.concatenate((np.zeros(again, dtype=np.intp), *(np.arange(free.size),) * 2))
        scale = np.concatenate((np.zeros(again), *span(variable, free, state.radius)))
        return Queries(Coordinates(variable.blocks, free), index, scale, x, tag)

    def _rows(self, s: NoisyState, variable: Vector, key: Key) -> Floats:
        """The point x twice, then along the axes of B."""
        d = variable.size
        turn = key.generator("axes").standard_normal((d, d)) if s.rounds else np.eye(d)
        rows = displacements(variable, *self._parted(s, variable), BEND * s.error, s.reach, turn)
        return np.concatenate((np.zeros((2, d)), rows))

    def _parted(self, s: NoisyState, variable: Vector) -> tuple[Floats, Bools]:
        near = near_bounds(variable, s.matrix, BEND * s.error, s.reach)
        return parted(s.matrix, near, BEND * s.error, s.reach), near

    # ----------------------------------------------------------------------------------------------------- answering

    @override
    def estimate(
        self, state: NoisyState, variable: Variable, queries: Queries, feedback: Feedback
    ) -> tuple[NoisyState, Step]:
        assert isinstance(feedback, Values)
        variable = vector_of(self, variable)
        if queries.tag != (state.turn,) or feedback.n != self._expected(state, variable):
            return state, still(variable)  # late, or cut short by the budget
        state, move = state._replace(turn=state.turn + 1), None
        if state.phase == OPENING:
            state = self._opened(state, variable, queries, feedback.values)
        elif state.phase == LINE:
            state, move = self._along(state, float(feedback.values[0]), queries.directions.rows[0])
        else:
            state, move = self._differenced(state, variable, queries.directions.rows, feedback.values)
        return state, still(variable) if move is None else move_by(variable, move)

    def _expected(self, s: NoisyState, variable: Vector) -> int:
        """Number of queries of a whole step."""
        if s.phase == LINE:
            return 1
        if s.phase == ALONG:
            return 2 + 2 * variable.size
        k = _free(variable).size
        return max(0, REPEATS - len(s.values)) + 2 * k if k else 1

    def _opened(self, s: NoisyState, variable: Vector, queries: Queries, values: Floats) -> NoisyState:
        """A diagonal quadratic, and the line search towards its least point."""
        free = _free(variable)
        k, d = free.size, variable.size
        at_x = np.append(s.values, values[: max(0, REPEATS - len(s.values))])
        at_x = at_x[np.isfinite(at_x)]
        if not at_x.size or not k:
            return s._replace(reason=2 if at_x.size else 1)
        at, h = values[-2 * k :].reshape(2, k), queries.scale[-2 * k :].reshape(2, k)
        value, error = float(at_x.mean()), float(at_x.std(ddof=1)) if at_x.size > 1 else 0.0
        seen = float(np.nanmax(at) - np.nanmin(at)) if np.isfinite(at).any() else 0.0
        if seen <= PLAIN * error:
            wider = min(WIDER * s.radius, s.reach)
            return s._replace(values=at_x, radius=wider, reason=0 if wider > s.radius else 2)
        error = max(error, ROUNDING * seen)
        slope, curvature, p = separable(h, at - value, 2 * s.radius)
        g, far, diagonal = np.zeros(d), np.zeros(d), np.ones(d)
        g[free], far[free] = slope, p
        diagonal[free] = np.maximum(np.abs(curvature), 1e-12 * float(np.abs(curvature).max()) + 1e-300)
        step: Floats = variable.project(variable.value + far) - variable.value
        p = step[free]
        predicted = -float(slope @ p + 0.5 * curvature @ (p * p))
        return s._replace(
            phase=LINE, value=value, error=error, lately=error**2, gradient=g, matrix=np.diag(diagonal),
            line=Line.begin(step, float(slope @ p), value), predicted=predicted,
        )  # fmt: skip

    def _along(self, s: NoisyState, value: float, move: Floats) -> tuple[NoisyState, Floats | None]:
        """One more trial of the line search, and the move at its end."""
        if s.line.over:  # a Newton step
            p, gain = s.line.direction, s.line.start - value
            s = s._replace(phase=ALONG)
            if gain > -2 * PROVEN * s.error:
                return s, move
            bend = 2 * (-gain - s.line.slope)
            return s._replace(matrix=stretched(s.matrix, p, bend)), None
        line = s.line.told(value, move)
        s = s._replace(line=line)
        if line.tries == 1 and value > line.start + PROVEN * s.error:  # B is too small along p
            s = s._replace(matrix=stretched(s.matrix, line.direction, 2 * (value - line.start - line.slope)))
        if not line.over:
            return s, None
        gain, first = line.start - line.value, not math.isnan(s.predicted)
        proven = gain > PROVEN * s.error
        if first and gain < 0.5 * s.predicted:  # the axes of the coordinates mislead
            s = s._replace(matrix=np.eye(s.gradient.size) * float(np.diag(s.matrix).max()))
        s = s._replace(phase=ALONG, predicted=math.nan)
        if not proven:
            return s._replace(rounds=s.rounds + 1, moved=np.zeros(0)), None
        reach = max(s.reach, 4 * float(np.abs(line.move).max()))
        moved = np.zeros(0) if first else line.move
        return s._replace(value=line.value, before=s.gradient, moved=moved, reach=reach, rounds=0), line.move

    def _differenced(
        self, s: NoisyState, variable: Vector, rows: Floats, values: Floats
    ) -> tuple[NoisyState, Floats | None]:
        """A gradient; with it B, and a line, or a Newton step where noise would hide what a line gains."""
        d, at_x = variable.size, values[:2]
        if np.isfinite(at_x).all():
            s = s.with_spread(float(at_x.mean()), float(at_x.var(ddof=1)))
        rises = values[2:] - s.value
        b, agrees = rescaled(self._parted(s, variable)[0], rows[2:], rises, s.error, 1.0 / (1 + s.rounds))
        if not agrees:
            s = s._replace(rounds=0)
        if s.moved.size and float(s.moved @ b @ s.moved) > 4 * s.error:
            b = updated(b, s.moved, slopes(rows[2:], rises, b) - s.before)
        b = b if np.isfinite(b).all() else s.matrix
        g = slopes(rows[2:], rises, b)
        low, high = variable.box
        p = newton_step(b, g, variable.value <= low, variable.value >= high)
        slope = float(g @ p)
        before, s = s.gradient, s._replace(gradient=g, matrix=b, moved=np.zeros(0))
        if not slope < 0:
            return s._replace(rounds=s.rounds + 1), None
        p *= min(1.0, s.reach / float(np.abs(p).max()))
        p = variable.project(variable.value + p) - variable.value
        slope = float(g @ p)
        hidden = d / (4 * BEND) + 2 * PROVEN  # of the first, noise alone promises the half
        if -0.5 * slope > hidden * s.error:
            return s._replace(phase=LINE, line=Line.begin(p, slope, s.value)), None
        if float(before @ p) > 0.0:  # Kesten (1958): steps get shorter only where they turn back
            s = s._replace(rounds=s.rounds + 1)
        p /= 1 + s.rounds
        line = Line.begin(p, float(g @ p), s.value)._replace(over=True)
        return s._replace(phase=LINE, line=line), None


def _free(variable: Vector) -> Ints:
    """Coordinates that can move."""
    low, high = variable.box
    return np.flatnonzero(low < high)
