"""What pairwise comparisons that contradict each other say of each candidate, by belief propagation."""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist

import numpy as np

from blackbox_zo._typing import Floats
from blackbox_zo.feedback import Ranking

__all__ = ["contradictory_wins", "expected_normals", "posterior"]

POINTS = 41
"""Points of the grid on which a candidate's z lies; all are as probable before an answer is known."""

SLOPE = 0.2
"""Scale of the logistic curve, in standard deviations of the candidates: those closer than this are hard to tell."""

GUESSED, GUESSES = 1.0, 10.0
"""The prior of the lapse rate: as if so many of so many earlier comparisons had been lapses."""

_SWEEPS, _TOLERANCE = 25, 0.05


def expected_normals(ranking: Ranking) -> Floats | None:
    """The posterior mean of each candidate's z, the best has the largest, shape (n,); they sum to 0.

    The candidates are n independent standard normal numbers z, as draws of a search distribution are along a gradient.
    i is said to be better than j with the probability that psychometrics gives to a choice with lapses (Wichmann &
    Hill 2001),

    `lapse + (1 - 2 lapse) / (1 + exp(-(z_i - z_j) / SLOPE))`.

    The lapse rate is the mode of its posterior, by expectation maximisation. Net wins take each comparison for as good
    as any other; this posterior knows that a strange defeat of the best by the worst is a lapse. Without
    contradictions the expected order statistics are the answer, and no model is needed.

    Returns:
        None where the ranking is not made of pairs, or no pairs contradict each other.
    """
    wins = contradictory_wins(ranking)
    if wins is None:
        return None
    z, _ = posterior(wins)
    z -= z.mean()
    return z


def contradictory_wins(ranking: Ranking) -> Floats | None:
    """How often i was said to be better than j, by weight, shape (n, n); None where nothing is contradicted."""
    if len(ranking.levels) < 2:
        return None
    present = (ranking.levels >= 0).sum(axis=1)
    if present.max() > 2:
        return None
    pairs = ranking.levels[present == 2]
    weights = np.ones(len(pairs)) if ranking.weights is None else ranking.weights[present == 2]
    first = (pairs >= 0).argmax(axis=1)
    second = ranking.n - 1 - (pairs[:, ::-1] >= 0).argmax(axis=1)
    row = np.arange(len(pairs))
    ahead = pairs[row, second] - pairs[row, first]
    wins = np.zeros((ranking.n, ranking.n))
    np.add.at(wins, (first[ahead > 0], second[ahead > 0]), weights[ahead > 0])
    np.add.at(wins, (second[ahead < 0], first[ahead < 0]), weights[ahead < 0])
    left, lost = np.arange(ranking.n), wins > 0
    while len(left):  # take away who lost to none of those left: in a circle everybody lost
        beaten = lost[np.ix_(left, left)].any(axis=0)
        if beaten.all():
            return wins
        left = left[beaten]
    return None


def posterior(wins: Floats, lapse: float | None = None) -> tuple[Floats, float]:
    """Posterior means of z, and the lapse rate, by belief propagation (Pearl 1988; Mezard & Montanari 2009, ch. 14).

    Where comparisons form no loop this is exact but for the grid. With all pairs of many candidates compared, each
    comparison says little, and it is as good as exact.

    Args:
        wins: `wins[i, j]`, how often i was said to be better than j, shape (n, n), zero on the diagonal.
        lapse: The rate, above 0 and below 0.5; None to estimate it.

    Returns:
        The means, shape (n,), and the lapse rate.
    """
    z, right = _grid()
    n, upper = len(wins), np.triu(wins == wins.T, 1)
    i, j = np.nonzero((wins > wins.T) | (upper & (wins > 0)))  # each pair once, i not the loser
    kinds, kind = np.unique(np.stack((wins[i, j], wins[j, i]), axis=1), axis=0, return_inverse=True)
    groups = [np.flatnonzero(kind.reshape(-1) == g) for g in range(len(kinds))]
    rate = GUESSED / GUESSES if lapse is None else lapse
    messages, belief = np.zeros((n, n, POINTS)), np.zeros((n, POINTS))  # [i, j]: from j to i; logarithms
    for _ in range(_SWEEPS):
        of_i, of_j = _softmax(belief[i] - messages[i, j]), _softmax(belief[j] - messages[j, i])
        new, lapses = np.zeros_like(messages), 0.0
        says = rate + (1 - 2 * rate) * right  # the probability that i is said to be better, [z of i, z of j]
        for (won, lost), these in zip(kinds.tolist(), groups, strict=True):
            answer = won * np.log(says) + lost * np.log1p(-says)
            answer = np.exp(answer - answer.max())
            a, b = of_i[these], of_j[these]
            new[i[these], j[these]] = np.log(b @ answer.T)
            to_j = a @ answer
            new[j[these], i[these]] = np.log(to_j)
            wrong = won * rate * (1 - right) / says + lost * rate * right / (1 - says)
            lapses += float((((a @ (answer * wrong)) * b).sum(axis=1) / (to_j * b).sum(axis=1)).sum())
        change = float(np.abs(new - messages).max())
        messages, belief = new, new.sum(axis=1)
        if lapse is None:
            rate = (GUESSED + lapses) / (GUESSES + float(wins.sum()))
        if change < _TOLERANCE:
            break
    means: Floats = _softmax(belief) @ z
    return means, rate


def _softmax(logs: Floats) -> Floats:
    p: Floats = np.exp(logs - logs.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return p


@lru_cache(maxsize=1)
def _grid() -> tuple[Floats, Floats]:
    """The grid of z, shape (POINTS,), and the probability without lapses, [z of i, z of j]."""
    z = np.array([NormalDist().inv_cdf((a + 0.5) / POINTS) for a in range(POINTS)])
    return z, 1 / (1 + np.exp((z - z[:, None]) / SLOPE))
