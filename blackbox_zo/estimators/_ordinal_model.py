"""A quadratic that is fitted to comparisons: of two points it says which is better, as the answers did."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from blackbox_zo._typing import Floats, Ints
from blackbox_zo.estimators._quadratic_model import UNKNOWN, Quadratic, coefficients
from blackbox_zo.feedback import Ranking

__all__ = ["RankedPairs", "agreement", "neighbours", "no_pairs", "ordinal"]

LENGTH = 6.0
"""How long the difference of two points' features is made: the larger, the harder a comparison counts."""

CURVATURE = 0.3
"""The model before any comparison is a sphere whose Hessian is so many times the identity."""

PRIOR = 0.01
"""How much the model's distance from that sphere counts."""

NEWTON = 15
"""Most steps of Newton's method."""


class RankedPairs(NamedTuple):
    """Points that were compared, the newest last.

    Attributes:
        better: Shape (m, d).
        worse: Shape (m, d).
        weight: Shape (m,).
    """

    better: Floats
    worse: Floats
    weight: Floats

    def plus(self, points: Floats, ranking: Ranking, most: int) -> RankedPairs:
        """With the neighbours in a ranking of points, shape (n, d); the newest are kept, at least `most`."""
        i, j, weight = neighbours(ranking)
        old = slice(max(0, len(self.weight) - most), None)
        return RankedPairs(
            np.concatenate((self.better[old], points[i])),
            np.concatenate((self.worse[old], points[j])),
            np.concatenate((self.weight[old], weight)),
        )


def no_pairs(d: int) -> RankedPairs:
    """Before the first answer."""
    return RankedPairs(np.empty((0, d)), np.empty((0, d)), np.empty(0))


def neighbours(ranking: Ranking) -> tuple[Ints, Ints, Floats]:
    """Who is next to whom: the better, the worse, and the weight of each pair; the rest of the order follows from them.

    Where places are shared, all of one place are neighbours of all of the next, and share the weight of one comparison
    each.
    """
    better, worse, weight = [], [], []
    weights = np.ones(len(ranking.levels)) if ranking.weights is None else ranking.weights
    for level, each in zip(ranking.levels, weights.tolist(), strict=True):
        places = [np.flatnonzero(level == place) for place in np.unique(level[level >= 0])]
        for above, below in pairwise(places):
            better.append(np.repeat(above, len(below)))
            worse.append(np.tile(below, len(above)))
            weight.append(np.full(len(above) * len(below), each / min(len(above), len(below))))
    if not better:
        return np.empty(0, dtype=np.intp), np.empty(0, dtype=np.intp), np.empty(0)
    return np.concatenate(better), np.concatenate(worse), np.concatenate(weight)


def agreement(ranking: Ranking, values: Floats) -> tuple[float, float]:
    """How values agree with a ranking: agreements less contradictions, and the number of comparisons, by weight."""
    total = agree = 0.0
    weights = np.ones(len(ranking.levels)) if ranking.weights is None else ranking.weights
    for level, each in zip(ranking.levels, weights.tolist(), strict=True):
        shown = np.flatnonzero(level >= 0)
        above = np.sign(level[shown, None] - level[None, shown])
        total += each * float(np.abs(above).sum())
        agree += each * float((above * np.sign(values[shown, None] - values[None, shown])).sum())
    return agree / 2, total / 2


def ordinal(pairs: RankedPairs, centre: Floats, whiten: Floats) -> Quadratic:
    """The quadratic that is most likely to have been compared so (Bradley & Terry 1952), with a sphere as its prior.

    A comparison tells of the order alone, so the model tells of it alone, too. The difference of two points' features
    is scaled to one length: near points, or far ones, tell as much. The logarithm of the posterior is concave, and is
    maximised by Newton's method.

    Args:
        pairs: In the coordinates of the variable.
        centre: See `Quadratic`.
        whiten: W, in whose coordinates the prior is a sphere, shape (d, d).

    Returns:
        `UNKNOWN` where there is no pair, or the fit breaks down.
    """
    d = len(centre)
    with np.errstate(over="ignore", invalid="ignore"):
        rows = _features((pairs.worse - centre) @ whiten) - _features((pairs.better - centre) @ whiten)
        length = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    told = np.isfinite(length) & (length > 0)
    if not told.any():
        return UNKNOWN
    rows, weight = rows[told] * (LENGTH / length[told])[:, None], pairs.weight[told]
    above = np.triu_indices(d)
    prior = np.zeros(coefficients(d) - 1)
    prior[d:] = CURVATURE * (above[0] == above[1])
    c = _most_likely(rows, weight, prior)
    if c is None:
        return UNKNOWN
    half = np.zeros((d, d))
    half[above] = c[d:]
    return Quadratic(centre, whiten, c[:d], half + half.T - np.diag(half.diagonal()))


def _features(z: Floats) -> Floats:
    """`z` and the products of its elements, shape (n, d + d(d + 1)/2); the squares are halved."""
    i, j = np.triu_indices(z.shape[1])
    return np.concatenate((z, z[:, i] * z[:, j] * np.where(i == j, 0.5, 1.0)), axis=1)


def _most_likely(rows: Floats, weight: Floats, prior: Floats) -> Floats | None:
    """The c that minimises `sum weight log(1 + exp(-rows c)) + PRIOR |c - prior|²/2`; None if no step can be told."""
    from scipy.linalg import blas, lapack  # importing the package stays light

    def loss(c: Floats) -> float:
        return float(weight @ np.logaddexp(0.0, -(rows @ c))) + 0.5 * PRIOR * float((c - prior) @ (c - prior))

    c, now = prior, loss(prior)
    for _ in range(NEWTON):
        miss = 0.5 * (1.0 - np.tanh(0.5 * (rows @ c)))  # the logistic function of -rows c
        slope = PRIOR * (c - prior) - (weight * miss) @ rows
        scaled = rows * np.sqrt(weight * miss * (1.0 - miss))[:, None]
        hessian = blas.dsyrk(1.0, scaled.T, lower=1)
        hessian.reshape(-1, order="A")[:: len(c) + 1] += PRIOR
        _, step, failed = lapack.dposv(hessian, slope, lower=1, overwrite_a=1)
        if failed:
            return None
        drop, length = float(slope @ step), 1.0
        while (then := loss(c - length * step)) > now - 1e-4 * length * drop and length > 1e-3:
            length *= 0.5
        gained, now, c = now - then, then, c - length * step
        if gained <= 1e-4 * abs(now):
            break
    return c
