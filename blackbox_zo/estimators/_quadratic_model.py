"""A quadratic fitted to past answers, and where in a trust region it is least."""

from __future__ import annotations

import math

import numpy as np

from blackbox_zo._typing import Floats

__all__ = ["coefficients", "least_point"]


def coefficients(d: int) -> int:
    """Number of coefficients of a full quadratic in d variables."""
    return 1 + d + d * (d + 1) // 2


def least_point(z: Floats, values: Floats, limit: float) -> Floats | None:
    """Fit `c + g'z + z'Hz/2` by weighted least squares and minimise it over the ball `|z| <= limit`.

    Better points weigh more, by rank, so a steep far side or an outlier does not bend the fit where it matters.

    Args:
        z: Points around the origin, in coordinates where their spread is about 1, shape (n, d).
        values: Their finite values, shape (n,).
        limit: Radius of the trust region.

    Returns:
        The minimiser, shape (d,), or None while n does not exceed the number of coefficients, or the fit breaks down.
    """
    n, d = z.shape
    count = coefficients(d)
    if n <= count:
        return None
    rows, columns = np.triu_indices(d)
    features = np.empty((n, count))
    features[:, 0] = 1.0
    features[:, 1 : 1 + d] = z
    features[:, 1 + d :] = z[:, rows] * z[:, columns]
    rank = np.empty(n)
    rank[np.argsort(values, kind="stable")] = np.arange(n)
    weights = 1.0 / (1.0 + 20.0 * rank / n)
    y = (values - values.min()) / (float(values.std()) or 1.0)
    weighted = features * weights[:, None]
    normal = features.T @ weighted
    normal[np.diag_indices(count)] += 1e-12 * np.trace(normal) / count
    try:
        c = np.linalg.solve(normal, y @ weighted)
        hessian = np.zeros((d, d))
        hessian[rows, columns] = c[1 + d :]
        curvature, axes = np.linalg.eigh(hessian + hessian.T)
    except np.linalg.LinAlgError:
        return None
    step = _trust_region(axes.T @ c[1 : 1 + d], curvature, limit)
    return None if step is None else axes @ step


def _trust_region(g: Floats, curvature: Floats, limit: float) -> Floats | None:
    """Minimise `g'q + q'diag(curvature)q/2` over `|q| <= limit` (Moré & Sorensen 1983): bisect on the multiplier."""
    norm = math.sqrt(float(g @ g))
    if not math.isfinite(norm) or norm == 0.0:
        return None
    scale = float(np.abs(curvature).max())
    low = max(0.0, -float(curvature[0])) + 1e-12 * max(scale, 1e-300)
    q = -g / (curvature + low)
    if curvature[0] > 0 and float(q @ q) <= limit * limit:
        return q
    high = low + norm / limit + scale
    for _ in range(50):
        middle = 0.5 * (low + high)
        q = -g / (curvature + middle)
        low, high = (middle, high) if float(q @ q) > limit * limit else (low, middle)
    out: Floats = -g / (curvature + high)
    return out
