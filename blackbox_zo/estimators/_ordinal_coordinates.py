"""The state of an `OrdinalCoordinateSearch`, and what it asks next."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from blackbox_zo._typing import Floats, Ints
from blackbox_zo.estimators._ordinal_line import part, sections

__all__ = [
    "CHECK", "DUEL", "LOOK", "ROUND", "SPAN", "ZOOM",
    "OrdinalCoordinates", "checked", "divided", "free", "idled", "line", "worse",
]  # fmt: skip

LOOKED_AT = 8
"""Places along one coordinate, to see whether it has several minima."""

WHOLE, PART = 16, 40
"""Places along a coordinate of several minima: over its span, then over the part where the better half of them lie."""

CONVERGED = 1e-9
"""The shortest interval, as a share of the span, that is divided."""

IDLE = 20
"""So many comparisons without a gain, over two rounds or more, are no chance: x is best along all coordinates."""

ROUND, CHECK, LOOK, SPAN, ZOOM, DUEL = range(6)


class OrdinalCoordinates(NamedTuple):
    """What is known along each coordinate.

    Attributes:
        phase: What the next queries are for.
        low: The nearest place below x that is worse, or x or the end of the span, shape (d,).
        high: The same above x.
        first: The lower end of the span, shape (d,).
        last: The upper end.
        away: Where each coordinate is known to be worse, shape (d,); (0,) before the first check.
        single: The best point of the last round, if x has moved along several coordinates, shape (d,), else (0,).
        axis: The coordinate that is searched alone.
        places: Where it was ranked, shape (m,).
        order: Losses less wins of these, shape (m,).
        rivals: Its best minima, each between two places that are worse, shape (r, 3).
        sections: How often their intervals were divided.
        rounds: Rounds along all coordinates, since the search has begun or begun anew.
        idle: How many of them in a row gained nothing.
        reason: Why it is over, an index of `REASONS`; 0 while it is not.
        turn: Number of answers used, by which late ones are known.
    """

    phase: int
    low: Floats
    high: Floats
    first: Floats
    last: Floats
    away: Floats
    single: Floats
    axis: int
    places: Floats
    order: Floats
    rivals: Floats
    sections: int
    rounds: int
    idle: int
    reason: int
    turn: int


def idled(s: OrdinalCoordinates, x: Floats) -> OrdinalCoordinates:
    """After a round without a gain: after many the search begins anew, with another coordinate to look along."""
    s = s._replace(idle=s.idle + 1)
    if (s.idle < 2 or s.idle * len(s.low) < IDLE) and len(divided(s)):
        return s
    movable = free(s)
    axis = int(movable[(np.searchsorted(movable, s.axis) + 1) % len(movable)])
    s = checked(s, s.away if s.away.size else worse(s, x))
    return s._replace(low=s.first, high=s.last, axis=axis, rounds=0, idle=0)


def checked(s: OrdinalCoordinates, away: Floats) -> OrdinalCoordinates:
    """Before a comparison of all coordinates from elsewhere."""
    return s._replace(phase=CHECK, away=away, single=s.single[:0])


def free(s: OrdinalCoordinates) -> Ints:
    """The coordinates that can move."""
    return np.flatnonzero(s.last > s.first)


def divided(s: OrdinalCoordinates) -> Ints:
    """The coordinates whose intervals can still be divided."""
    return np.flatnonzero(s.high - s.low > CONVERGED * (s.last - s.first))


def worse(s: OrdinalCoordinates, x: Floats) -> Floats:
    """A place along each coordinate that is known to be worse than x, shape (d,)."""
    out: Floats = np.where(x - s.low > s.high - x, s.low, s.high)
    return out


def line(s: OrdinalCoordinates, x: Floats) -> Floats:
    """Where the coordinate that is searched alone is asked about, shape (m,); x is among the places."""
    if s.phase == DUEL:
        return np.concatenate((s.rivals[:, 1], sections(*s.rivals.T)))
    if s.phase == LOOK:
        low, high = float(s.low[s.axis]), float(s.high[s.axis])
        steps = np.linspace(low, high, LOOKED_AT + 2)[1:-1]
    elif s.phase == SPAN:
        steps = np.linspace(s.first[s.axis], s.last[s.axis], WHOLE)
    else:
        steps = np.linspace(*part(s.places, s.order), PART)
    return np.union1d(steps, x[s.axis])
