"""The search distribution of `EvolutionStrategy`."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from blackbox_zo._typing import Floats
from blackbox_zo.estimators._cma_constants import Constants
from blackbox_zo.estimators._surrogate_ranking import Surrogate

__all__ = ["RANK", "Average", "EvolutionState", "Rates", "first_state", "kind", "on_a_path", "wider"]

RANK = 4
"""Number of directions. More than 4 gain nothing in 160 to 640 dimensions."""


class Average(NamedTuple):
    """What is known of one part of the update, in coordinates in which Sigma is the identity.

    Attributes:
        rate: Eta, its learning rate, at most 1.
        drift: E, moving average of the update.
        power: V, moving average of its squared norm.
    """

    rate: float
    drift: Floats
    power: float


class Rates(NamedTuple):
    """The learning rates of the mean and of the covariance matrix Sigma = sigma² C."""

    mean: Average
    shape: Average


class EvolutionState(NamedTuple):
    """The search distribution N(x, radius² C) and its evolution paths.

    Attributes:
        radius: sigma.
        generation: Number of generations used.
        path_radius: p_sigma, shape (d,); (0,) where the radius does not follow a path.
        path_shape: p_c, shape (d,).
        shape: C: shape (d, d) full, (d,) diagonal, (0,) otherwise.
        axes: B, eigenvectors of C in columns, shape (d, d); (0, 0) unless full.
        lengths: D, roots of the eigenvalues, or the scales of a low-rank C, shape (d,); (0,) for isotropic.
        vectors: The directions of a low-rank C, shape (m, d); (0, d) otherwise.
        refreshed: The generation in which `axes` and `lengths` were computed.
        line: The last move, for the line search, shape (d,); (0,) without one.
        rates: The learning rates, if they are adapted.
        surrogate: The model and the generation that it ranks, if there is one.
    """

    radius: float
    generation: int
    path_radius: Floats
    path_shape: Floats
    shape: Floats
    axes: Floats
    lengths: Floats
    vectors: Floats
    refreshed: int
    line: Floats
    rates: Rates | tuple[()]
    surrogate: Surrogate | tuple[()]


def kind(state: EvolutionState) -> str:
    """Which covariance a state keeps: its arrays say so."""
    if state.shape.ndim == 2:
        return "full"
    if len(state.vectors):
        return "low-rank"
    return "diagonal" if state.shape.size else "isotropic"


def first_state(d: int, radius: float, covariance: str, *, path: bool) -> EvolutionState:
    """The state before the first step; with `path` if sigma follows one."""
    full, diagonal = covariance == "full", covariance == "diagonal"
    return EvolutionState(
        radius=radius,
        generation=0,
        path_radius=np.zeros(d if path else 0),
        path_shape=np.zeros(d),
        shape=np.eye(d) if full else np.ones(d if diagonal else 0),
        axes=np.eye(d if full else 0),
        lengths=np.ones(0 if covariance == "isotropic" else d),
        vectors=np.zeros((RANK if covariance == "low-rank" else 0, d)),
        refreshed=0,
        line=np.zeros(0 if path else d),
        rates=(),
        surrogate=(),
    )


def on_a_path(s: EvolutionState) -> EvolutionState:
    """The state with a new path for sigma instead of a line."""
    return s._replace(line=np.empty(0), path_radius=np.zeros(s.path_shape.size))


def wider(s: EvolutionState, c: Constants) -> EvolutionState:
    """The state with a larger sigma: the answers were equal, so the search is to look further."""
    return s._replace(radius=s.radius * math.exp(0.2 + c.c_sigma / c.d_sigma))
