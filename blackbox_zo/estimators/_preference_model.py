"""Utility learnt from rankings: a Gaussian process behind Luce's choices, by Laplace's approximation.

Equation numbers are those of Rasmussen & Williams 2006, "Gaussian Processes for Machine Learning". Utility is in units
of the noise of an answer, so that the signal (its prior standard deviation) says how certain answers are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from blackbox_zo._typing import Floats, Ints
from blackbox_zo.estimators._gaussian_process import matern
from blackbox_zo.feedback import Ranking

__all__ = ["Choices", "Posterior", "fit", "laplace", "likelihood", "no_choices"]

RANK = 200
"""Maximum number of points with free utilities; the utilities of other points follow from these."""

_TOLERANCE = 1e-9
"""Maximum residual variance, as a share of the prior's, of a utility that is not free."""


class Choices(NamedTuple):
    """c choices: in each, a winner was chosen over some losers, e losers in all, ordered by choice.

    Attributes:
        winner: The point that was chosen, shape (c,).
        weight: Weight of the choice, shape (c,), positive.
        choice: Which choice a loser belongs to, shape (e,), ascending; every choice has at least one.
        loser: A point that was not chosen then, shape (e,).
    """

    winner: Ints
    weight: Floats
    choice: Ints
    loser: Ints

    def plus(self, ranking: Ranking, which: Ints) -> Choices:
        """Add the choices of a ranking: each place was chosen over all worse ones.

        A full order without ties then has the Plackett-Luce likelihood. Each member of a tie was chosen over all that
        are worse than the tie (Breslow 1974); members are not compared with each other.

        Args:
            ranking: Any parts and weights.
            which: The point that each position of the ranking shows, shape (n,).
        """
        winner, weight, choice, loser = ([part] for part in self)
        count = len(self.winner)
        weights = np.ones(len(ranking.levels)) if ranking.weights is None else ranking.weights
        for level, w in zip(ranking.levels, weights.tolist(), strict=True):
            worse = (level[:, None] < level) & (level[:, None] >= 0)
            worse &= which[:, None] != which  # one point shown twice is not better than itself
            better = np.flatnonzero(worse.any(axis=1))
            row, column = np.nonzero(worse[better])
            winner.append(which[better])
            weight.append(np.full(len(better), w))
            choice.append(row + count)
            loser.append(which[column])
            count += len(better)
        return Choices(*(np.concatenate(part) for part in (winner, weight, choice, loser)))  # type: ignore[arg-type]

    def among(self, kept: Ints) -> Choices:
        """The choices that remain when only some points are kept, with new indices.

        Args:
            kept: Indices of points, ascending.
        """
        new = np.full(1 + max(self.winner.max(initial=-1), self.loser.max(initial=-1), kept.max(initial=-1)), -1)
        new[kept] = np.arange(len(kept))
        edge = (new[self.loser] >= 0) & (new[self.winner[self.choice]] >= 0)
        left = np.bincount(self.choice[edge], minlength=len(self.winner)) > 0
        choice = (np.cumsum(left) - 1)[self.choice[edge]]
        return Choices(new[self.winner[left]], self.weight[left], choice, new[self.loser[edge]])


def no_choices() -> Choices:
    """None yet."""
    none = np.empty(0, dtype=np.intp)
    return Choices(none, np.empty(0), none, none)


def likelihood(f: Floats, choices: Choices) -> tuple[float, Floats, Floats]:
    """Log likelihood of choices with `p(w over L) = exp(f_w) / (exp(f_w) + sum_(l in L) exp(f_l))` (Luce 1959).

    Args:
        f: Utilities, shape (n,).
        choices: At least one.

    Returns:
        `log p`; its gradient, shape (n,); and P, shape (c, n), the chance of each point in each choice, with which
        minus the second derivative is `diag(weight @ P) - P' diag(weight) P`.
    """
    winner, weight, choice, loser = choices
    first = np.flatnonzero(np.diff(choice, prepend=-1))
    behind = f[loser] - f[winner[choice]]
    most = np.maximum(np.maximum.reduceat(behind, first), 0.0)
    odds = np.exp(behind - most[choice])
    total = np.exp(-most) + np.add.reduceat(odds, first)
    p = np.zeros((len(winner), len(f)))
    p[choice, loser] = odds / total[choice]
    p[np.arange(len(winner)), winner] = np.exp(-most) / total
    gradient = np.bincount(winner, weight, len(f)) - weight @ p
    return -float(weight @ (most + np.log(total))), gradient, p


class Posterior(NamedTuple):
    """The utilities of n points, `f = factor z` with z near N(mode, (root root')^-1), where `K = factor factor'`.

    Attributes:
        free: Points whose utilities are free, shape (r,); rows of `factor` for these are lower triangular.
        factor: Shape (n, r).
        mode: Shape (r,).
        root: Lower triangular, shape (r, r).
        slope: `grad log p(y | f)` at the mode, shape (n,); the mean at x is `k(x, X) slope` (eq. (3.21)).
        evidence: Laplace's `log p(y | X)`.
    """

    free: Ints
    factor: Floats
    mode: Floats
    root: Floats
    slope: Floats
    evidence: float

    @property
    def utility(self) -> Floats:
        """The most likely utilities, shape (n,)."""
        return self.factor @ self.mode


def laplace(kernel: Floats, signal: float, choices: Choices, slope: Floats) -> Posterior:
    """Find the mode by Newton's method with a line search; the problem is concave, so there is one.

    In the whitened `z` the curvature is `I + factor' W factor`, at least 1, so points that nearly coincide do no harm:
    a pivoted Cholesky factor leaves out those that follow from others.

    Args:
        kernel: K for a unit signal, shape (n, n).
        signal: Prior standard deviation of utility, in units of the noise.
        choices: At least one.
        slope: Initial guess of `Posterior.slope`, shape (n,); may be zeros.
    """
    from scipy.linalg import cholesky, solve_triangular

    free, factor = _pivoted(kernel)
    factor *= signal
    best = -np.inf
    for start in (factor.T @ slope, np.zeros(len(free))):
        log_p, gradient, p = likelihood(factor @ start, choices)
        if log_p - 0.5 * float(start @ start) > best:
            best, z, found = log_p - 0.5 * float(start @ start), start, (gradient, p)
    for _ in range(100):
        gradient, p = found
        shared = p @ factor
        shared *= np.sqrt(choices.weight)[:, None]
        own = np.sqrt(choices.weight @ p)[:, None] * factor
        curvature = own.T @ own - shared.T @ shared
        curvature[np.diag_indices(len(free))] += 1.0
        root = cholesky(curvature, lower=True, check_finite=False)
        ascent = factor.T @ gradient - z
        step = solve_triangular(root, ascent, lower=True, check_finite=False)
        gain = float(step @ step)
        if gain < 1e-8:
            break
        step = solve_triangular(root, step, lower=True, trans="T", check_finite=False)
        length = 1.0
        while length > 1e-8:
            there = z + length * step
            log_p, gradient, p = likelihood(factor @ there, choices)
            if log_p - 0.5 * float(there @ there) >= best + 1e-4 * length * gain:
                break
            length *= 0.5
        else:
            break
        best, z, found = log_p - 0.5 * float(there @ there), there, (gradient, p)
    evidence = best - float(np.log(np.diag(root)).sum())  # eq. (3.32)
    return Posterior(free, factor, z, root, found[0], evidence)


def _pivoted(kernel: Floats) -> tuple[Ints, Floats]:
    """`kernel ~ factor factor'`: the pivots, shape (r,), and the factor in the order of the points, shape (n, r)."""
    from scipy.linalg.lapack import dpstrf

    lower, pivots, rank, _ = dpstrf(kernel, tol=_TOLERANCE, lower=1)
    rank, order = min(int(rank), RANK), pivots - 1
    factor = np.empty((len(kernel), rank))
    factor[order] = np.tril(lower)[:, :rank]
    return order[:rank], factor


def fit(
    distances: Floats, choices: Choices, slope: Floats, guess: tuple[float, float], typical: float
) -> tuple[float, float, Posterior]:
    """Length scale and signal by evidence and priors, in a few trials around those of the step before.

    The priors are log-normal: the length around `typical` with a spread of e, the signal around 3 with one of e^1.5.

    Args:
        distances: Between all points, shape (n, n).
        choices: At least one.
        slope: See `laplace`.
        guess: Length and signal to start from.
        typical: The length to expect, in the unit of the distances.

    Returns:
        Length, signal and the posterior that goes with them.
    """
    tried: dict[tuple[float, ...], tuple[float, Posterior]] = {}

    def evidence(theta: tuple[float, ...]) -> float:
        if theta not in tried:
            length, signal = np.exp(theta)
            found = laplace(matern(distances, length), float(signal), choices, slope)
            away = ((theta[0] - np.log(typical)) / 1.0, (theta[1] - np.log(3.0)) / 1.5)
            tried[theta] = found.evidence - 0.5 * (away[0] ** 2 + away[1] ** 2), found
        return tried[theta][0]

    theta: tuple[float, ...] = (float(np.log(guess[0])), float(np.log(guess[1])))
    width = 0.5
    while len(tried) < 10 and width > 0.1:
        near = [(theta[0] + i * width, min(theta[1] + j * width, 6.0)) for i, j in ((1, 0), (-1, 0), (0, 1), (0, -1))]
        better = next((there for there in near if evidence(there) > evidence(theta) + 1e-3), None)
        if better is None:
            width *= 0.5
        else:
            theta = better
    length, signal = np.exp(theta)
    return float(length), float(signal), tried[theta][1]
