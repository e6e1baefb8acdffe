"""A quadratic fitted to past answers, and where in a trust region it is least."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from blackbox_zo._typing import Floats, Ints

__all__ = ["coefficients", "enough", "in_ball", "least_point"]

MORE = 120
"""As many points as there are coefficients and so many more, at most twice as many, even out what is not quadratic."""


def coefficients(d: int) -> int:
    """Number of coefficients of a full quadratic in d variables."""
    return 1 + d + d * (d + 1) // 2


def enough(d: int) -> int:
    """Number of points to fit to."""
    count = coefficients(d)
    return 1 + count + min(count, MORE)


def least_point(z: Floats, values: Floats, limit: float) -> Floats | None:
    """Fit `c + g'z + z'Hz/2` by weighted least squares and minimise it over the ball `|z| <= limit`.

    Better points weigh more, by rank, so a steep far side or an outlier does not bend the fit where it matters. The
    normal equations are solved by Cholesky decomposition.

    Args:
        z: Points around the origin, in coordinates where their spread is about 1, shape (n, d).
        values: Their finite values, shape (n,).
        limit: Radius of the trust region.

    Returns:
        The minimiser, shape (d,), or None while n does not exceed the number of coefficients, or the fit breaks down.
    """
    from scipy.linalg import blas, lapack  # importing the package stays light

    n, d = z.shape
    count = coefficients(d)
    if n <= count:
        return None
    root = np.empty(n)  # roots of the weights
    root[np.argsort(values, kind="stable")] = _roots(n)
    columns = np.ascontiguousarray(z.T)
    features = np.empty((count, n))
    features[0] = root
    np.multiply(columns, root, out=features[1 : 1 + d])
    columns *= np.sqrt(root)
    end = 1 + d
    for i in range(d):
        start, end = end, end + d - i
        np.multiply(columns[i], columns[i:], out=features[start:end])
    y = values - values.min()
    y *= root / (math.sqrt(float(y @ y) / n) or 1.0)
    normal = blas.dsyrk(1.0, features.T, trans=1, lower=1)
    normal.reshape(-1, order="A")[:: count + 1] += 1e-12 * float(normal.trace()) / count
    _, c, failed = lapack.dposv(normal, features @ y, lower=1, overwrite_a=1)
    if failed or not np.isfinite(c).all():
        return None
    hessian = np.zeros((d, d))
    hessian[_triangle(d)] = c[1 + d :]
    try:
        curvature, axes = np.linalg.eigh(hessian + hessian.T)
    except np.linalg.LinAlgError:
        return None
    step = in_ball(axes.T @ c[1 : 1 + d], curvature, limit)
    return None if step is None else axes @ step


@lru_cache(maxsize=8)
def _roots(n: int) -> Floats:
    """The root of the weight of each rank, shape (n,)."""
    roots: Floats = 1.0 / np.sqrt(1.0 + 20.0 * np.arange(n) / n)
    roots.flags.writeable = False
    return roots


@lru_cache(maxsize=8)
def _triangle(d: int) -> tuple[Ints, Ints]:
    return np.triu_indices(d)


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
