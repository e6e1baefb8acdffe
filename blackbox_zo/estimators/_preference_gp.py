"""`PreferenceGP`: a Gaussian process of utility, learnt from rankings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from blackbox_zo._checks import check_at_least, check_positive
from blackbox_zo._typing import Floats, Ints, override
from blackbox_zo.directions import Dense
from blackbox_zo.estimators._base import Estimator, vector_of
from blackbox_zo.estimators._gaussian_process import distances, matern
from blackbox_zo.estimators._preference_model import Choices, fit, laplace, no_choices
from blackbox_zo.estimators._preference_paths import draw
from blackbox_zo.feedback import Feedback, Ranking, Values
from blackbox_zo.randomness import Key
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Variable, Vector

__all__ = ["PreferenceGP"]

FARTHEST = 2.0
"""Maximum distance of candidates from x along a coordinate, in radii."""

APART = 0.02
"""Minimum distance between the candidates of a round along some coordinate, as a share of the region."""

POOL, NEAR = 256, 64
"""Number of random points in the region, and near x; the ascent of a utility starts from the best of them."""

SAME = 1e-9
"""Points that differ by less than this in every coordinate, in radii, are merged."""


class PreferenceState(NamedTuple):
    """The latest points and the choices among them, the last fit, and the size of the region.

    Attributes:
        points: In the variable's own coordinates, oldest first, shape (n, d), n ≤ history.
        winner: See `Choices`; so with the next three.
        weight: Shape (c,).
        choice: Shape (e,).
        loser: Shape (e,).
        slope: Of the log likelihood at the last fit, shape (n,).
        length: Length scale, in radii.
        signal: Prior standard deviation of utility, in units of an answer's noise.
        reach: How far from x candidates lie along a coordinate, in radii.
    """

    points: Floats
    winner: Ints
    weight: Floats
    choice: Ints
    loser: Ints
    slope: Floats
    length: float
    signal: float
    reach: float

    @property
    def choices(self) -> Choices:
        """All choices among the points."""
        return Choices(self.winner, self.weight, self.choice, self.loser)


@final
@dataclass(frozen=True)
class PreferenceGP(Estimator):
    """Preferential optimisation with a Gaussian process (Chu & Ghahramani 2005, ICML), for up to a hundred dimensions.

    Utility is a Gaussian process u (Matérn 5/2), and i is preferred to all of the set L with probability
    `exp(u_i) / (exp(u_i) + sum_(l in L) exp(u_l))`: the Plackett-Luce model of rankings, or for duels, `n_queries=2`,
    the Bradley-Terry model. Answers may repeat, contradict each other, and be partial or weighted. Length scale and
    signal variance are fitted in each step by Laplace's approximation of the evidence.

    A round shows x and the maxima of `n_queries - 1` utilities drawn from the posterior (Thompson sampling, by the
    paths of Wilson et al. 2020, ICML) in a box around x. Then x moves to the point of highest posterior mean among all
    that were shown. The box grows to twice the last move, and shrinks while x stays. Deviations of the draws from the
    mean are divided by `sqrt(d)`; otherwise most maxima in many dimensions lie in corners of the box.

    The first round shows x, the middle of the bounds where there are any, and a Latin hypercube over the box.

    Args:
        radius: Half width of the first box, positive, in units of the variable; at most half the distance between
            bounds.
        n_queries: m ≥ 2, the candidates of a round, x among them.
        n_ranked: How many of the best are used, 1 to m; None for all.
        history: How many points are kept, at least m: those shown last, of which x is always one. A step costs
            O(history³ + history² d).

    Raises:
        ValueError: An argument is out of its range.
    """

    radius: float
    n_queries: int = 8
    n_ranked: int | None = None
    history: int = 200

    accepts = (Values, Ranking)

    def __post_init__(self) -> None:
        check_positive("PreferenceGP", radius=self.radius)
        check_at_least("PreferenceGP", 2, n_queries=self.n_queries)
        if self.n_ranked is not None:
            check_at_least("PreferenceGP", 1, n_ranked=self.n_ranked)
            if self.n_ranked > self.n_queries:
                raise ValueError(
                    f"`PreferenceGP(n_ranked=...)` must be at most n_queries={self.n_queries}, got {self.n_ranked}."
                )
        check_at_least("PreferenceGP", self.n_queries, history=self.history)

    @override
    def start(self, variable: Variable) -> PreferenceState:
        d = vector_of(self, variable).size
        return PreferenceState(np.empty((0, d)), *no_choices(), np.empty(0), _typical(d), 3.0, 1.0)

    # -------------------------------------------------------------------------------------------------------- asking

    @override
    def sample(self, state: PreferenceState, variable: Variable, key: Key) -> Queries:
        # The first candidates are the middle of the bounds and a Latin hypercube over the box
        variable = vector_of(self, variable)
        x, unit = variable.value, self._unit(variable)
        away = state.reach * unit
        low, high = variable.project(np.stack((x - away, x + away)))
        box = np.stack(((low - x) / unit, (high - x) / unit))
        rng = key.generator("preference")
        m, d = self.n_queries - 1, variable.size
        if len(state.winner):
            u = _preferred(state, (state.points - x) / unit, box, m, rng)
        else:
            strata = rng.permuted(np.tile(np.arange(m), (d, 1)), axis=1).T
            u = box[0] + (strata + rng.random((m, d))) / m * (box[1] - box[0])
            middle = (_middle(variable) - x) / unit
            if np.abs(middle).max() > APART:
                u[0] = middle
        rows = np.concatenate((np.zeros((1, d)), u * unit))
        return Queries(Dense(variable.blocks, rows), np.arange(m + 1), np.ones(m + 1), x)

    def _unit(self, variable: Vector) -> Floats:
        """The unit of distance along each coordinate, shape (d,)."""
        low, high = variable.project(np.full((2, variable.size), [[-np.inf], [np.inf]]))
        unit: Floats = np.minimum(self.radius, (high - low) / 2.0)
        return unit

    # ----------------------------------------------------------------------------------------------------- answering

    @override
    def estimate(
        self, state: PreferenceState, variable: Variable, queries: Queries, feedback: Feedback
    ) -> tuple[PreferenceState, Step]:
        # A failed query loses to all others; without a comparison nothing changes
        variable = vector_of(self, variable)
        x, unit = variable.value, self._unit(variable)
        ranking = feedback.ranking(self.n_ranked)
        if not ranking.n_edges:
            return state, Step(Dense(variable.blocks, np.zeros((1, variable.size))), np.zeros(1))
        points, which = _joined(state.points, variable.project(queries.points()), unit)
        choices = state.choices.plus(ranking, which)
        slope = np.concatenate((state.slope, np.zeros(len(points) - len(state.points))))
        if len(points) > self.history:
            shown = np.arange(len(points))  # when a point was shown last; x, old as it may be, is shown in every round
            shown[which] = len(points)
            kept = np.sort(np.argsort(shown, kind="stable")[-self.history :])
            points, choices, slope = points[kept], choices.among(kept), slope[kept]
        u = (points - x) / unit
        guess = state.length, state.signal
        length, signal, posterior = fit(distances(u, u), choices, slope, guess, _typical(variable.size))
        best = int(np.argmax(posterior.utility))
        reach = self._reach(state.reach, float(np.abs(u[best]).max()), length, signal, variable.size)
        state = PreferenceState(points, *choices, posterior.slope, length, signal, reach)
        return state, Step(Dense(variable.blocks, (x - points[best])[None, :]), np.ones(1))

    def _reach(self, reach: float, moved: float, length: float, signal: float, d: int) -> float:
        """The next reach: twice the move, at most doubled and, with eight candidates, at least halved.

        It does not shrink below where candidates can still be told apart: near its maximum utility falls by about
        `signal (r / length)²`, and by two units of noise over the diagonal of a box of that size.
        """
        shrink: float = 0.5 ** min(1.0, (self.n_queries - 1) / 7.0)  # as much in n duels as in one round of n + 1
        wanted = min(reach * min(max(2.0 * moved / reach, shrink), 2.0), FARTHEST)
        floor: float = length * (2.0 / (signal * d)) ** 0.5
        return max(wanted, min(reach, floor))


def _middle(variable: Vector) -> Floats:
    """The point halfway between the bounds; where these are not both finite, as x; shape (d,)."""
    low, high = variable.project(np.full((2, variable.size), [[-np.inf], [np.inf]]))
    bounded = np.isfinite(high - low)
    low, high = np.where(bounded, low, variable.value), np.where(bounded, high, variable.value)
    out: Floats = low + (high - low) / 2.0
    return out


def _typical(d: int) -> float:
    """The expected length scale, in radii."""
    return float(np.sqrt(d))


def _preferred(s: PreferenceState, points: Floats, box: Floats, m: int, rng: np.random.Generator) -> Floats:
    """Maxima of m utilities from the posterior, distinct from each other and from x, shape (m, d), in radii from x."""
    (low, high), d = box, points.shape[1]
    posterior = laplace(matern(distances(points, points), s.length), s.signal, s.choices, s.slope)
    paths = draw(posterior, points, s.length, s.signal, d**-0.5, m, rng)
    inside = points[((points >= low) & (points <= high)).all(axis=1)]
    near = np.clip(0.2 * s.reach * rng.standard_normal((NEAR, d)), low, high)
    pool = np.concatenate((inside, low + rng.random((POOL, d)) * (high - low), near))
    values, apart = paths.values(pool), APART * s.reach
    chosen = np.zeros((1, d))
    for j in range(m):
        free = np.flatnonzero(_gap(pool, chosen) >= apart)
        free = free if free.size else np.arange(len(pool))  # more candidates than places
        start = pool[free[np.argmax(values[free, j])]]
        top = paths.climb(j, start, low, high)
        chosen = np.concatenate((chosen, (top if _gap(top[None], chosen)[0] >= apart else start)[None]))
    return chosen[1:]


def _gap(points: Floats, others: Floats) -> Floats:
    """The largest difference along a coordinate to the nearest of others, shape (n,); infinite without any."""
    out: Floats = distances(points, others, "chebyshev").min(axis=1, initial=np.inf)
    return out


def _joined(points: Floats, new: Floats, unit: Floats) -> tuple[Floats, Ints]:
    """All points without duplicates, and the index of each new one among them, shape (m,)."""
    which = np.empty(len(new), dtype=np.intp)
    for i, point in enumerate(new):
        gaps = np.abs((points - point) / unit).max(axis=1)
        if gaps.min(initial=np.inf) < SAME:
            which[i] = np.argmin(gaps)
        else:
            which[i] = len(points)
            points = np.concatenate((points, point[None]))
    return points, which
