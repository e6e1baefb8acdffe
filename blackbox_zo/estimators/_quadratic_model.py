"""A linear or quadratic function, and where it is least."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from blackbox_zo._checks import all_finite
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
        z = (points - self.centre) @ self.whiten
        out: Floats = z @ self.slope
        if self.hessian.ndim == 2:
            out += 0.5 * np.einsum("ij,ij->i", z @ self.hessian, z)
        elif self.hessian.size:
            out += 0.5 * ((z * z) @ self.hessian)
        return out

    def least(self, centre: Floats, basis: Floats, limit: float) -> Floats | None:
        """The q with `|q| <= limit` where the model is least at `centre + q basis`, shape (d,); None where it is flat.

        Args:
            centre: In the coordinates of the variable, shape (d,).
            basis: A displacement in each row, shape (d, d).
            limit: Radius of the trust region.
        """
        z, m = (centre - self.centre) @ self.whiten, basis @ self.whiten
        slope, hessian = self.slope, self.hessian
        if hessian.ndim == 2:
            slope, hessian = slope + hessian @ z, m @ hessian @ m.T
        elif hessian.size:
            slope, hessian = slope + hessian * z, (m * hessian) @ m.T
        else:
            hessian = np.zeros_like(m)
        g = m @ slope
        if not g.any() or not all_finite(hessian):
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

    if not g.any():
        return np.zeros(g.size)
    _, p, failed = lapack.dposv(h, g)
    if not failed and float(p @ p) <= limit * limit:
        newton: Floats = -p
        return newton
    curvature, axes, failed = lapack.dsyevd(h)
    if not failed:
        q = _in_ball(axes.T @ g, curvature, limit)
        if q is not None:
            step: Floats = axes @ q
            return step
    return g * (-limit / math.sqrt(float(g @ g)))


def _in_ball(g: Floats, curvature: Floats, limit: float) -> Floats | None:
    """Minimise `g'q + q'diag(curvature)q/2` over `|q| <= limit`, curvature in ascending order.

    Newton's method for the multiplier, on `1/limit - 1/|q|` (Moré & Sorensen 1983), kept between bounds.
    """
    norm = math.sqrt(float(g @ g))
    if not math.isfinite(norm) or norm == 0.0:
        return None
    scale = max(abs(float(curvature[0])), abs(float(curvature[-1])))
    low = max(0.0, -float(curvature[0])) + 1e-12 * max(scale, 1e-300)
    high = low + norm / limit + scale
    multiplier = low
    for _ in range(50):
        shifted = curvature + multiplier
        q = -g / shifted
        length = math.sqrt(float(q @ q))
        if length <= limit:
            if multiplier == low or length >= limit * (1 - 1e-6):
                return q
            high = multiplier
        else:
            low = multiplier
        slope = float(q @ (q / shifted)) / (length * length)
        multiplier += (length / limit - 1.0) / slope
        if not low < multiplier < high:
            multiplier = 0.5 * (low + high)
    out: Floats = -g / (curvature + high)
    return out
