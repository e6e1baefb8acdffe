"""Where a quadratic is least in a ball and a box."""

from __future__ import annotations

import math

import numpy as np

from blackbox_zo._typing import Bools, Floats
from blackbox_zo.estimators._quadratic_model import ball_step

__all__ = ["box_step", "gain"]


def gain(g: Floats, h: Floats, p: Floats) -> float:
    """By how much the quadratic `g'p + p'hp/2` falls from 0 to p."""
    return -float(p @ (g + 0.5 * (h @ p)))


def box_step(g: Floats, h: Floats, limit: float, axes: Floats, low: Floats, high: Floats) -> Floats:
    """A step p, not longer than `limit`, with `axes p` in a box, where `g'p + p'hp/2` is small, shape (d,).

    Inside the box it is the least point of the ball. Else it goes on from 0, by an active-set method (Nocedal & Wright
    2006, algorithm 16.3) whose steps lead to the least point of the ball on the bounds that are held.

    Args:
        g: Gradient, shape (d,).
        h: Hessian, shape (d, d).
        limit: Radius of the ball, positive.
        axes: From p to coordinates with bounds, shape (d, d).
        low: The lower bounds, not positive, shape (d,).
        high: The upper bounds, not negative, shape (d,).
    """
    d = g.size
    p = ball_step(g, h, limit)
    x = axes @ p
    if not ((x < low) | (x > high)).any():
        return p
    p, slope = np.zeros(d), np.linalg.solve(axes.T, g)
    side = np.where((low >= 0) & (slope > 0), -1, np.where((high <= 0) & (slope < 0), 1, 0))  # which bound is held
    for _ in range(4 * d):
        held = side != 0
        q, r = np.linalg.qr(axes[held].T, mode="complete")
        k = r.shape[1]
        null, r = q[:, k:], r[:k]
        base = q[:, :k] @ np.linalg.solve(r.T, np.where(side > 0, high, low)[held])
        left = math.sqrt(max(limit * limit - float(base @ base), 0.0))
        inner = null.T @ (g + h @ base)
        target = base + null @ ball_step(inner, null.T @ h @ null, left) if k < d and left > 0 else base
        share, first = _room(axes @ p, axes @ (target - p), held, low, high)
        p = p + share * (target - p)
        if first >= 0:
            side[first] = 1 if float(axes[first] @ (target - p)) > 0 else -1
            continue
        force = g + h @ p
        along = null.T @ p
        square = float(along @ along)
        if square > 0:
            force -= (float(along @ (null.T @ force)) / square) * p  # what holds p in the ball
        pull = np.zeros(d)
        pull[held] = np.linalg.solve(r, q[:, :k].T @ force) * side[held]
        if not pull.max(initial=0.0) > 1e-12 * float(np.abs(g).max()):
            break
        side[int(pull.argmax())] = 0  # this bound is better left
    return p


def _room(x: Floats, dx: Floats, held: Bools, low: Floats, high: Floats) -> tuple[float, int]:
    """What share of dx stays inside the bounds that are not held, at most 1, and which is met first, else -1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(dx > 0, (high - x) / dx, np.where(dx < 0, (low - x) / dx, np.inf))
    room[held] = np.inf
    first = int(room.argmin())
    return (max(float(room[first]), 0.0), first) if room[first] < 1.0 else (1.0, -1)
