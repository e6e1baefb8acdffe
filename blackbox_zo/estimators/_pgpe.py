"""`PGPE`: symmetric samples from a normal distribution whose standard deviations are learnt too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from blackbox_zo._checks import check_at_least, check_positive, check_share
from blackbox_zo._typing import Floats, override
from blackbox_zo.directions import Dense
from blackbox_zo.estimators._base import Estimator, vector_of
from blackbox_zo.estimators._cma_constants import recombination
from blackbox_zo.estimators._random_vector import plan
from blackbox_zo.feedback import Feedback, Ranking, Values
from blackbox_zo.randomness import Key, normals
from blackbox_zo.rules import ClipUp, Rule
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Variable

__all__ = ["PGPE"]


MOST_CHANGE = 0.2
"""Share by which a scale changes at most in a step."""


class PGPEState(NamedTuple):
    """The scale of each element, shape (d,)."""

    sigma: Floats


@final
@dataclass(frozen=True)
class PGPE(Estimator):
    """Parameter-exploring policy gradients (Sehnke et al. 2010, Neural Networks 23), with symmetric sampling.

    `N` pairs `x ± e_j`, e_j ~ N(0, diag(sigma²)), are asked. With r the rewards (minus the values),

    `g = -1/N sum_j (r+_j - r-_j) / 2 e_j`    (eq. (11)), and
    `sigma <- sigma + rate 1/N sum_j ((r+_j + r-_j) / 2 - b) (e_j² - sigma²) / sigma`    (eq. (12)),

    b the mean reward. As in Toklu, Liskowski & Srivastava 2020 (ClipUp, PPSN), rewards are replaced by their ranks,
    from -1/2 for the worst to 1/2 for the best, and each sigma changes by at most a fifth in a step. With `elite` only
    the ranks of the best mu count: reward i, the best first, is `max(0, log(mu + 1/2) - log i)`, as in CMA-ES (Hansen
    2016, eq. (49)), scaled to the same spread. This helps where most samples are equally bad, such as those of a walker
    that falls.

    Args:
        radius: The first sigma of each element, positive, in units of the variable.
        n_directions: N ≥ 1.
        sigma_rate: Learning rate of sigma, 0 to 1.
        elite: Fraction of the queries whose rank counts, above 0 and at most 1; None for centred ranks of all.

    Raises:
        ValueError: An argument is out of its range.
    """

    radius: float
    n_directions: int = 20
    sigma_rate: float = 0.1
    elite: float | None = None

    accepts = (Values, Ranking)

    def __post_init__(self) -> None:
        check_positive("PGPE", radius=self.radius)
        check_at_least("PGPE", 1, n_directions=self.n_directions)
        check_share("PGPE", sigma_rate=self.sigma_rate)
        if self.elite is not None:
            check_positive("PGPE", elite=self.elite)
            if self.elite > 1:
                raise ValueError(f"`PGPE(elite=...)` must be at most 1, got {self.elite!r}.")

    @override
    def rule(self) -> Rule:
        """ClipUp with a learning rate of a twentieth of the radius."""
        return ClipUp(0.05 * self.radius)

    @override
    def start(self, variable: Variable) -> PGPEState:
        return PGPEState(np.full(vector_of(self, variable).size, float(self.radius)))

    @override
    def sample(self, state: PGPEState, variable: Variable, key: Key) -> Queries:
        # The two points of a pair are neighbours, so the end of the budget splits at most one pair
        variable = vector_of(self, variable)
        rows = normals(key, "pgpe", self.n_directions, variable.size) * state.sigma
        index, scale = plan(self.n_directions, 1.0, "central")
        return Queries(Dense(variable.blocks, rows), index, scale, variable.value)

    @override
    def estimate(
        self, state: PGPEState, variable: Variable, queries: Queries, feedback: Feedback
    ) -> tuple[PGPEState, Step]:
        # Pairs with a failed query are left out; equal answers change nothing
        e, w = queries.directions.rows, np.zeros(queries.directions.k)
        rewards = self._rewards(feedback.ranking())
        if isinstance(feedback, Values) and feedback.n_failed:
            rewards[np.isnan(feedback.values)] = np.nan
        every = rewards[: len(rewards) // 2 * 2].reshape(-1, 2)
        usable = np.flatnonzero(np.isfinite(every).all(axis=1))
        pairs: Floats = every[usable]
        if not pairs.size or np.ptp(pairs) == 0.0:
            return state, Step(queries.directions, w)
        w[usable] = (pairs[:, 1] - pairs[:, 0]) / (2 * len(usable))  # eq. (11)
        sigma, better = state.sigma, (pairs.mean(axis=1) - pairs.mean()) / len(usable)
        change = self.sigma_rate * (better @ ((e[usable] ** 2 - sigma**2) / sigma))  # eq. (12)
        return PGPEState(sigma + np.clip(change, -MOST_CHANGE * sigma, MOST_CHANGE * sigma)), Step(
            queries.directions, w
        )

    def _rewards(self, ranking: Ranking) -> Floats:
        """What each query is worth, shape (n,)."""
        n = ranking.n
        if self.elite is None or n < 2:
            return -ranking.net_losses() / (2.0 * max(1, n - 1))
        best = np.maximum(0.0, np.log(max(1.0, self.elite * n) + 0.5) - np.log(np.arange(1, n + 1)))
        return recombination(best * (np.linspace(-0.5, 0.5, n).std() / best.std()), ranking)
