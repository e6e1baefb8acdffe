"""Strategy parameters of CMA-ES (Hansen 2016, arXiv 1604.00772, table 1) and weights for answers with ties."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from blackbox_zo._typing import Floats
from blackbox_zo.feedback import Ranking

__all__ = ["Constants", "all_ranks", "constants", "order_statistics", "recombination"]


class Constants(NamedTuple):
    """Weights by place, shape (n,), and the rates of the updates, in the tutorial's names."""

    weights: Floats
    mu_eff: float
    c_sigma: float
    d_sigma: float
    c_c: float
    c_1: float
    c_mu: float


@lru_cache(maxsize=64)
def constants(d: int, n: int, covariance: str) -> Constants:
    """Strategy parameters for dimension d and n offspring (Hansen 2016, table 1)."""
    raw = math.log((n + 1) / 2) - np.log(np.arange(1, n + 1))  # eq. (49)
    good, bad = np.maximum(raw, 0.0), np.maximum(-raw, 0.0)
    mu_eff = float(good.sum() ** 2 / (good @ good))  # eq. (8)
    mu_eff_bad = float(bad.sum() ** 2 / (bad @ bad))
    c_sigma = (mu_eff + 2) / (d + mu_eff + 5)  # eq. (55)
    d_sigma = 1 + 2 * max(0.0, math.sqrt((mu_eff - 1) / (d + 1)) - 1) + c_sigma
    c_c = (4 + mu_eff / d) / (d + 4 + 2 * mu_eff / d)  # eq. (56)
    c_1 = 2 / ((d + 1.3) ** 2 + mu_eff)  # eq. (57)
    c_mu = 2 * (0.25 + mu_eff + 1 / mu_eff - 2) / ((d + 2) ** 2 + mu_eff)  # eq. (58)
    if covariance in ("diagonal", "low-rank"):  # Ros & Hansen 2008, section 3
        c_1, c_mu = c_1 * (d + 2) / 3, c_mu * (d + 2) / 3
        c_1 = min(c_1, 1.0)
    c_mu = min(1 - c_1, c_mu)
    share = min(1 + c_1 / c_mu, 1 + 2 * mu_eff_bad / (mu_eff + 2), (1 - c_1 - c_mu) / (d * c_mu))  # eqs. (50)-(52)
    weights = good / good.sum() - bad * (share / bad.sum())  # eq. (53)
    return Constants(weights, mu_eff, c_sigma, d_sigma, c_c, c_1, c_mu)


@lru_cache(maxsize=64)
def order_statistics(n: int) -> Floats:
    """The expected values of n standard normal numbers in order, largest first, shape (n,)."""
    z = np.linspace(-9.0, 9.0, 1801)
    below = np.array([0.5 * math.erfc(-v / math.sqrt(2.0)) for v in z])
    log_below, log_above = np.log(below), np.log(below[::-1])
    r = np.arange(1, n + 1)[:, None]
    ways = math.lgamma(n + 1) - np.array([[math.lgamma(i) + math.lgamma(n - i + 1)] for i in range(1, n + 1)])
    density = np.exp(ways + (r - 1) * log_above + (n - r) * log_below - 0.5 * z * z) / math.sqrt(2 * math.pi)
    sums: Floats = (density @ z) * (z[1] - z[0])
    out: Floats = (sums - sums[::-1]) / 2
    out.flags.writeable = False
    return out


ENOUGH = 0.6
"""All ranks move the mean if d is at least this many times W² (see `all_ranks`), by `benchmarks/weights.py`."""


def all_ranks(d: int, ranking: Ranking, c: Constants, normals: Floats | None = None) -> tuple[Floats, Constants] | None:
    """Weights of the move by all ranks (Arnold 2006), and the step-size control that goes with them.

    A candidate weighs what is expected of its place among n normal numbers; where only sets are known to be in order,
    each member what is expected of the set. On the sphere with d much larger than W², the sum of the squares, the
    longest advance is made with `sigma = R / (3 sqrt(d))`, R the distance, if they are multiplied by
    `3 sqrt(d) / (d + W²)`. It shrinks R by `W² / (2 (d + W²))` a step; d_sigma lets sigma shrink as fast once its path
    is 20 % short.

    That the opposite of a bad step is good holds only where most of its length is at right angles to the gradient. So
    with d below 2 W² the negative weights shrink by `d / (2 W²)`, as those of the covariance do where d is small
    (alpha_posdef; Hansen 2016, eq. (52)), the positive ones sum to `max(1, d / W²)` at most, and sigma changes more
    slowly. With d below `ENOUGH` times W² the move is better left to the better half.

    Args:
        d: Dimension.
        ranking: The answer; it must hold at least one comparison.
        c: All other constants.
        normals: What is expected of each query among n normal numbers, shape (n,), where the ranking does not say it:
            the posterior mean from answers that err. Its W² is smaller, so steps are shorter the less is known.

    Returns:
        Weights, shape (n,), and the constants; None where the better half should move the mean.
    """
    w = recombination(order_statistics(ranking.n), ranking) if normals is None else normals
    square = float(w @ w)
    if d < ENOUGH * square:
        return None
    most = max(1.0, d / square) / float(np.maximum(w, 0.0).sum())
    w = np.where(w < 0, w * min(1.0, d / (2 * square)), w)
    square = float(w @ w)
    factor = min(3 * math.sqrt(d) / (d + square), most)
    c_sigma = 1 / math.sqrt(d + 3 * square * min(1.0, 4 * square / d))
    d_sigma = max(min(0.5, 0.4 * c_sigma * (d + square) / square), 2 * c_sigma)
    return w * factor, c._replace(mu_eff=1 / (factor * factor * square), c_sigma=c_sigma, d_sigma=d_sigma)


def recombination(weights: Floats, ranking: Ranking) -> Floats:
    """The weight of each query: `weights` by place, ties sharing the mean of their places."""
    net = ranking.net_losses()
    order = net.argsort(kind="stable")
    ordered = net[order]
    if len(weights) == ranking.n and (ordered[1:] > ordered[:-1]).all():
        out = np.empty(ranking.n)
        out[order] = weights
        return out
    _, place, counts = np.unique(net, return_inverse=True, return_counts=True)
    if len(weights) != ranking.n:  # a step cut short by the budget
        weights = constants(1, max(ranking.n, 2), "isotropic").weights[: ranking.n]
    ends = np.cumsum(counts)
    sums = np.concatenate(([0.0], np.cumsum(weights)))
    means: Floats = (sums[ends] - sums[ends - counts]) / counts
    return means[place.reshape(-1)]
