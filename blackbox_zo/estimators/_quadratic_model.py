"""A linear or quadratic function, and where it is least.

Products are written as `dot`, which on arrays of some ten numbers takes half as long as `@`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from blackbox_zo._checks import all_finite, any_true
from blackbox_zo._typing import Floats

__all__ = ["UNKNOWN", "Quadratic", "ball_step", "coefficients"]


class Quadratic(NamedTuple):
    """`c + g'z + z'Hz/2` in coordinates `z = (x - centre) W`, but for the constant c, which ranks nothing.

    Attributes:
        centre: Shape (d,); (0,) where nothing is known yet.
        whiten: W, shape (d, d).
        slope: g, shape (d,).
        hessian: H, shape (d, d); (d,) if it is diagonal; (0,) if the model is linear.
    """

    centre: Floats
    whiten: Floats
    slope: Floats
    hessian: Floats

    def values(self, points: Floats) -> Floats:
        """The model at points in the coordinates of the variable, shape (n, d); shape (n,)."""
        z = (points - self.centre).dot(self.whiten)
        if not self.hessian.size:
            out: Floats = z.dot(self.slope)
            return out
        half: Floats = z.dot(self.hessian) if self.hessian.ndim == 2 else z * self.hessian
        half *= 0.5
        half += self.slope
        half *= z
        out = np.add.reduce(half, axis=1)
        return out

    def least(self, centre: Floats, basis: Floats, limit: float) -> Floats | None:
        """The q with `|q| <= limit` where the model is least at `centre + q basis`, shape (d,); None where it is flat.

        Args:
            centre: In the coordinates of the variable, shape (d,).
            basis: A displacement in each row, shape (d, d).
            limit: Radius of the trust region.
        """
        z, m = (centre - self.centre).dot(self.whiten), basis.dot(self.whiten)
        slope, hessian = self.slope, self.hessian
        if hessian.ndim == 2:
            slope, hessian = slope + hessian.dot(z), m.dot(hessian).dot(m.T)
        elif hessian.size:
            slope, hessian = slope + hessian * z, (m * hessian).dot(m.T)
        else:
            hessian = np.zeros_like(m)
        g = m.dot(slope)
        if not any_true(g) or not all_finite(hessian):
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            q = ball_step(g, hessian, limit)
        return q if all_finite(q) else None


UNKNOWN = Quadratic(np.empty(0), np.empty((0, 0)), np.empty(0), np.empty(0))
"""Before the first fit."""


def coefficients(d: int) -> int:
    """Number of coefficients of a full quadratic in d variables."""
    return 1 + d + d * (d + 1) // 2


def ball_step(g: Floats, h: Floats, limit: float) -> Floats:
    """The least point of the ball: Newton's, if that is inside, else by the eigenvalues of h."""
    from scipy.linalg import lapack  # importing the package stays light

    if not any_true(g):
        return np.zeros(g.size)
    _, p, failed = lapack.dposv(h, g)
    if not failed and float(p.dot(p)) <= limit * limit:
        newton: Floats = -p
        return newton
    curvature, axes, failed = lapack.dsyevd(h)
    if not failed:
        q = _in_ball(axes.T.dot(g), curvature, limit)
        if q is not None:
            step: Floats = axes.dot(q)
            return step
    return g * (-limit / math.sqrt(float(g.dot(g))))


def _in_ball(g: Floats, curvature: Floats, limit: float) -> Floats | None:
    """Minimise `g'q + q'diag(curvature)q/2` over `|q| <= limit`, curvature in ascending order.

    Newton's method for the multiplier, on `1/limit - 1/|q|` (Moré & Sorensen 1983), kept between bounds. It comes from
    below, where q is too long, so a q that is longer by rounding alone is cut.
    """
    squares, curvatures = (g * g).tolist(), curvature.tolist()  # a few numbers: numpy would take three times as long
    norm = math.sqrt(sum(squares))
    if not math.isfinite(norm) or norm == 0.0:
        return None
    scale = max(abs(curvatures[0]), abs(curvatures[-1]))
    low = max(0.0, -curvatures[0]) + 1e-12 * max(scale, 1e-300)
    high = low + norm / limit + scale
    least = multiplier = low
    for _ in range(50):
        square = slope = 0.0
        for part, h in zip(squares, curvatures, strict=True):
            part = part / (h + multiplier) / (h + multiplier)
            square += part
            slope += part / (h + multiplier)
        length = math.sqrt(square)
        if abs(length - limit) <= 1e-6 * limit or (length < limit and multiplier == least):
            out: Floats = g * (-min(1.0, limit / length) / (curvature + multiplier))
            return out
        if length < limit:
            high = multiplier
        else:
            low = multiplier
        multiplier += (length / limit - 1.0) * (square / slope)
        if not low < multiplier < high:
            multiplier = 0.5 * (low + high)
    out = -g / (curvature + high)
    return out
