"""A linear or quadratic function fitted to past answers."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from blackbox_zo._typing import Floats, Ints

__all__ = ["UNKNOWN", "Quadratic", "coefficients", "fitted", "in_ball"]

BETTER = 0.75
"""The share of the points, the best ones, that a fit uses."""

WEIGHT = 20.0
"""By what the best point's residual is multiplied, falling linearly to 1 for the worst."""

SURPLUS = 1.1
"""A model needs so many points for each coefficient."""


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
        q = _newton(m @ slope, hessian, limit)
        if q is not None:
            return q
        try:
            curvature, axes = np.linalg.eigh(hessian)
        except np.linalg.LinAlgError:
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            q = in_ball(axes.T @ (m @ slope), curvature, limit)
        return axes @ q if q is not None and np.isfinite(q).all() else None


UNKNOWN = Quadratic(np.empty(0), np.empty((0, 0)), np.empty(0), np.empty(0))
"""Before the first fit."""


def coefficients(d: int) -> int:
    """Number of coefficients of a full quadratic in d variables."""
    return 1 + d + d * (d + 1) // 2


def fitted(points: Floats, values: Floats, centre: Floats, whiten: Floats) -> Quadratic:
    """The largest model that there are points for, by weighted least squares: linear, diagonal or full (Hansen 2019).

    The best three quarters are used, and better ones weigh more, by rank: a steep far side or an outlier does not bend
    the fit where it matters. The normal equations are solved by Cholesky decomposition.

    Args:
        points: In the coordinates of the variable, shape (n, d).
        values: Their finite values, shape (n,).
        centre: See `Quadratic`.
        whiten: W, by which the points' spread becomes about 1, shape (d, d).

    Returns:
        `UNKNOWN` for fewer than 3 points, or where the fit breaks down.
    """
    from scipy.linalg import blas, lapack  # importing the package stays light

    n, d = math.ceil(BETTER * len(values)), len(centre)
    if n < 3:
        return UNKNOWN
    best = np.argsort(values, kind="stable")[:n]
    z, weights = ((points[best] - centre) @ whiten).T, _weights(n)
    full, diagonal = n >= SURPLUS * coefficients(d), n >= SURPLUS * (1 + 2 * d)
    count = coefficients(d) if full else 1 + 2 * d if diagonal else 1 + d
    features = np.empty((count, n))
    features[0] = weights
    np.multiply(z, weights, out=features[1 : 1 + d])
    if full:
        end = 1 + d
        for i in range(d):
            start, end = end, end + d - i
            np.multiply(features[1 + i], z[i:], out=features[start:end])
    elif diagonal:
        np.multiply(features[1 : 1 + d], z, out=features[1 + d :])
    y: Floats = (values[best] - values[best[0]]) * weights
    y /= math.sqrt(float(y @ y) / n) or 1.0
    normal = blas.dsyrk(1.0, features.T, trans=1, lower=1)
    trace = normal.reshape(-1, order="A")[:: count + 1]
    trace += 1e-13 * float(trace.sum()) / count
    _, c, failed = lapack.dposv(normal, features @ y, lower=1, overwrite_a=1)
    if failed or not np.isfinite(c).all():
        return UNKNOWN
    hessian: Floats = np.empty(0)
    if full:
        half = np.zeros((d, d))
        half[_triangle(d)] = c[1 + d :]
        hessian = half + half.T
    elif diagonal:
        hessian = np.asarray(2 * c[1 + d :], dtype=np.float64)
    return Quadratic(centre, whiten, c[1 : 1 + d], hessian)


@lru_cache(maxsize=8)
def _weights(n: int) -> Floats:
    """The weight of each rank, shape (n,)."""
    weights: Floats = np.linspace(WEIGHT, 1.0, n, dtype=np.float64)
    weights.flags.writeable = False
    return weights


@lru_cache(maxsize=8)
def _triangle(d: int) -> tuple[Ints, Ints]:
    return np.triu_indices(d)


def _newton(g: Floats, hessian: Floats, limit: float) -> Floats | None:
    """Newton's step, if the Hessian is positive definite and the step within the ball: much sooner known than axes."""
    from scipy.linalg import lapack

    _, q, failed = lapack.dposv(hessian, -g)
    square = float(q @ q)
    return q if not failed and 0.0 < square <= limit * limit else None


def in_ball(g: Floats, curvature: Floats, limit: float) -> Floats | None:
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
