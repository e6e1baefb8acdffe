"""The BFGS matrix: its update, and the step that it gives within bounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from blackbox_zo._checks import all_finite, any_true
from blackbox_zo._typing import Bools, Floats

__all__ = ["Whole", "damped", "newton_step", "stretched", "updated", "within"]


class Whole(NamedTuple):
    """B as an array; `Pairs` is the same of the last moves alone.

    Attributes:
        b: B, symmetric positive definite, shape (d, d); (0, 0) while no curvature is known.
    """

    b: Floats

    @classmethod
    def of(cls, diagonal: Floats) -> Whole:
        """From the diagonal, positive, shape (d,)."""
        return cls(np.diag(diagonal))

    @property
    def known(self) -> bool:
        """Whether a curvature is known."""
        return self.b.size > 0

    def updated(self, s: Floats, y: Floats) -> Whole:
        """See `updated`."""
        return Whole(updated(self.b, s, y))

    def step(self, g: Floats, low: Bools, high: Bools) -> Floats:
        """See `newton_step`."""
        return newton_step(self.b, g, low, high)


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
    bs = b @ s
    if (found := damped(s, y, bs)) is None:
        return b
    scale, y, sy, sbs = found
    if scale < 1.0:
        b, bs = b * scale, bs * scale
    out: Floats = b + (y / sy)[:, None] * y - (bs / sbs)[:, None] * bs  # `np.outer` takes four times as long
    return out


def damped(s: Floats, y: Floats, bs: Floats) -> tuple[float, Floats, float, float] | None:
    """By what B is to be scaled, then y damped, s'y, and s'Bs of the scaled B; None where they tell nothing.

    Args:
        s: Shape (d,).
        y: Shape (d,).
        bs: Bs, shape (d,).
    """
    sy, sbs, scale = float(s @ y), float(s @ bs), 1.0
    if not (sbs > 0 and math.isfinite(sy) and math.isfinite(sbs)):
        return None
    if 0 < sy < sbs:
        scale = max(sy / sbs, 1e-6)
        bs, sbs = bs * scale, sbs * scale
    if sy < 0.2 * sbs:
        theta = 0.8 * sbs / (sbs - sy)
        y = theta * y + (1 - theta) * bs
        sy = float(s @ y)
    return scale, y, sy, sbs


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
    return within(lambda free: _solved(b[np.ix_(free, free)], g[free]), g, low, high)


def within(solved: Callable[[Bools], Floats], g: Floats, low: Bools, high: Bools) -> Floats:
    """The step over the coordinates that are not held at a bound, shape (d,); see `newton_step`.

    Args:
        solved: From those that are free, shape (d,), to the step over these.
        g: The gradient, shape (d,).
        low: Which coordinates are at their lower bound, shape (d,).
        high: And at the upper one.
    """
    free = ~((low & (g >= 0)) | (high & (g <= 0)))
    p = np.zeros(g.size)
    while free.any():
        p[:] = 0.0
        p[free] = solved(free)
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
