"""How much people like what they chose, round by round: one model of utility for a whole study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from blackbox_zo._typing import Floats, Ints
from blackbox_zo.estimators._gaussian_process import distances
from blackbox_zo.estimators._preference_model import fit, no_choices
from blackbox_zo.feedback import Ranking

__all__ = ["Liking", "liking_of"]

MOST = 600
"""Candidates beyond which no model is fitted: it would take many seconds."""


class Liking(NamedTuple):
    """Utility of each round's winner, less that of the first winner, in units of the noise of an answer.

    Attributes:
        rounds: Which rounds have a winner, shape (n,).
        mean: Shape (n,).
        stderr: Posterior standard deviation of the difference, shape (n,).
    """

    rounds: Ints
    mean: Floats
    stderr: Floats


def liking_of(points: Sequence[Floats], rankings: Sequence[Ranking], winners: Sequence[int | None]) -> Liking | None:
    """Fit the Gaussian process of `PreferenceGP` to all answers at once.

    Args:
        points: The candidates of each round, shape (m, d) each.
        rankings: What was said of them.
        winners: Position of the best of each round; None where nothing was compared.

    Returns:
        None with fewer than two winners, or too many candidates.
    """
    from scipy.linalg import solve_triangular

    rounds = np.array([i for i, best in enumerate(winners) if best is not None], dtype=np.intp)
    everything = np.concatenate(points) if points else np.empty((0, 1))
    if len(rounds) < 2 or len(everything) > MOST:
        return None
    unique, which = np.unique(everything, axis=0, return_inverse=True)
    starts = np.cumsum([0, *map(len, points)])
    choices = no_choices()
    for i, ranking in enumerate(rankings):
        choices = choices.plus(ranking, which.reshape(-1)[starts[i] : starts[i + 1]])
    scale = np.ptp(points[0], axis=0)  # the first round spreads over the whole search region
    u = unique / np.where(scale > 0, scale, 1.0)
    typical = float(np.sqrt(u.shape[1]))
    _, _, posterior = fit(distances(u, u), choices, np.zeros(len(u)), (typical, 3.0), typical)
    best = np.array([which.reshape(-1)[starts[i] + (winners[i] or 0)] for i in rounds])
    rows = posterior.factor[best] - posterior.factor[best[0]]
    spread = np.linalg.norm(solve_triangular(posterior.root, rows.T, lower=True), axis=0)
    return Liking(rounds, rows @ posterior.mode, spread)
