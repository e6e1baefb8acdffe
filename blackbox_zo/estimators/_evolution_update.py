"""How the search distribution of `EvolutionStrategy` is updated. Equation numbers are those of Hansen 2016."""

from __future__ import annotations

import math

import numpy as np

from blackbox_zo._typing import Floats
from blackbox_zo.estimators._cma_constants import Constants
from blackbox_zo.estimators._evolution_state import EvolutionState, kind
from blackbox_zo.estimators._low_rank import unshaped
from blackbox_zo.randomness import combine

__all__ = ["adapted", "followed", "spread", "whiten"]


def whiten(s: EvolutionState, y: Floats) -> Floats:
    """`C^(-1/2) y` for one vector or for rows."""
    covariance = kind(s)
    if covariance == "isotropic":
        return y
    if covariance == "diagonal":
        return y / s.lengths
    if covariance == "low-rank":
        return unshaped(s, y)
    out: Floats = (y.dot(s.axes) / s.lengths).dot(s.axes.T)
    return out


def spread(s: EvolutionState) -> Floats:
    """The standard deviation of each coordinate of y, shape (d,), or (1,) where all are 1."""
    if kind(s) == "full":
        return np.sqrt(s.shape.diagonal())
    return s.lengths if s.lengths.size else np.ones(1)


def followed(
    s: EvolutionState, c: Constants, y_w: Floats, limits: tuple[float, float], change: float | None
) -> tuple[EvolutionState, bool]:
    """The state of the next generation, with the next p_sigma and sigma, and h_sigma: whether p_c may follow the move.

    Args:
        s: The state so far.
        c: Rates.
        y_w: The move of the mean in units of sigma, shape (d,).
        limits: The least and the largest sigma.
        change: Factor for sigma besides that of its path; None for a constant sigma.
    """
    d, growing, p_sigma = y_w.size, True, s.path_radius
    if p_sigma.size:
        p_sigma = (1 - c.c_sigma) * s.path_radius  # eq. (43)
        p_sigma += math.sqrt(c.c_sigma * (2 - c.c_sigma) * c.mu_eff) * whiten(s, y_w)
        length = math.sqrt(float(p_sigma.dot(p_sigma)))
        expected = math.sqrt(d) * (1 - 1 / (4 * d) + 1 / (21 * d * d))  # E||N(0, I)||
        damped = length / math.sqrt(1 - (1 - c.c_sigma) ** (2 * (s.generation + 1)))
        growing = damped < (1.4 + 2 / (d + 1)) * expected
        if change is not None:
            change *= math.exp(min(1.0, (c.c_sigma / c.d_sigma) * (length / expected - 1)))  # eq. (44)
    radius = s.radius if change is None else max(limits[0], min(s.radius * change, max(limits[1], s.radius)))
    return s._replace(radius=radius, generation=s.generation + 1, path_radius=p_sigma), growing


def adapted(
    s: EvolutionState, c: Constants, w: Floats, y: Floats, y_w: Floats, *, growing: bool, decompose: bool = True
) -> EvolutionState:
    """The state with the next p_c and C, from displacements y, shape (n, d), in units of sigma, and their mean y_w.

    Args:
        s: A state whose `generation` is that of the new C.
        c: Weights and rates.
        w: The weight of each displacement in C, shape (n,).
        y: See above.
        y_w: The move of the mean in units of sigma, shape (d,).
        growing: h_sigma: whether p_c follows the move.
        decompose: Whether to compute the eigenvectors of a full C, if it is time.
    """
    if kind(s) == "isotropic":
        return s
    p_c = (1 - c.c_c) * s.path_shape  # eq. (45)
    p_c += (growing * math.sqrt(c.c_c * (2 - c.c_c) * c.mu_eff)) * y_w
    decay = 1 + c.c_1 * (not growing) * c.c_c * (2 - c.c_c) - c.c_1  # eq. (47), but for the weights
    if kind(s) == "diagonal":
        positive = np.maximum(w, 0.0)
        return _diagonal(s, c, decay - c.c_mu * float(positive.sum()), positive, y, p_c)
    shape = _full(s, c, decay - c.c_mu * float(np.add.reduce(w)), w, y, p_c)
    due = s.generation - s.refreshed >= 1 / (10 * y_w.size * (c.c_1 + c.c_mu))
    if not (due and decompose):
        return s._replace(path_shape=p_c, shape=shape)
    values, axes = np.linalg.eigh((shape + shape.T) / 2)
    lengths = np.sqrt(np.maximum(values, 1e-20 * values[-1]))
    return s._replace(path_shape=p_c, shape=shape, axes=axes, lengths=lengths, refreshed=s.generation)


def _diagonal(s: EvolutionState, c: Constants, keep: float, w: Floats, y: Floats, p_c: Floats) -> EvolutionState:
    """Eq. (47) for the diagonal alone, without negative weights (Ros & Hansen 2008)."""
    shape = combine(w, y, squared=True)
    shape *= c.c_mu
    shape += keep * s.shape
    shape += c.c_1 * (p_c * p_c)
    return s._replace(path_shape=p_c, shape=shape, lengths=np.sqrt(shape), refreshed=s.generation)


def _full(s: EvolutionState, c: Constants, keep: float, w: Floats, y: Floats, p_c: Floats) -> Floats:
    """Eqs. (46) and (47)."""
    if np.minimum.reduce(w) < 0:  # eq. (46): long bad steps count by their direction only
        z = whiten(s, y)
        norms = np.einsum("ij,ij->i", z, z) + 1e-300
        w = np.where(w < 0, w * (p_c.size / norms), w)
    shape: Floats = keep * s.shape + c.c_1 * (p_c[:, None] * p_c) + c.c_mu * (y.T * w).dot(y)  # eq. (47)
    return shape
