"""Places on a line, and what their order tells of the minima between them."""

from __future__ import annotations

import numpy as np

from blackbox_zo._typing import Bools, Counts, Floats, Ints

__all__ = ["brackets", "halved", "minima", "narrowed", "part", "sections"]

GOLDEN = 0.5 * (3.0 - 5.0**0.5)


def sections(low: Floats, x: Floats, high: Floats) -> Floats:
    """The golden section of the longer part of each interval, low ≤ x ≤ high (Kiefer 1953)."""
    out: Floats = np.where(high - x >= x - low, x + GOLDEN * (high - x), x - GOLDEN * (x - low))
    return out


def narrowed(
    low: Floats, x: Floats, high: Floats, place: Floats, better: Bools, worse: Bools
) -> tuple[Floats, Floats, Floats]:
    """Intervals that still hold the least point of a function of one minimum, and the best place in each.

    Args:
        low: A place that is worse than x, or the end of the line, shape (n,).
        x: The best place so far.
        high: As `low`, above.
        place: A new place.
        better: Where it is better than x.
        worse: Where it is worse; of others nothing is known.
    """
    above = place > x
    new_low = np.where(better & above, x, np.where(worse & ~above, place, low))
    new_high = np.where(better & ~above, x, np.where(worse & above, place, high))
    then = np.where(better, place, x)
    return np.minimum(new_low, then), then, np.maximum(new_high, then)


def minima(order: Counts) -> Ints:
    """Positions of the local minima of an order along a line, shape (m,); the first of those that tie."""
    padded = np.concatenate(([np.inf], order, [np.inf]))
    return np.flatnonzero((padded[1:-1] < padded[:-2]) & (padded[1:-1] <= padded[2:]))


def brackets(places: Floats, at: Ints) -> Floats:
    """Each of some places between its neighbours, shape (len(at), 3); at an end it is its own."""
    return np.column_stack((places[np.maximum(at - 1, 0)], places[at], places[np.minimum(at + 1, len(places) - 1)]))


def part(places: Floats, order: Counts) -> tuple[float, float]:
    """The part of the line between the neighbours of the better half of all places."""
    best = np.flatnonzero(order <= np.sort(order)[(len(order) - 1) // 2])
    return float(places[max(best[0] - 1, 0)]), float(places[min(best[-1] + 1, len(places) - 1)])


def halved(rivals: Floats, order: Counts) -> Floats:
    """The better half of rivals, one at least, in their order."""
    return rivals[np.argsort(order, kind="stable")[: max(1, len(rivals) // 2)]]
