"""Functions drawn from a posterior over utility, to be maximised (pathwise conditioning, Wilson et al. 2020, ICML)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blackbox_zo._typing import Floats
from blackbox_zo.estimators._gaussian_process import distances, matern
from blackbox_zo.estimators._preference_model import Posterior

__all__ = ["Paths", "draw"]

FEATURES = 512
"""Number of random cosine features that approximate the prior (Rahimi & Recht 2007)."""

_SQRT5 = 5.0**0.5


@dataclass(frozen=True)
class Paths:
    """m functions `f_j(u) = sum_i k(u, x_i) pull_ij + sum_a cos(omega_a u + phase_a) wave_aj`.

    Attributes:
        points: x_i, shape (r, d).
        length: Of the Matérn 5/2 kernel k, with unit variance.
        pull: Shape (r, m).
        omega: Shape (a, d).
        phase: Shape (a,).
        wave: Shape (a, m).
    """

    points: Floats
    length: float
    pull: Floats
    omega: Floats
    phase: Floats
    wave: Floats

    def values(self, u: Floats) -> Floats:
        """All functions at u, shape (n, d): (n, m)."""
        waves = np.cos(u @ self.omega.T + self.phase)
        out: Floats = matern(distances(u, self.points), self.length) @ self.pull + waves @ self.wave
        return out

    def value_and_slope(self, u: Floats, j: int) -> tuple[float, Floats]:
        """Function j and its gradient at u, shape (d,)."""
        away = u - self.points
        s = (_SQRT5 / self.length) * np.sqrt(np.einsum("ij,ij->i", away, away))
        decay = np.exp(-s) * self.pull[:, j]
        value = float((1.0 + s + s * s / 3.0) @ decay)
        slope = (-5.0 / (3.0 * self.length**2)) * (((1.0 + s) * decay) @ away)
        angle = self.omega @ u + self.phase
        value += float(np.cos(angle) @ self.wave[:, j])
        slope -= (np.sin(angle) * self.wave[:, j]) @ self.omega
        return value, slope

    def climb(self, j: int, start: Floats, lower: Floats, upper: Floats) -> Floats:
        """A local maximum of function j inside a box, all of shape (d,)."""
        from scipy.optimize import minimize

        def falling(u: Floats) -> tuple[float, Floats]:
            value, slope = self.value_and_slope(u, j)
            return -value, -slope

        box = np.stack((lower, upper), axis=1)
        found = minimize(falling, start, jac=True, method="L-BFGS-B", bounds=box, options={"maxiter": 30})
        top: Floats = np.clip(found.x, lower, upper)
        return top


def draw(
    posterior: Posterior,
    points: Floats,
    length: float,
    signal: float,
    boldness: float,
    m: int,
    rng: np.random.Generator,
) -> Paths:
    """Draw m functions `mean + boldness (path - mean)`, with paths from the posterior.

    Args:
        posterior: Of the utilities at `points`.
        points: Shape (n, d).
        length: Length scale.
        signal: Prior standard deviation.
        boldness: See above; 1 draws from the posterior itself.
        m: Number of functions.
        rng: The only source of randomness.
    """
    from scipy.linalg import solve_triangular

    d, x = points.shape[1], points[posterior.free]
    factor = posterior.factor[posterior.free]
    omega = rng.standard_normal((FEATURES, d)) * (np.sqrt(5.0 / rng.chisquare(5, FEATURES)) / length)[:, None]  # (4.15)
    phase = rng.uniform(0.0, 2.0 * np.pi, FEATURES)
    wave = rng.standard_normal((FEATURES, m)) * (boldness * signal * np.sqrt(2.0 / FEATURES))
    noise = boldness * rng.standard_normal((len(x), m))
    z = posterior.mode[:, None] + solve_triangular(posterior.root, noise, lower=True, trans="T", check_finite=False)
    z -= solve_triangular(factor, np.cos(x @ omega.T + phase) @ wave, lower=True, check_finite=False)
    pull = signal**2 * solve_triangular(factor, z, lower=True, trans="T", check_finite=False)
    return Paths(x, length, pull, omega, phase, wave)
