"""Differences along the axes of a Hessian, so long that noise does not drown them."""

from __future__ import annotations

import numpy as np

from blackbox_zo._typing import Bools, Floats
from blackbox_zo.variables import Vector

__all__ = ["bends", "displacements", "near_bounds", "parted", "rescaled", "slopes"]


LIKELY, CERTAIN = 3.0, 4.5
"""Standard deviations from which a difference is taken for no noise, on one axis, and on any of many."""


def near_bounds(variable: Vector, b: Floats, bend: float, limit: float) -> Bools:
    """Coordinates with no room for a difference to both sides, shape (d,)."""
    low, high = variable.box
    room = np.minimum(variable.value - low, high - variable.value)
    near: Bools = room < 0.5 * _lengths(np.diag(b), bend, limit)
    return near


def parted(b: Floats, near: Bools, bend: float, limit: float) -> Floats:
    """B without what couples the coordinates near bounds to others, and no flatter than differences can show."""
    b = np.where(near[:, None] | near, np.diag(np.diag(b)), b)
    curvatures, axes = np.linalg.eigh(b)
    least = max(2 * bend / limit**2, 1e-14 * float(curvatures[-1]))
    return b if curvatures[0] >= least else (axes * np.maximum(curvatures, least)) @ axes.T


def displacements(variable: Vector, b: Floats, near: Bools, bend: float, limit: float, turn: Floats) -> Floats:
    """Where to ask, from x, two points along each axis, shape (2 d, d): the first of all axes, then the second.

    Axes are the eigenvectors of B, turned where B is the identity, asked up and down. Coordinates near bounds are axes
    of their own, asked twice inwards. Each point is so far that curvature alone changes f by `bend`: so, however
    ill-conditioned f is, noise is the same share of each difference, and costs a Newton step the same along each axis.

    Args:
        variable: Where x stands.
        b: The Hessian, in which no coordinate near a bound is coupled to others, positive definite, shape (d, d).
        near: From `near_bounds`.
        bend: In units of f.
        limit: The longest displacement.
        turn: Its columns, made orthonormal, are combinations of the eigenvectors: the identity for these alone, random
            numbers for random axes, conjugate with respect to B, shape (d, d).
    """
    d, x, (low, high) = variable.size, variable.value, variable.box
    free = np.flatnonzero(~near)
    curvatures, axes = np.linalg.eigh(b[np.ix_(free, free)])
    rows = np.zeros((d, d))
    turn = np.linalg.qr(turn[: free.size, : free.size])[0]
    rows[: free.size, free] = ((axes * _lengths(curvatures, bend, limit)) @ turn).T
    i, at = np.flatnonzero(near), np.arange(free.size, d)
    with np.errstate(invalid="ignore"):
        inwards = np.where(high[i] - x[i] >= x[i] - low[i], 1.0, -1.0)
        length = np.minimum(2 * _lengths(np.diag(b)[i], bend, limit), np.maximum(high[i] - x[i], x[i] - low[i]))
    rows[at, i] = inwards * length
    second = np.where(np.arange(d) < free.size, -1.0, 0.5)[:, None] * rows
    return np.concatenate((variable.project(x + rows) - x, variable.project(x + second) - x))


def _lengths(curvatures: Floats, bend: float, limit: float) -> Floats:
    least = max(1e-14 * float(np.abs(curvatures).max(initial=0.0)), 1e-300)
    out: Floats = np.minimum(np.sqrt(2 * bend / np.maximum(curvatures, least)), limit)
    return out


def slopes(rows: Floats, rises: Floats, b: Floats) -> Floats:
    """The gradient at x by least squares, shape (d,).

    Args:
        rows: From `displacements`, shape (2 d, d).
        rises: What f gained there, shape (2 d,); NaN where the query failed.
        b: The Hessian, which tells what curvature has to do with a rise, shape (d, d).
    """
    d = rows.shape[1]
    flat = rises - 0.5 * np.einsum("ij,ij->i", rows @ b, rows)
    one_side = (rows[:d] * rows[d:]).sum(axis=1) > 0
    flat[:d] = np.where(one_side, rises[:d] - 0.5 * bends(rows, rises)[0], flat[:d])  # B might be far too large
    flat[d:] = np.where(one_side, np.nan, flat[d:])
    known = np.isfinite(flat)
    rows, flat = np.where(known[:, None], rows, 0.0), np.where(known, flat, 0.0)
    sign = np.where(known[:d] & known[d:], -1.0, 1.0)  # of two sides the difference counts, as f(x) is not in it
    rows, flat = rows[:d] + sign[:, None] * rows[d:], flat[:d] + sign * flat[d:]
    length = np.linalg.norm(rows, axis=1)
    length[length == 0.0] = 1.0
    rows, flat = rows / length[:, None], flat / length
    try:
        out = np.linalg.solve(rows, flat)
    except np.linalg.LinAlgError:  # an axis without an answer
        out = np.linalg.lstsq(rows, flat, rcond=None)[0]
    return out


def bends(rows: Floats, rises: Floats) -> tuple[Floats, Floats]:
    """`u'Hu` along each axis as x and the two points show it, u the first of them, and its error, each of shape (d,).

    Args:
        rows: From `displacements`, shape (2 d, d).
        rises: What f gained there, shape (2 d,).

    Returns:
        NaN where a query failed, or a bound has bent the axis. The error is in units of that of a value.
    """
    d = rows.shape[1]
    u, second = rows[:d], rows[d:]
    length = (u * u).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        r = (u * second).sum(axis=1) / length  # where the second point is on the line from x to the first
        straight = np.abs(second - r[:, None] * u).max(axis=1) <= 1e-9 * np.sqrt(length)
        seen = 2 * (r * rises[:d] - rises[d:]) / (r - r * r)
        error = 2 * np.sqrt(r * r + 1 + (1 - r) ** 2) / np.abs(r - r * r)
    return np.where(straight, seen, np.nan), error


def rescaled(b: Floats, rows: Floats, rises: Floats, error: float, share: float) -> tuple[Floats, bool]:
    """B with the curvatures along conjugate axes moved towards those seen, and whether noise explains all differences.

    They are halved or doubled at most, and moved by `share` where noise explains the difference. Along random axes this
    is the estimate of Leventhal & Lewis (2011, Randomized Hessian estimation), in the metric of B.
    """
    u = rows[: len(b)]
    seen, noise = bends(rows, rises)
    expected, length = np.einsum("ij,ij->i", u @ b, u), (u * u).sum(axis=1)
    known = np.isfinite(seen) & (length > 0)
    gap = np.where(known, np.abs(seen - expected) / np.maximum(noise * error, 1e-300), 0.0)
    trust = share * expected**2 / (expected**2 + (noise * error) ** 2)
    seen = np.clip(np.where(known, seen, expected), 0.5 * expected, 2.0 * expected)
    change = np.where(gap > LIKELY, 1.0, trust) * (seen - expected) / np.where(known, expected, 1.0) ** 2
    bu = u @ b
    out: Floats = b + (bu.T * change) @ bu
    return out, not (gap > CERTAIN).any()
