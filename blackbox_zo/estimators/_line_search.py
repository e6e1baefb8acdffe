"""A step size by the last move: some queries of a step lie along it, and tell if it was too long or too short."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from blackbox_zo._typing import Floats
from blackbox_zo.feedback import Ranking

__all__ = ["LineAnswer", "along", "line_answer", "lines_until", "on_the_line"]

HERE = np.array([1.0])
"""Before the first move, x alone."""

THREE = np.array([1.0, 0.0, 2.0])
"""Where the points of a line lie: 1 is x, 0 is where the last move began."""

MANY = np.array([1.0, 0.0, 2.0, 0.25, 4.0, 1 / 16, 0.5, 1 / 64, 1 / 8, 1 / 256, 8.0, 1 / 32])
"""After the first move, whose length is a guess; as many as half of the queries."""

SHORT = 0.25
"""x is too far from places below this for the answers around x to hold there."""

CHANGE = 1.2
"""By how much sigma changes where x is better than both its neighbours."""


class LineAnswer(NamedTuple):
    """What the answers on a line say.

    Attributes:
        best: Where on the line to go on from, 1 for x.
        change: Factor for sigma.
        sideways: Whether the rest of the answer, from around x, still tells where to go from there.
    """

    best: float
    change: float
    sideways: bool


def along(n: int, generation: int) -> Floats:
    """Where on the line to ask in a step of n queries; x itself comes first.

    Args:
        n: Number of queries.
        generation: Number of moves so far.
    """
    if generation == 0:
        return HERE
    return MANY[: max(len(THREE), n // 2)] if generation == 1 else THREE[:n]


def lines_until(d: int) -> int:
    """After so many queries sigma should follow a path. More lines would make it small before C is learnt."""
    return 10 * d if d > 100 else 5 * d


def on_the_line(places: Floats, line: Floats, radius: float) -> Floats:
    """The displacements from x of places on a line of this length, in units of sigma, shape (p, d)."""
    return (places - 1.0)[:, None] * (line / radius)


def line_answer(places: Floats, ranking: Ranking) -> LineAnswer | None:
    """Where the line is best. Only the order counts, so any ranking will do.

    If x is the best of three, sigma follows the better one of the others: it was too small where the point beyond x is
    better than the start of the move. All changes are as likely as their opposites where the answers are noise.

    Args:
        places: From `along`, for the first queries of the ranking, shape (p,).
        ranking: The answer.

    Returns:
        None where nothing is known of the line.
    """
    net = ranking.net_losses()[: len(places)]
    if len(net) < 2 or net.min() == net.max():
        return None
    best = float(places[np.argmin(net)])
    if best == 0.0:  # worse all the way, as far as is known: half as far as the nearest point
        best = 0.5 * float(places[places > 0].min())
    elif best == 1.0 and len(net) == len(places) == len(THREE):
        return LineAnswer(1.0, float(CHANGE ** np.sign(net[1] - net[2])), sideways=True)
    return LineAnswer(best, best, sideways=best >= SHORT)
