"""How far two rankings agree: Kendall's tau-b, and how many independent comparisons that rests on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from blackbox_zo._typing import Floats, Ints
from blackbox_zo.feedback import Ranking
from oracles.ranking.raters._models import wins_of

__all__ = ["Agreement", "Duplicate", "adjacent", "agreement_of", "tally", "tally_of"]


class Agreement(NamedTuple):
    """How far answers agree with something.

    Attributes:
        tau: Kendall's tau-b over all rounds together: 1 if every pair is in the same order, -1 if every pair is in the
            opposite one, 0 for chance. NaN if no pair was compared.
        stderr: Its standard error; NaN likewise.
        n: Number of rounds with a pair to compare.
    """

    tau: float
    stderr: float
    n: int


class Duplicate(NamedTuple):
    """A check: two positions show the same candidate, and must be tied or next to each other.

    Attributes:
        first: A position.
        second: The other position.
    """

    first: int
    second: int


def tally(a: Ints, b: Ints) -> Floats:
    """Compare two orders of the same candidates.

    With C pairs in the same order, D in opposite ones and S = C - D, the two orders count as

        n = (C + D)² / Var S

    independent comparisons, of which n C / (C + D) agree. Var S is that of two orders without any relation, with ties
    (Kendall 1970, Rank Correlation Methods, section 4.3): two orders of m candidates without ties have n =
    9 m (m - 1) / (2 (2 m + 5)), 12 for m = 8, since their m (m - 1) / 2 pairs depend on each other.

    Args:
        a: The place of each candidate, lower is better, -1 is absent; shape (m,).
        b: Likewise.

    Returns:
        The comparisons that agree and that do not, S, the denominator of tau-b, and 1 if there is a pair to compare,
        shape (5,).
    """
    both = (a >= 0) & (b >= 0)
    a, b = a[both], b[both]
    m = len(a)
    i, j = np.triu_indices(m, 1)
    up, right = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
    same, against = float((up * right > 0).sum()), float((up * right < 0).sum())
    if same + against == 0:
        return np.zeros(5)
    t, u = (np.bincount(places).astype(np.float64) for places in (a, b))
    pairs_t, pairs_u = float((t * (t - 1)).sum()), float((u * (u - 1)).sum())
    variance = (m * (m - 1) * (2 * m + 5) - (t * (t - 1) * (2 * t + 5)).sum() - (u * (u - 1) * (2 * u + 5)).sum()) / 18
    variance += pairs_t * pairs_u / (2 * m * (m - 1))
    if m > 2:
        triples = (t * (t - 1) * (t - 2)).sum() * (u * (u - 1) * (u - 2)).sum()
        variance += triples / (9 * m * (m - 1) * (m - 2))
    each = (same + against) / float(variance)
    possible = np.sqrt((m * (m - 1) - pairs_t) * (m * (m - 1) - pairs_u)) / 2
    return np.array([each * same, each * against, same - against, possible, 1.0])


def tally_of(a: Ranking, b: Ranking) -> Floats:
    """`tally` of two answers about the same candidates. The pairs of an answer in several parts are independent."""
    if len(a.levels) == len(b.levels) == 1:
        return tally(a.levels[0], b.levels[0])
    leads = [np.sign(wins - wins.T)[np.triu_indices(a.n, 1)] for wins in (wins_of(a), wins_of(b))]
    same, against = (float((leads[0] * leads[1] * sign > 0).sum()) for sign in (1, -1))
    possible = np.sqrt(np.abs(leads[0]).sum() * np.abs(leads[1]).sum())
    return np.array([same, against, same - against, possible, float(same + against > 0)])


def agreement_of(tallied: Floats) -> Agreement:
    """The agreement that a sum of tallies shows.

    The standard error is that of the share of independent comparisons that agree: with a uniform prior, twice the
    standard deviation of its Beta posterior. It is not zero where all agree.
    """
    same, against, score, possible, rounds = tallied.tolist()
    if possible == 0:
        return Agreement(float("nan"), float("nan"), int(rounds))
    tau, n = score / possible, same + against
    a, b = 1 + n * (1 + tau) / 2, 1 + n * (1 - tau) / 2
    return Agreement(tau, 2 * float(np.sqrt(a * b / (n + 3))) / (n + 2), int(rounds))


def adjacent(ranking: Ranking, check: Duplicate) -> tuple[bool, float]:
    """Whether two positions are tied or next to each other, and the chance of it if the places were dealt out blindly.

    For a full order of m candidates that chance is 2 / m.
    """
    level = ranking.levels[0]
    first, second = int(level[check.first]), int(level[check.second])
    held = np.bincount(level[level >= 0]).astype(np.float64)
    m = float(held.sum())
    near = float((held * (held - 1)).sum() + 2 * (held[1:] * held[:-1]).sum())
    return abs(first - second) <= 1, near / (m * (m - 1)) if m > 1 else 1.0
