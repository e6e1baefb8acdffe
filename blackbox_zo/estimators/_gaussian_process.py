"""A Gaussian process with a Matérn 5/2 kernel, its length scale fitted by marginal likelihood.

Equation numbers are those of Rasmussen & Williams 2006, "Gaussian Processes for Machine Learning".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from blackbox_zo._typing import Floats

__all__ = ["GaussianProcess", "distances", "fit", "matern", "uncertain"]

_SQRT5 = 5.0**0.5


@dataclass(frozen=True)
class GaussianProcess:
    """A posterior, ready to be asked for its mean and that mean's gradient.

    Attributes:
        points: X, shape (n, d).
        alpha: `(K + noise I)^-1 (y - mean)`, shape (n,), in the units of y.
        mean: The constant prior mean, estimated with K.
        length: Length scale, in the units of X.
        noise: Noise variance as a share of the signal's.
    """

    points: Floats
    alpha: Floats
    mean: float
    length: float
    noise: float

    def predict(self, x: Floats) -> float:
        """The posterior mean at x, shape (d,): `mean + k(x, X) alpha` (eq. (2.25))."""
        return self.mean + float(matern(distances(x[None, :], self.points), self.length)[0] @ self.alpha)

    def gradient_weights(self, x: Floats) -> Floats:
        """Weights w, shape (n,), with `grad predict(x) = sum_i w_i (x_i - x)`; eq. (9.1) for the mean.

        `d k(r) / d x = 5 / (3 l²) (1 + sqrt(5) r / l) exp(-sqrt(5) r / l) (x_i - x)`.
        """
        s = _SQRT5 * distances(x[None, :], self.points)[0] / self.length
        slope: Floats = (5.0 / (3.0 * self.length**2)) * (1.0 + s) * np.exp(-s)
        return slope * self.alpha


def matern(r: Floats, length: float) -> Floats:
    """`k(r) = (1 + s + s²/3) exp(-s)`, `s = sqrt(5) r / l` (eq. (4.17)), without signal variance."""
    s = (_SQRT5 / length) * r
    out: Floats = (1.0 + s + s * s / 3.0) * np.exp(-s)
    return out


def fit(points: Floats, values: Floats, guess: tuple[float, float] | None, noise: float | None) -> GaussianProcess:
    """Fit length scale (and noise, unless given) by marginal likelihood, mean and signal variance in closed form.

    Args:
        points: X, shape (n, d), n ≥ 2, not all equal.
        values: y, shape (n,), finite.
        guess: Length scale and noise to start from, for example those of the step before.
        noise: Noise variance as a share of the signal's, or None to fit it.
    """
    from scipy.linalg import cho_factor, cho_solve
    from scipy.optimize import minimize

    shift, spread = float(values.mean()), float(values.std()) or 1.0
    y = (values - shift) / spread
    apart = distances(points, points)
    typical = float(np.median(apart[apart > 0])) if (apart > 0).any() else 1.0
    n, ones = len(y), np.ones(len(y))

    def factorise(length: float, eta: float) -> Any:
        k = matern(apart, length)
        k[np.diag_indices(n)] += eta
        return cho_factor(k, lower=True, check_finite=False)

    def residual(factor: Any) -> tuple[Floats, float]:
        k_one, k_y = cho_solve(factor, np.stack((ones, y), axis=1), check_finite=False).T
        mean = float(ones @ k_y) / float(ones @ k_one)
        return k_y - mean * k_one, mean

    def objective(theta: Floats) -> tuple[float, Floats]:
        """Minus (2.30), constants dropped, and its gradient (5.9); mean and signal variance maximise it."""
        length, eta = typical * float(np.exp(theta[0])), noise or float(np.exp(theta[1]))
        try:
            factor = factorise(length, eta)
        except np.linalg.LinAlgError:
            return 1e25, np.zeros(len(theta))
        alpha, _ = residual(factor)
        signal = max(float(y @ alpha) / n, 1e-300)
        inner = cho_solve(factor, np.eye(n), check_finite=False) - np.outer(alpha, alpha / signal)
        s = (_SQRT5 / length) * apart
        by_length = float(np.sum(inner * (s * s * (1.0 + s) / 3.0 * np.exp(-s))))
        slope = 0.5 * np.array([by_length, eta * float(np.trace(inner))])
        return 0.5 * n * np.log(signal) + float(np.log(np.diag(factor[0])).sum()), slope[: len(theta)]

    start = [1.0, np.log(1e-6)] if guess is None else [np.log(guess[0] / typical), np.log(max(guess[1], 1e-10))]
    box = [(np.log(0.05), np.log(1e3)), (np.log(1e-10), np.log(10.0))]
    free = 1 if noise else 2
    theta0 = np.clip(start, *np.transpose(box))[:free]
    found = minimize(objective, theta0, jac=True, method="L-BFGS-B", bounds=box[:free], options={"maxiter": 10})
    theta = found.x if found.fun <= objective(theta0)[0] else theta0
    length, eta = typical * float(np.exp(theta[0])), noise or float(np.exp(theta[1]))
    while True:
        try:
            alpha, mean = residual(factorise(length, eta))
            break
        except np.linalg.LinAlgError:  # points that coincide: a little more noise makes K definite
            eta = max(10.0 * eta, 1e-10)
    return GaussianProcess(points, alpha * spread, shift + mean * spread, length, eta)


def uncertain(points: Floats, x: Floats, length: float, noise: float, xi: Floats) -> Floats:
    """Turn random rows toward where the gradient at x is least known: `xi Sigma`, Sigma its posterior covariance.

    `Sigma = k''(0) I - J' (K + noise I)^-1 J`, J the gradients of k(., x_i) at x (eqs. (2.26), (9.1)): about `k''(0) I`
    in directions without points, and small in those that were queried nearby.

    Args:
        points: X, shape (n, d).
        x: Shape (d,).
        length: Length scale.
        noise: Noise variance as a share of the signal's.
        xi: Rows to turn, shape (m, d).

    Returns:
        Shape (m, d), in no particular length; `xi` itself if K is singular.
    """
    from scipy.linalg import cho_factor, cho_solve

    k = matern(distances(points, points), length)
    k[np.diag_indices(len(k))] += max(noise, 1e-10)
    away = points - x
    s = _SQRT5 * distances(x[None, :], points)[0] / length
    j = (5.0 / (3.0 * length**2)) * ((1.0 + s) * np.exp(-s))[:, None] * away
    try:
        factor = cho_factor(k, lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        return xi
    known: Floats = cho_solve(factor, j @ xi.T, check_finite=False).T @ j
    return (5.0 / (3.0 * length**2)) * xi - known


def distances(a: Floats, b: Floats, metric: str = "euclidean") -> Floats:
    """Distances, shape (len(a), len(b)); from differences, for near points must not cancel."""
    from scipy.spatial.distance import cdist

    out: Floats = cdist(a, b, metric)
    return out
