"""The state of `TrustRegion`: its stages, its model, and why it is over."""

from __future__ import annotations

from typing import NamedTuple

from blackbox_zo._typing import Floats, Ints
from blackbox_zo.estimators._interpolation import Interpolation

__all__ = ["GEOMETRY", "OPENING", "REASONS", "RUGGED", "TRUST", "TrustRegionState"]

OPENING, TRUST, GEOMETRY = range(3)
"""What the next queries are for: the first points, a gain, a better model."""


class TrustRegionState(NamedTuple):
    """How far the search is.

    Attributes:
        phase: What the next queries are for.
        model: The quadratic and its points; in the opening only points other than x, in its coordinates.
        center: The best point, shape (d,).
        value: f there; NaN before the first answer.
        trial: The point to ask, if it is one, shape (d,).
        predicted: The gain that the model expects of it; 0 where it is to mend the model.
        scale: Length of a unit of the model's coordinates, where its Hessian is largest.
        delta: Radius of the trust region.
        rho: Least radius for now: smaller steps are not worth a query.
        radius: Half the span of the opening.
        wanted: The coordinates that the opening asks, shape (k,).
        idle: Steps since `rho` was reduced that were too short; in the opening, how often points failed.
        noise: Error of a value, as its standard error says; 0 where none is given.
        reason: Why the search is over; an index of `REASONS`.
        turn: Number of answers used, by which late ones are known.
        spread: Difference between the largest and the least value of the opening.
        surplus: What steps gained above `KEPT` of what was predicted, older ones counting less.
        judged: Number of these steps.
    """

    phase: int
    model: Interpolation
    center: Floats
    value: float
    trial: Floats
    predicted: float
    scale: float
    delta: float
    rho: float
    radius: float
    wanted: Ints
    idle: int
    noise: float
    reason: int
    turn: int
    spread: float
    surplus: float
    judged: int


RUGGED = "the function is no quadratic: steps gained next to nothing of what the model promised"

REASONS = (
    "",
    "converged: the model sees nothing to gain",
    "converged: the values can be told apart no more",
    "nothing can move",
    "the start failed",
    "all values around the start are equal",
    "too many points around the start failed",
    "the points around tell too little",
    RUGGED,
)
