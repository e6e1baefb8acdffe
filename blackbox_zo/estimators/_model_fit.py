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

CHEAP = 36
"""Up to so many coefficients, those of 7 dimensions, a fit costs no more than an update."""

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
        from scipy.linalg import lapack  # importing the package stays light

        n, age, size = len(self.values), self.age + new, len(values)
        improved = self.improved or (n > 0 and float(values[-new:].min()) < float(self.values[0]))
        c = len(self.coefficients)
        if c <= CHEAP or age > c // (SOONER if improved else UPDATES):
            return None
        best = values.argsort(kind="stable")[: math.ceil(BETTER * size)]
        if not math.isfinite(values[best[-1]]):
            return None
        place = self.best - (self.size + age - size)  # now; negative for what has left the window
        chosen, fitted_before = np.zeros(size, dtype=np.bool_), np.zeros(size, dtype=np.bool_)
        chosen[best] = True
        fitted_before[place[place >= 0]] = True
        leave = ((place < 0) | ~chosen[place]).nonzero()[0]
        come = (chosen & ~fitted_before).nonzero()[0]
        m, changed = len(come), len(come) + len(leave)
        if not changed:
            return self._replace(age=age, improved=improved)
        told = np.concatenate((values[come], self.values[leave]))
        rank = np.minimum(self.values.searchsorted(told), n - 1)
        rank[m:] = leave
        weights = _weights(n)[rank]
        x = np.concatenate((points[come], self.points[leave]))
        x = _features((x - self.model.centre) @ self.model.whiten, weights)
        errors = (told - self.values[0]) * (weights / self.scale) - x @ self.coefficients
        gains = lapack.dpotrs(self.factor, x.T, lower=1)[0]
        among = x @ gains
        diagonal = among.reshape(-1)[:: changed + 1]
        diagonal[:m] += 1.0
        diagonal[m:] -= 1.0
        _, _, shares, failed = lapack.dgesv(among, errors)
        found = self.coefficients + gains @ shares
        if failed or not (diagonal[m:] < -ALONE).all() or not all_finite(found):
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
        model = _quadratic(centre, whiten, c)
        return Fit(model, c, factor, best, points[best], ordered, scale, len(values), 0, False)
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
