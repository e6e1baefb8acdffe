"""The BFGS matrix: its update, and the step that it gives within bounds."""

from __future__ import annotations

import math

import numpy as np

from blackbox_zo._checks import all_finite, any_true
from blackbox_zo._typing import Bools, Floats

__all__ = ["newton_step", "stretched", "updated"]


def updated(b: Floats, s: Floats, y: Floats) -> Floats:
    """B after a step s along which the gradient changed by y: self-scaled and damped BFGS.

    B is multiplied by `min(1, s'y / s'Bs)` first (Oren & Luenberger 1974; Al-Baali 1998), so it gets smaller in all
    directions that have not been tried where it was too large in one that has; y is damped (Powell 1978; Nocedal &
    Wright 2006, eq. (18.14)-(18.16)), so B stays positive definite.

    Args:
        b: B, symmetric positive definite, shape (d, d).
        s: Shape (d,).
        y: Shape (d,).
    """
    sy, bs = float(s @ y), b @ s
    sbs = float(s @ bs)
    if not (sbs > 0 and math.isfinite(sy) and math.isfinite(sbs)):
        return b
    if 0 < sy < sbs:
        scale = max(sy / sbs, 1e-6)
        b, bs, sbs = b * scale, bs * scale, sbs * scale
    if sy < 0.2 * sbs:
        theta = 0.8 * sbs / (sbs - sy)
        y = theta * y + (1 - theta) * bs
        sy = float(s @ y)
    out: Floats = b + (y / sy)[:, None] * y - (bs / sbs)[:, None] * bs  # `np.outer` takes four times as long
    return out


def stretched(b: Floats, p: Floats, curvature: float) -> Floats:
    """B scaled along p, so that `p'Bp` is the curvature seen there, or 16 times as large as before.

    Args:
        b: B, symmetric positive definite, shape (d, d).
        p: Shape (d,).
        curvature: Positive, `p'Hp`.
    """
    bp = b @ p
    pbp = float(p @ bp)
    with np.errstate(all="ignore"):
        out: Floats = b + np.outer(bp, bp) * ((min(curvature / pbp, 16.0) - 1.0) / pbp)
    return out if np.isfinite(out).all() else b


def newton_step(b: Floats, g: Floats, low: Bools, high: Bools) -> Floats:
    """`-B^-1 g` over the coordinates that are not held at a bound, shape (d,).

    A coordinate is held if it is at a bound that the step, or steepest descent, would cross.

    Args:
        b: B, shape (d, d).
        g: The gradient, shape (d,).
        low: Which coordinates are at their lower bound, shape (d,).
        high: And at the upper one.
    """
    if not (any_true(low) or any_true(high)):
        return _solved(b, g)
    free = ~((low & (g >= 0)) | (high & (g <= 0)))
    p = np.zeros(g.size)
    while free.any():
        p[:] = 0.0
        p[free] = _solved(b[np.ix_(free, free)], g[free])
        across = free & ((low & (p < 0)) | (high & (p > 0)))
        if not across.any():
            return p
        free &= ~across
    return np.zeros(g.size)


def _solved(b: Floats, g: Floats) -> Floats:
    mean = float(b.trace()) / len(g) or 1.0
    try:
        p: Floats = np.asarray(np.linalg.solve(b, -g), dtype=np.float64)
    except np.linalg.LinAlgError:
        return -g / mean
    return p if all_finite(p) else -g / mean
