"""Strategy parameters of CMA-ES (Hansen 2016, arXiv 1604.00772, table 1) and weights for answers with ties."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from blackbox_zo._typing import Floats
from blackbox_zo.feedback import Ranking

__all__ = ["Constants", "constants", "recombination"]


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
    if covariance == "diagonal":  # Ros & Hansen 2008, section 3
        c_1, c_mu = c_1 * (d + 2) / 3, c_mu * (d + 2) / 3
        c_1 = min(c_1, 1.0)
    c_mu = min(1 - c_1, c_mu)
    share = min(1 + c_1 / c_mu, 1 + 2 * mu_eff_bad / (mu_eff + 2), (1 - c_1 - c_mu) / (d * c_mu))  # eqs. (50)-(52)
    weights = good / good.sum() - bad * (share / bad.sum())  # eq. (53)
    return Constants(weights, mu_eff, c_sigma, d_sigma, c_c, c_1, c_mu)


def recombination(weights: Floats, ranking: Ranking) -> Floats:
    """The weight of each query: `weights` by place, ties sharing the mean of their places."""
    net = ranking.net_losses()
    order = np.argsort(net, kind="stable")
    if len(weights) == ranking.n and (np.diff(net[order]) > 0).all():
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
