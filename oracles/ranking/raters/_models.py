"""Fit utilities of candidates to rankings: Bradley-Terry, Thurstone, Plackett-Luce."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np

from blackbox_zo._checks import check_positive
from blackbox_zo._typing import Floats
from blackbox_zo.feedback import Ranking
from oracles.ranking.raters._noise import BradleyTerry, PlackettLuce, Thurstone

__all__ = ["Likelihood", "Utilities", "utilities", "wins_of"]

Likelihood: TypeAlias = BradleyTerry | Thurstone | PlackettLuce
"""The noise models whose likelihood is smooth in the utilities."""


class Utilities(NamedTuple):
    """The posterior of the candidates' utilities.

    Attributes:
        mean: The posterior mode, shape (n,); higher is better, 0 is the prior's mean. In units of f.
        stderr: Standard errors, shape (n,).
        covariance: Covariance of the Laplace approximation at the mode, shape (n, n).
    """

    mean: Floats
    stderr: Floats
    covariance: Floats


def utilities(ranking: Ranking, model: Likelihood | None = None, prior: float = 1.0) -> Utilities:
    """The maximum a posteriori utilities u of candidates, given a ranking with any number of parts.

    The prior is u ~ N(0, prior² I). An edge i -> j, "i is better than j", of weight w adds to the log likelihood

    - `w log(1 / (1 + exp(-(u_i - u_j) / T)))` with `BradleyTerry(T)`,
    - `w log Phi((u_i - u_j) / s)` with `Thurstone(s)`;

    with `PlackettLuce(T)`, a part of weight w, an ordered partition of candidates, adds

    - `w sum_i log(exp(u_i / T) / (exp(u_i / T) + sum_j exp(u_j / T)))`, i over all placed, j over all worse.

    A tie counts as half a win for each, except in the last place of a part, which may hold candidates that were not
    looked at. The log posterior is concave and is maximised by Newton's method.

    For orders of more than two candidates use `PlackettLuce`: the other models treat the edges of an order as
    independent, and are overconfident.

    Args:
        ranking: The answer; n candidates.
        model: The noise model; None means `PlackettLuce(1.0)`.
        prior: Prior standard deviation of the utilities, positive, in units of f.

    Raises:
        ValueError: `prior` is not positive.

    Example:
        >>> fitted = utilities(Ranking.pairs([0, 0, 0, 1], [1, 1, 1, 0], n=3), BradleyTerry())
        >>> fitted.mean.round(2), fitted.stderr.round(2)
        (array([ 0.34, -0.34,  0.  ]), array([0.82, 0.82, 1.  ]))
    """
    check_positive("utilities", prior=prior)
    model = PlackettLuce() if model is None else model
    if isinstance(model, PlackettLuce):
        unit, stages, pairs = model.temperature, _stages(ranking), wins_of(ranking, half_ties=True, edges=False)
    else:
        unit = model.temperature if isinstance(model, BradleyTerry) else model.scale
        stages, pairs = [], wins_of(ranking, half_ties=True)
    precision = (unit / prior) ** 2  # of u / unit

    def posterior(u: Floats) -> tuple[float, Floats, Floats]:
        value, gradient, hessian = _derivatives(u, model, stages, pairs)
        return value - 0.5 * precision * float(u @ u), gradient - precision * u, hessian + precision * np.eye(len(u))

    u: Floats = np.zeros(ranking.n)
    value, gradient, hessian = posterior(u)
    for _ in range(200):
        step = np.asarray(np.linalg.solve(hessian, gradient), dtype=np.float64)
        if float(np.abs(step).max(initial=0.0)) < 1e-10:
            break
        while (further := posterior(u + step))[0] < value - 1e-12 * abs(value):  # the Newton step was too long
            step *= 0.5
        u += step
        value, gradient, hessian = further
    covariance = np.asarray(unit**2 * np.linalg.inv(hessian), dtype=np.float64)
    return Utilities(unit * u, np.sqrt(np.diagonal(covariance)), covariance)


def wins_of(ranking: Ranking, *, half_ties: bool = False, edges: bool = True) -> Floats:
    """The weight of all edges i -> j, shape (n, n).

    Args:
        ranking: The answer.
        half_ties: Count a tie as half a win for each, except in the last place of a part.
        edges: False counts only ties.
    """
    out = np.zeros((ranking.n, ranking.n))
    weights = np.ones(len(ranking.levels)) if ranking.weights is None else ranking.weights
    for level, weight in zip(ranking.levels, weights.tolist(), strict=True):
        inside = np.flatnonzero(level >= 0)
        place = level[inside]
        here = np.zeros((len(inside), len(inside)))
        if edges:
            here += place[:, None] < place
        if half_ties and len(inside):
            here += 0.5 * ((place[:, None] == place) & (place < place.max()) & ~np.eye(len(inside), dtype=np.bool_))
        out[np.ix_(inside, inside)] += weight * here
    return out


class _Stage(NamedTuple):
    """One candidate was preferred to others: positions, with the chosen one first, and the weight."""

    among: list[int]
    weight: float


def _stages(ranking: Ranking) -> list[_Stage]:
    out = []
    weights = np.ones(len(ranking.levels)) if ranking.weights is None else ranking.weights
    for level, weight in zip(ranking.levels, weights.tolist(), strict=True):
        for i in np.flatnonzero(level >= 0).tolist():
            worse = np.flatnonzero(level > level[i]).tolist()
            if worse:
                out.append(_Stage([i, *worse], weight))
    return out


def _derivatives(u: Floats, model: Likelihood, stages: list[_Stage], pairs: Floats) -> tuple[float, Floats, Floats]:
    """The log likelihood, its gradient, and minus its Hessian at u, in units of the model's scale."""
    value, gradient, slope, bend = 0.0, np.zeros(len(u)), np.zeros_like(pairs), np.zeros_like(pairs)
    i, j = np.nonzero(pairs)
    z, w = u[i] - u[j], pairs[i, j]
    logs, slopes, bends = _probit(z) if isinstance(model, Thurstone) else _logistic(z)
    value += float(w @ logs)
    slope[i, j], bend[i, j] = w * slopes, w * bends
    gradient += slope.sum(axis=1) - slope.sum(axis=0)
    bend += bend.T
    hessian = np.diag(bend.sum(axis=1)) - bend
    for among, weight in stages:
        e = np.exp(u[among] - u[among].max())
        p = e / e.sum()
        value += weight * float(np.log(p[0]))
        gradient[among] -= weight * p
        gradient[among[0]] += weight
        hessian[np.ix_(among, among)] += weight * (np.diag(p) - np.outer(p, p))
    return value, gradient, hessian


def _logistic(z: Floats) -> tuple[Floats, Floats, Floats]:
    """`log(1 / (1 + exp(-z)))`, its derivative, and minus its second derivative."""
    right = np.exp(-np.logaddexp(0.0, -z))
    return -np.logaddexp(0.0, -z), 1.0 - right, right * (1.0 - right)


def _probit(z: Floats) -> tuple[Floats, Floats, Floats]:
    """`log Phi(z)`, its derivative, and minus its second derivative."""
    from scipy.special import log_ndtr

    logs = log_ndtr(z)
    ratio = np.exp(-0.5 * z * z - 0.5 * np.log(2 * np.pi) - logs)
    return logs, ratio, ratio * (z + ratio)
