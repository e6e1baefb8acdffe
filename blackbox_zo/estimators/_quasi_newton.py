"""`QuasiNewton`: BFGS on finite differences, with a first step from a wide diagonal quadratic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from blackbox_zo._checks import check_at_least, check_positive
from blackbox_zo._typing import Floats, Ints, override
from blackbox_zo.estimators._base import Estimator, vector_of
from blackbox_zo.estimators._bfgs import Whole
from blackbox_zo.estimators._limited_memory import Pairs
from blackbox_zo.estimators._opening import separable
from blackbox_zo.estimators._parabola_search import MOST, Line
from blackbox_zo.estimators._quasi_newton_queries import ROUNDING, expected, free, interval, part, queries_of, slopes
from blackbox_zo.estimators._quasi_newton_state import CENTRAL, FORWARD, LINE, OPENING, REASONS, QuasiNewtonState
from blackbox_zo.estimators._stages import move_by, still
from blackbox_zo.feedback import Feedback, Values
from blackbox_zo.randomness import Key
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Variable, Vector

__all__ = ["QuasiNewton"]

WHOLE = 700
"""Up to this dimension B is an array of d × d numbers."""

PAIRS = 20
"""Above, B is made of so many of the last moves."""

UNKNOWN: Floats = np.zeros(0)
UNKNOWN.flags.writeable = False

NO_COORDINATE: Ints = np.zeros(0, dtype=np.intp)

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
    diagonal is the first B; else the first move's curvature is. Where B is of few moves, each of them judges the
    diagonal (see `Pairs`). Then forward differences of d queries alternate with line searches of a few. B is scaled
    down where it proves too large (see `updated`), so one too-steep direction does not shorten the steps in all others.
    Where a line search fails, differences become central; where it fails again, or gains no more than the values'
    rounding, the search is over. So it is where a line gains next to nothing of what B promised, which tells rugged
    functions from ill-conditioned ones. Used alone, it then opens again, at a tenth of the radius.

    The interval of the differences is `2 sqrt(e / L)` (Gill et al. 1983; Nocedal & Wright 2006, section 8.1), e the
    error of f and L the curvature along recent moves. Where values come in coarse steps, so that differences vanish, it
    widens. A failed query is asked on the other side of x.

    The estimate is minus the move, for `SGD(1.0)`. It keeps d × d numbers, or 2 d for each pair. Where d queries would
    take much memory written out, a step asks a part of them, 64 coordinates or more.

    Args:
        radius: Half the span of the first differences, positive, in units of the variable.
        pairs: B is made of so many of the last moves (limited-memory BFGS; Byrd, Nocedal & Schnabel 1994). By default
            it is made of all moves up to 700 dimensions, and of 20 above.

    Raises:
        ValueError: An argument is out of its range.
    """

    radius: float = 0.2
    pairs: int | None = None

    exact = True
    warmup = 1 + MOST

    def __post_init__(self) -> None:
        check_positive("QuasiNewton", radius=self.radius)
        if self.pairs is not None:
            check_at_least("QuasiNewton", 1, pairs=self.pairs)

    @override
    def start(self, variable: Variable) -> QuasiNewtonState:
        return self._opening(vector_of(self, variable), float(self.radius), math.nan)

    def _opening(self, variable: Vector, radius: float, value: float) -> QuasiNewtonState:
        none = np.zeros(variable.size)
        line = Line(none, 0.0, 0.0, 0.0, math.nan, none, math.nan, 0, 4.0, True)
        return QuasiNewtonState(
            OPENING, value, none, none, free(variable), NO_COORDINATE, none, self._matrix(variable.size), line,
            np.zeros(0), radius, 10.0 * radius, math.nan, math.nan, math.nan, 1.0, 1.0, False, math.nan, 0, 0, 0,
        )  # fmt: skip

    def _matrix(self, d: int, diagonal: Floats = UNKNOWN) -> Whole | Pairs:
        """B with a diagonal, positive, shape (d,); without one while no curvature is known."""
        if self.pairs is None and d <= WHOLE:
            return Whole.of(diagonal)
        return Pairs.of(diagonal, self.pairs or PAIRS)

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

    @override
    def sample(self, state: QuasiNewtonState, variable: Variable, key: Key) -> Queries:
        # Deterministic: the key is not used
        return queries_of(state, vector_of(self, variable))

    @override
    def estimate(
        self, state: QuasiNewtonState, variable: Variable, queries: Queries, feedback: Feedback
    ) -> tuple[QuasiNewtonState, Step]:
        assert isinstance(feedback, Values)
        variable = vector_of(self, variable)
        if queries.tag != (state.turn,) or feedback.n != expected(state):  # late, or cut short by the budget
            return state, still(variable)
        state, move = state._replace(turn=state.turn + 1), None
        if state.phase == LINE:
            state, move = self._along(state, variable, float(feedback.values[0]), queries.directions.rows[0])
        elif not state.wanted.size:
            state = self._again(state, variable, float(feedback.values[0]), 1)
        elif state.phase == OPENING:
            state = self._opened(state, variable, queries, feedback.values)
        else:
            state = self._differenced(state, variable, queries, feedback.values)
        return state, still(variable) if move is None else move_by(variable, move)

    def _opened(self, s: QuasiNewtonState, variable: Vector, queries: Queries, values: Floats) -> QuasiNewtonState:
        """More of a diagonal quadratic; when it is whole, the line search towards its least point."""
        some, k = part(s), part(s).size
        value = float(values[0]) if math.isnan(s.value) else s.value
        if math.isnan(value):
            return self._again(s, variable, math.nan, 4)
        at, h = values[-2 * k :].reshape(2, k), queries.scale[-2 * k :].reshape(2, k)
        found = separable(h, at - value, 2 * s.radius)
        g, bend, step = (of.copy() for of in (s.gradient, s.bend, s.line.direction))
        g[some], bend[some], step[some] = found
        line = s.line._replace(direction=step)
        lowest, highest = (float(f.reduce(at, axis=None)) for f in (np.fmin, np.fmax))
        if lowest < (value if math.isnan(line.value) else line.value):  # the best point asked is a candidate too
            j = int(np.nanargmin(at))
            move = np.zeros(variable.size)
            move[some[j % k]] = h.flat[j]
            line = line._replace(value=lowest, move=move)
        s = s._replace(
            value=value, gradient=g, bend=bend, line=line, wanted=s.wanted[k:],
            scale=float(np.fmax.reduce((s.scale, abs(value), abs(lowest), abs(highest)))),
            spread=float(np.fmax.reduce((s.spread, value, highest))),
        )  # fmt: skip
        return s if s.wanted.size else self._whole_opening(s, variable)

    def _whole_opening(self, s: QuasiNewtonState, variable: Vector) -> QuasiNewtonState:
        """The line search towards the least point of the quadratic."""
        g, bend, p = s.gradient, s.bend, s.line.direction
        if not (g.any() or bend.any()):
            return self._again(s, variable, s.value, 5)
        line = Line.begin(p, float(g @ p), s.value)
        if not math.isnan(s.line.value):
            line = line._replace(value=s.line.value, move=s.line.move)
        most = float(np.abs(bend).max())
        diagonal = np.abs(bend) + np.where(bend > 0, 0.0, 1e-12 * most) if most > 0 else UNKNOWN
        return s._replace(
            phase=LINE, line=line, predicted=-float(g @ p + 0.5 * bend @ (p * p)), spread=s.spread - line.value,
            matrix=self._matrix(variable.size, diagonal), bend=np.zeros(0), curvature=most,
        )  # fmt: skip

    def _along(
        self, s: QuasiNewtonState, variable: Vector, value: float, move: Floats
    ) -> tuple[QuasiNewtonState, Floats | None]:
        """One more trial of the line search, and the move at its end."""
        line = s.line.told(value, move)
        first, lasting = not math.isnan(s.predicted), isinstance(s.matrix, Pairs)
        if first:  # the opening's step
            gained = line.start - value
            trusted = line.tries > 1 or gained > 0.9 * s.predicted
            held = float(np.abs(move).max()) >= 1.999 * s.radius
            if not (trusted or lasting):
                s = s._replace(matrix=self._matrix(variable.size))
            if line.tries == 1 and gained > 0 and not (trusted and held):
                line = line._replace(over=True)  # it is the least point already, or the quadratic misleads
        s = s._replace(line=line)
        if not line.over:
            return s, None
        gain = line.start - line.value
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
        return self._at_new_x(s, variable, np.zeros(0) if first and not lasting else line.move), line.move

    def _at_new_x(self, s: QuasiNewtonState, variable: Vector, moved: Floats) -> QuasiNewtonState:
        """The gradient is to be asked; after a move of which the opening was the start, there is none before it."""
        phase = CENTRAL if s.central else FORWARD
        unknown, wanted = np.zeros(variable.size), free(variable)
        return s._replace(phase=phase, gradient=unknown, wanted=wanted, before=s.gradient, moved=moved, side=1.0)

    def _stuck(self, s: QuasiNewtonState, variable: Vector) -> QuasiNewtonState:
        """After a line search without gain: central differences, then steepest descent, then the end."""
        if s.failures >= 2:
            return self._again(s, variable, s.value, 3)
        matrix = s.matrix if s.failures == 0 else self._matrix(variable.size)
        s = s._replace(central=True, failures=s.failures + 1, matrix=matrix, predicted=math.nan)
        return self._at_new_x(s, variable, np.zeros(0))

    def _differenced(self, s: QuasiNewtonState, variable: Vector, queries: Queries, values: Floats) -> QuasiNewtonState:
        """More of the gradient; when it is whole, B and the next direction."""
        some, gradient = part(s), s.gradient.copy()
        slope = slopes(s, queries.scale[: some.size], values)
        without = np.isnan(slope)
        gradient[some] = np.where(without, 0.0, slope)
        failed = np.concatenate((s.failed, some[without]))
        s = s._replace(gradient=gradient, wanted=s.wanted[some.size :], failed=failed)
        if s.wanted.size:
            return s
        if s.side > 0 and not (failed.size or gradient.any()):
            every = free(variable)
            if float(np.abs(interval(s, variable, every)).max()) >= 0.25 * s.radius:
                return self._again(s, variable, s.value, 1)
            return s._replace(widened=30.0 * s.widened, wanted=every)
        s = s._replace(failed=NO_COORDINATE)
        return s._replace(wanted=failed, side=-1.0) if failed.size and s.side > 0 else self._aimed(s, variable)

    def _aimed(self, s: QuasiNewtonState, variable: Vector) -> QuasiNewtonState:
        """B with the last move, and the next line."""
        g, b, curvature = s.gradient, s.matrix, s.curvature
        if s.moved.size:
            y = g - s.before
            sy, ss = float(s.moved @ y), float(s.moved @ s.moved)
            curvature = max(abs(sy) / ss, 0.3 * curvature if curvature > 0 else 0.0)
            if not b.known:
                b = self._matrix(g.size, np.full(g.size, abs(sy) / ss or 1.0))
            b = b.updated(s.moved, y)
        (low, high), x = variable.box, variable.value
        at_low, at_high = x <= low, x >= high
        for matrix in (b, self._matrix(g.size)):
            if matrix.known:
                p = matrix.step(g, at_low, at_high)
            else:
                p = -np.where((at_low & (g > 0)) | (at_high & (g < 0)), 0.0, g)
                p *= s.radius / (float(np.linalg.norm(p)) or 1.0)
            slope = float(g @ p)
            if slope < 0:
                break
        else:
            return self._again(s, variable, s.value, 1)
        p *= min(1.0, s.reach / float(np.abs(p).max()))
        line = Line.begin(p, float(g @ p), s.value, 4.0 if matrix.known else 8.0)
        return s._replace(phase=LINE, matrix=matrix, line=line, curvature=curvature)

    def _again(self, s: QuasiNewtonState, variable: Vector, value: float, reason: int) -> QuasiNewtonState:
        """Over, for a reason; whoever asks on starts with a narrower opening."""
        value = math.nan if reason == 4 else value
        return self._opening(variable, max(0.1 * s.radius, 1e-12), value)._replace(reason=reason, turn=s.turn)
