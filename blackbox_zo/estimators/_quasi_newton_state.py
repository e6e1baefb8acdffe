"""The state of `QuasiNewton`: its stages, what it knows at x, and why it is over."""

from __future__ import annotations

from typing import NamedTuple

from blackbox_zo._typing import Floats, Ints
from blackbox_zo.estimators._bfgs import Whole
from blackbox_zo.estimators._limited_memory import Pairs
from blackbox_zo.estimators._parabola_search import Line

__all__ = ["CENTRAL", "FORWARD", "LINE", "OPENING", "REASONS", "QuasiNewtonState"]

OPENING, LINE, FORWARD, CENTRAL = range(4)
"""What the next queries are for."""


class QuasiNewtonState(NamedTuple):
    """How far the search is.

    Attributes:
        phase: What the next queries are for.
        value: f(x); NaN before the first answer.
        gradient: g at x, 0 where it is not known yet, shape (d,).
        bend: In the opening, the second derivative along each coordinate, 0 where it is not known yet, shape (d,);
            then (0,).
        wanted: The coordinates whose differences are still to be asked, shape (k,).
        failed: Those of which it failed at this x, on the present side of it, shape (f,).
        before: The gradient before the last move, shape (d,).
        matrix: B.
        line: The line search, if that is the phase. In the opening its direction is the step so far, and its value and
            move are those of the best point so far.
        moved: The last move, shape (d,).
        radius: Half the span of the opening's differences, and the length of a step without a known curvature.
        reach: The longest step, as the largest change of a coordinate.
        curvature: The largest second derivative along recent moves; NaN before.
        scale: The magnitude of the values seen in the opening.
        spread: The difference between the highest and the lowest of them; in the opening, between the highest and f(x).
        widened: Factor on the interval of the differences, where values are coarser than their rounding.
        side: 1, or -1 if the differences that failed are asked on the other side of x.
        central: Whether gradients are from central differences.
        predicted: The gain that the opening expects of its step; NaN after it.
        failures: Line searches without gain since the last one with gain.
        reason: Why the search is over; an index of `REASONS`.
        turn: Number of answers used, by which late ones are known.
    """

    phase: int
    value: float
    gradient: Floats
    bend: Floats
    wanted: Ints
    failed: Ints
    before: Floats
    matrix: Whole | Pairs
    line: Line
    moved: Floats
    radius: float
    reach: float
    curvature: float
    scale: float
    spread: float
    widened: float
    side: float
    central: bool
    predicted: float
    failures: int
    reason: int
    turn: int


REASONS = (
    "",
    "converged: differences show no slope",
    "converged: the values can be told apart no more",
    "no descent along the quasi-Newton direction",
    "the start failed",
    "all values around the start are equal",
    "the function is no quadratic: a line gained next to nothing of what B promised",
)
