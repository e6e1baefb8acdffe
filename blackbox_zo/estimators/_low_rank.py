"""A covariance of low rank: a scale for each coordinate, and a few directions of past moves, at O(d) a query."""

from __future__ import annotations

import numpy as np

from blackbox_zo._typing import Floats
from blackbox_zo.estimators._cma_constants import Constants
from blackbox_zo.estimators._evolution_state import RANK, EvolutionState
from blackbox_zo.randomness import combine

__all__ = ["shaped", "unshaped", "with_shape"]


SCALES = 0.5
"""How fast the scales are learnt, as a share of the rate of the diagonal covariance: the directions come first."""

MOST_CHANGE = 0.3
"""By how much the logarithm of a scale changes at most in a step."""


def _strengths(d: int) -> Floats:
    """c_d: how much of a draw comes to lie along each direction, shape (RANK,)."""
    return np.minimum(0.5, 1 / (1.5 ** np.arange(RANK) * d))


def shaped(s: EvolutionState, z: Floats) -> Floats:
    """Turn z ~ N(0, I) into y ~ N(0, C), rows of shape (n, d); z is written to."""
    for strength, m in list(zip(_strengths(z.shape[1]).tolist(), s.vectors, strict=True))[: s.generation]:
        part = np.einsum("ij,j->i", z, m)  # BLAS would round differently with another number of threads
        part *= strength
        z *= 1 - strength
        z += part[:, None] * m
    z *= s.lengths
    return z


def unshaped(s: EvolutionState, y: Floats) -> Floats:
    """The z of y, shape (…, d), by the formula of Sherman and Morrison."""
    z = y / s.lengths
    for strength, m in list(zip(_strengths(y.shape[-1]).tolist(), s.vectors, strict=True))[: s.generation][::-1]:
        keep = 1 - strength
        part = np.einsum("...j,j->...", z, m) * (strength / (keep + strength * float(m @ m)))
        z = (z - part[..., None] * m) / keep
    return z


def with_shape(s: EvolutionState, c: Constants, w: Floats, pull: Floats, z: Floats) -> EvolutionState:
    """The state with the next directions and scales.

    Directions are paths of moves in z, as in LM-MA-ES (Loshchilov, Glasmachers & Beyer 2019, arXiv 1705.06693), each
    over four times as many steps as the one before. A scale grows where the better draws of its own coordinate of z
    are long, as in sep-CMA-ES (Ros & Hansen 2008), but multiplied, so that it only learns what directions leave over.

    Args:
        s: The state so far.
        c: Rates; mu_eff belongs to `pull`.
        w: Weights of the draws, shape (n,).
        pull: Their weights in the move, shape (n,).
        z: The draws, shape (n, d).
    """
    n, d = z.shape
    z_w = np.sqrt(c.mu_eff) * combine(pull, z)
    rates = np.minimum(0.5, n / (4.0 ** np.arange(RANK) * d))[:, None]
    vectors = (1 - rates) * s.vectors + np.sqrt(rates * (2 - rates)) * z_w
    path = (1 - c.c_c) * s.path_shape + np.sqrt(c.c_c * (2 - c.c_c)) * z_w
    change = c.c_mu * (combine(w, z, squared=True) - w.sum()) + c.c_1 * (path * path - 1)
    change *= 0.5 * SCALES
    lengths = s.lengths * np.exp(np.clip(change, -MOST_CHANGE, MOST_CHANGE))
    return s._replace(vectors=vectors, path_shape=path, lengths=lengths)
