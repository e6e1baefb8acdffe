"""What a `Portfolio` makes of values that it did not ask for."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from blackbox_zo._typing import Floats
from blackbox_zo.estimators._base import Estimator
from blackbox_zo.estimators._portfolio_state import JUMP, LOOK, MEMBER, PROBE, PortfolioState
from blackbox_zo.variables import Vector

__all__ = ["informed", "listened"]

MOST = 1 << 20
"""Numbers that the points kept for the members may take: 8 MiB."""


def informed(s: PortfolioState, variable: Vector, points: Floats, values: Floats) -> PortfolioState:
    """The state after values, shape (n,), at points in the coordinates of the variable, shape (n, d).

    Before the first answer, a value at x stands for the first of the two that tell noise, and other starts are where to
    restart. Later, a point that is better than all is where the next restart begins.
    """
    most = max(1, MOST // variable.size)
    s = s._replace(points=np.concatenate((s.points, points))[-most:], values=np.append(s.values, values)[-most:])
    at_x = np.flatnonzero((points == variable.value).all(axis=1))
    order = [i for i in np.argsort(values, kind="stable") if values[i] == values[i]]
    better = bool(order) and not values[order[0]] >= s.best
    if better:
        s = s._replace(best=float(values[order[0]]), incumbent=np.array(points[order[0]]))
    if s.phase in (MEMBER, JUMP) and better:
        return _first(s, points[order[0]], s.best)
    if s.phase != PROBE:
        return s
    if len(at_x):
        s = s._replace(before=float(values[at_x[-1]]))
        if math.isnan(s.before) and math.isnan(s.best):
            s = s._replace(phase=LOOK)
    starts = {start.tobytes() for start in variable.starts}
    for i in reversed(order[1:]):
        if points[i].tobytes() in starts and i not in at_x:
            s = _first(s, points[i], float(values[i]))
    return s


def _first(s: PortfolioState, place: Floats, value: float) -> PortfolioState:
    """With one more place to restart from, before the others."""
    places, values = np.concatenate((place[None, :], s.places)), np.append(value, s.place_values)
    return s._replace(places=places, place_values=values)


def listened(member: Estimator, state: Any, variable: Vector, points: Floats, values: Floats) -> Any:
    """The state of a member after values that it did not ask for. One that raises goes on without them."""
    usable = np.isfinite(values)  # failures are of no use to a member
    if not usable.any():
        return state
    try:
        return member.inform(state, variable, points[usable], values[usable])
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        warnings.warn(f"`{type(member).__name__}` goes on without known values: {what}", stacklevel=2)
        return state
