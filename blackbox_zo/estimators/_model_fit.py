"""A linear or quadratic function fitted to past answers, and updated by those that come."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from blackbox_zo._checks import all_finite
from blackbox_zo._typing import Floats, Ints
from blackbox_zo.estimators._quadratic_model import UNKNOWN, Quadratic, coefficients

__all__ = ["UNFITTED", "Fit", "fitted"]

BETTER = 0.75
"""The share of the points, the best ones, that a fit uses."""

WEIGHT = 20.0
"""By what the best point's residual is multiplied, falling linearly to 1 for the worst."""

SURPLUS = 1.1
"""A model needs so many points for each coefficient."""

UPDATES = 8
"""A full quadratic is fitted anew after one answer for so many of its coefficients; until then it is updated."""

SOONER = 32
"""The same once an answer was better than all before: around it, and in smaller units, rounding spoils less."""


class Fit(NamedTuple):
    """A fitted model, and what it takes to update it.

    Of a full quadratic with c coefficients, and the m answers that came after the fit; otherwise the arrays are empty.

    Attributes:
        model: The model.
        coefficients: Those of the fit, the constant first, in units of `scale`, shape (c,).
        factor: The Cholesky factor of its normal equations, lower triangle, shape (c, c).
        values: Those that were fitted, in ascending order, shape (n,).
        scale: Root mean square of the weighted values, above the least.
        features: The weighted equations of the later answers, shape (m, c).
        gains: What solves the normal equations for each, shape (m, c).
        errors: By what the fit misses each, weighted, shape (m,).
        age: How many answers came after the fit.
        improved: Whether one of them was better than all that were fitted.
    """

    model: Quadratic
    coefficients: Floats
    factor: Floats
    values: Floats
    scale: float
    features: Floats
    gains: Floats
    errors: Floats
    age: int
    improved: bool

    def updated(self, points: Floats, values: Floats) -> Fit | None:
        """With the newest answers: the weighted least squares fit to those before and these (Woodbury 1950).

        The weight of an answer is that of its rank among those that were fitted; theirs stay as they are, and none is
        dropped. So an answer costs O(c^2) rather than O(c^3). It is as exact as the fit, since the factor is used
        rather than an inverse.

        Args:
            points: In the coordinates of the variable, shape (k, d).
            values: Their values, infinite where the query failed, shape (k,).

        Returns:
            None where a fit is due.
        """
        from scipy.linalg import lapack  # importing the package stays light

        n, age = len(self.values), self.age + len(values)
        improved = self.improved or (n > 0 and float(values.min(initial=math.inf)) < float(self.values[0]))
        if age > len(self.coefficients) // (SOONER if improved else UPDATES):
            return None
        places = self.values.searchsorted(values)
        used = (places < n).nonzero()[0]  # the worse quarter counts for nothing
        if not used.size:
            return self._replace(age=age)
        weights = _weights(n)[places[used]]
        x = _features((points[used] - self.model.centre) @ self.model.whiten, weights)
        errors = (values[used] - self.values[0]) * (weights / self.scale) - x @ self.coefficients
        features, errors = np.concatenate((self.features, x)), np.concatenate((self.errors, errors))
        solved = np.ascontiguousarray(lapack.dpotrs(self.factor, x.T, lower=1)[0].T)  # laid out as after a resume
        gains = np.concatenate((self.gains, solved))
        among = features @ gains.T
        among.reshape(-1)[:: len(among) + 1] += 1.0
        _, shares, failed = lapack.dposv(among, errors)
        c = self.coefficients + shares @ gains
        if failed or not all_finite(c):  # rounding has the better of it
            return None
        model = _quadratic(self.model.centre, self.model.whiten, c)
        return self._replace(model=model, features=features, gains=gains, errors=errors, age=age, improved=improved)


_NONE: Floats = np.empty((0, 0))
UNFITTED = Fit(UNKNOWN, np.empty(0), _NONE, np.empty(0), 1.0, _NONE, _NONE, np.empty(0), 0, False)
"""Before the first fit."""


def fitted(points: Floats, values: Floats, centre: Floats, whiten: Floats) -> Fit:
    """The largest model that there are points for, by weighted least squares: linear, diagonal or full (Hansen 2019).

    The best three quarters are used, and better ones weigh more, by rank: a steep far side or an outlier does not bend
    the fit where it matters. The normal equations are solved by Cholesky decomposition.

    Args:
        points: In the coordinates of the variable, shape (n, d).
        values: Their finite values, shape (n,).
        centre: See `Quadratic`.
        whiten: W, by which the points' spread becomes about 1, shape (d, d).

    Returns:
        `UNFITTED` for fewer than 3 points, or where the fit breaks down.
    """
    from scipy.linalg import blas, lapack

    n, d = math.ceil(BETTER * len(values)), len(centre)
    if n < 3:
        return UNFITTED
    best = values.argsort(kind="stable")[:n]
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
    ordered = values[best]
    y: Floats = (ordered - ordered[0]) * weights
    scale = math.sqrt(float(y @ y) / n) or 1.0
    y /= scale
    normal = blas.dsyrk(1.0, features.T, trans=1, lower=1)
    trace = normal.reshape(-1, order="A")[:: count + 1]
    trace += 1e-13 * float(trace.sum()) / count
    factor, c, failed = lapack.dposv(normal, features @ y, lower=1, overwrite_a=1)
    if failed or not all_finite(c):
        return UNFITTED
    if full:
        none = np.empty((0, count))
        return Fit(_quadratic(centre, whiten, c), c, factor, ordered, scale, none, none, y[:0], 0, False)
    hessian: Floats = np.asarray(2 * c[1 + d :], dtype=np.float64) if diagonal else np.empty(0)
    return UNFITTED._replace(model=Quadratic(centre, whiten, c[1 : 1 + d], hessian))


def _features(z: Floats, weights: Floats) -> Floats:
    """Of a full quadratic, for points z, shape (m, d): weighted, shape (m, c)."""
    m, d = z.shape
    i, j = _triangle(d)
    out = np.empty((m, coefficients(d)))
    out[:, 0] = 1.0
    out[:, 1 : 1 + d] = z
    np.multiply(z[:, i], z[:, j], out=out[:, 1 + d :])
    out *= weights[:, None]
    return out


def _quadratic(centre: Floats, whiten: Floats, c: Floats) -> Quadratic:
    """The full quadratic with coefficients c."""
    d = len(centre)
    half = np.zeros((d, d))
    half[_triangle(d)] = c[1 + d :]
    half += half.T
    return Quadratic(centre, whiten, c[1 : 1 + d], half)


@lru_cache(maxsize=8)
def _weights(n: int) -> Floats:
    """The weight of each rank, shape (n,)."""
    weights: Floats = np.linspace(WEIGHT, 1.0, n, dtype=np.float64)
    weights.flags.writeable = False
    return weights


@lru_cache(maxsize=8)
def _triangle(d: int) -> tuple[Ints, Ints]:
    return np.triu_indices(d)
