"""A linear or quadratic function fitted to past answers, and updated by those that come.

Products are written as `dot`, which on arrays of some ten numbers takes half as long as `@`.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from blackbox_zo._checks import all_finite, any_true
from blackbox_zo._typing import Floats, Ints
from blackbox_zo.estimators._quadratic_model import UNKNOWN, Quadratic, coefficients

__all__ = ["UNFITTED", "Fit", "fitted"]

BETTER = 0.75
"""The share of the points, the best ones, that a fit uses."""

WEIGHT = 20.0
"""By what the best point's residual is multiplied, falling linearly to 1 for the worst."""

SURPLUS = 1.1
"""A model needs so many points for each coefficient."""

CHEAP = 66
"""Up to so many coefficients, those of 10 dimensions, a fit costs no more than an update, which often fails."""

UPDATES = 8
"""A full quadratic is fitted anew after one answer for so many of its coefficients; until then it is updated."""

ALONE = 1e-9
"""An answer that the others leave so little to tell (one minus its leverage) cannot leave without a fit."""

SOONER = 32
"""The same once an answer was better than all before: around it, and in smaller units, rounding spoils less."""


class Fit(NamedTuple):
    """A model fitted to the best of a window of answers, and what it takes to update it.

    Attributes:
        model: The model.
        coefficients: Those of a full quadratic, the constant first, in units of `scale`, shape (c,); else (0,).
        factor: The Cholesky factor of its normal equations, lower triangle, shape (c, c); else (0, 0).
        best: Where in the window the answers stood that were fitted, best first, shape (n,).
        points: Their points, shape (n, d).
        values: Their values, shape (n,).
        scale: Root mean square of the weighted values, above the least.
        size: Length of the window.
        age: How many answers have come since.
        improved: Whether one of them was better than all that were fitted.
    """

    model: Quadratic
    coefficients: Floats
    factor: Floats
    best: Ints
    points: Floats
    values: Floats
    scale: float
    size: int
    age: int
    improved: bool

    def updated(self, points: Floats, values: Floats, new: int) -> Fit | None:
        """The weighted least squares fit to the best of the window now: some have come, others leave (Woodbury 1950).

        Those that were fitted keep their weights, and one that has come has that of its rank among them. That others
        leave matters as much: with all kept, the model hardly moves, and asks about the same point again. An answer
        costs O(c^2) for each that has changed since the fit, rather than O(c^3).

        Args:
            points: The window, in the coordinates of the variable, oldest first, shape (m, d).
            values: Their values, infinite where the query failed, shape (m,).
            new: How many have come since the last update.

        Returns:
            None where a fit is due.
        """
        c, n, age, size = len(self.coefficients), len(self.values), self.age + new, len(values)
        if c <= CHEAP:
            return None
        improved = self.improved or float(values[-new:].min()) < float(self.values[0])
        if age > c // (SOONER if improved else UPDATES):
            return None
        best = values.argsort(kind="stable")[: math.ceil(BETTER * size)]
        if not math.isfinite(values[best[-1]]):
            return None
        place = self.best - (self.size + age - size)  # now; negative for what has left the window
        here, among = place >= 0, np.zeros(size, dtype=np.int8)  # 1 for those that have come, -1 for others that leave
        among[best] = 1
        among[place[here]] -= 1
        come, leave = (among > 0).nonzero()[0], (~here | (among[place] < 0)).nonzero()[0]
        m, changed = len(come), len(come) + len(leave)
        if not changed:
            return self._replace(age=age, improved=improved)
        told = np.concatenate((values[come], self.values[leave]))
        rank = np.minimum(self.values.searchsorted(told), n - 1)
        rank[m:] = leave
        weights = _weights(n)[rank]
        x = np.concatenate((points.take(come, axis=0), self.points.take(leave, axis=0)))
        x = _features((x - self.model.centre).dot(self.model.whiten), weights)
        errors = (told - self.values[0]) * (weights / self.scale) - x.dot(self.coefficients)
        blas, lapack = _routines()
        half = blas.dtrsm(1.0, self.factor, x.T, lower=1)  # with L L' the normal equations, L^-1 x'
        shares = half.T.dot(half)
        diagonal = shares.reshape(-1)[:: changed + 1]
        diagonal[:m] += 1.0
        diagonal[m:] -= 1.0
        if any_true(diagonal[m:] >= -ALONE):
            return None
        _, _, shares, failed = lapack.dgesv(shares, errors)
        found = self.coefficients + blas.dtrsv(self.factor, half.dot(shares), lower=1, trans=1)
        if failed or not all_finite(found):
            return None
        model = _quadratic(self.model.centre, self.model.whiten, found)
        return self._replace(model=model, age=age, improved=improved)


_NONE: Floats = np.empty((0, 0))
UNFITTED = Fit(UNKNOWN, np.empty(0), _NONE, np.empty(0, dtype=np.intp), _NONE, np.empty(0), 1.0, 0, 0, False)
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
    n, d = math.ceil(BETTER * len(values)), len(centre)
    if n < 3:
        return UNFITTED
    best = values.argsort(kind="stable")[:n]
    used, weights = points.take(best, axis=0), _weights(n)
    z: Floats = whiten.T.dot((used - centre).T)
    full, diagonal = n >= SURPLUS * coefficients(d), n >= SURPLUS * (1 + 2 * d)
    count = coefficients(d) if full else 1 + 2 * d if diagonal else 1 + d
    features = np.empty((count, n))
    features[0] = weights
    np.multiply(z, weights, out=features[1 : 1 + d])
    if full:
        i, j = _pairs(d)
        np.multiply(features[1 : 1 + d].take(i, axis=0), z.take(j, axis=0), out=features[1 + d :])
    elif diagonal:
        np.multiply(features[1 : 1 + d], z, out=features[1 + d :])
    ordered = values[best]
    y: Floats = (ordered - ordered[0]) * weights
    scale = math.sqrt(float(y.dot(y)) / n) or 1.0
    y /= scale
    blas, lapack = _routines()
    normal = blas.dsyrk(1.0, features.T, trans=1, lower=1)
    trace = normal.reshape(-1, order="A")[:: count + 1]
    trace += 1e-13 * float(np.add.reduce(trace)) / count
    factor, c, failed = lapack.dposv(normal, features.dot(y), lower=1, overwrite_a=1)
    if failed or not all_finite(c):
        return UNFITTED
    if full:
        model = _quadratic(centre, whiten, c)
        return Fit(model, c, factor, best, used, ordered, scale, len(values), 0, False)
    hessian: Floats = np.asarray(2 * c[1 + d :], dtype=np.float64) if diagonal else np.empty(0)
    return UNFITTED._replace(model=Quadratic(centre, whiten, c[1 : 1 + d], hessian))


def _features(z: Floats, weights: Floats) -> Floats:
    """Of a full quadratic, for points z, shape (m, d): weighted, shape (m, c)."""
    m, d = z.shape
    i, j = _pairs(d)
    out = np.empty((m, coefficients(d)))
    out[:, 0] = 1.0
    out[:, 1 : 1 + d] = z
    np.multiply(z.take(i, axis=1), z.take(j, axis=1), out=out[:, 1 + d :])
    out *= weights[:, None]
    return out


def _quadratic(centre: Floats, whiten: Floats, c: Floats) -> Quadratic:
    """The full quadratic with coefficients c."""
    d = len(centre)
    hessian = c[1 + d :].take(_square(d))
    hessian.reshape(-1)[:: d + 1] *= 2.0
    return Quadratic(centre, whiten, c[1 : 1 + d], hessian)


@lru_cache(maxsize=8)
def _weights(n: int) -> Floats:
    """The weight of each rank, shape (n,)."""
    weights: Floats = np.linspace(WEIGHT, 1.0, n, dtype=np.float64)
    weights.flags.writeable = False
    return weights


@lru_cache(maxsize=8)
def _pairs(d: int) -> tuple[Ints, Ints]:
    """Which two variables each product of a full quadratic has."""
    return np.triu_indices(d)


@lru_cache(maxsize=8)
def _square(d: int) -> Ints:
    """Which product each two variables have, shape (d, d)."""
    i, j = _pairs(d)
    square = np.empty((d, d), dtype=np.intp)
    square[i, j] = square[j, i] = np.arange(len(i))
    return square


@cache
def _routines() -> tuple[Any, Any]:
    """BLAS and LAPACK, imported once they are needed: importing the package stays light."""
    from scipy.linalg import blas, lapack

    return blas, lapack
