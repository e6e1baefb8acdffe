"""`RankBased`: a gradient estimate from comparisons alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from blackbox_zo._checks import check_at_least, check_positive
from blackbox_zo._typing import override
from blackbox_zo.directions import Gaussian
from blackbox_zo.estimators._base import Estimator
from blackbox_zo.feedback import Feedback, Ranking, Values
from blackbox_zo.randomness import Key
from blackbox_zo.rules import ClipUp, Rule
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Variable

__all__ = ["RankBased"]


@final
@dataclass(frozen=True)
class RankBased(Estimator):
    """ZO-RankSGD's estimate from an (m, k) ranking oracle (Tang et al. 2024, arXiv 2303.03751, eqs. (5), (14)-(16)).

    m points `x_i = x + mu xi_i`, xi ~ N(0, I), are shown, and the k best are ranked. Each known comparison is an edge
    of a graph; with E its edges,

    `g = 1/(|E| mu) sum_{i -> j} (x_j - x_i) = 1/|E| sum_i w_i xi_i`, `w_i = indegree_i - outdegree_i`,

    which is `w = -(m - 1 - 2 r)` for the r-th best (from 0) and `w = k` for those not ranked. The weights sum to zero.
    Ties have no edge. Of values only the order is used; a failed query is worse than all others. A round without any
    comparison gives no estimate.

    Args:
        radius: mu, positive, in units of the variable.
        n_queries: m ≥ 2, the candidates of a round.
        n_ranked: k, how many of the best are used, 1 to m; None for all.

    Raises:
        ValueError: An argument is out of its range.
    """

    radius: float
    n_queries: int
    n_ranked: int | None = None

    accepts = (Values, Ranking)

    def __post_init__(self) -> None:
        check_positive("RankBased", radius=self.radius)
        check_at_least("RankBased", 2, n_queries=self.n_queries)
        if self.n_ranked is not None:
            check_at_least("RankBased", 1, n_ranked=self.n_ranked)
            if self.n_ranked > self.n_queries:
                raise ValueError(
                    f"`RankBased(n_ranked=...)` must be at most n_queries={self.n_queries}, got {self.n_ranked}."
                )

    @override
    def rule(self) -> Rule:
        """ClipUp with moves of half the radius, since rankings have no scale."""
        return ClipUp(0.5 * self.radius)

    @override
    def start(self, variable: Variable) -> tuple[()]:
        return ()

    @override
    def sample(self, state: tuple[()], variable: Variable, key: Key) -> Queries:
        m = self.n_queries
        xi = Gaussian(variable.blocks, m, key)
        return Queries(xi, np.arange(m), np.full(m, float(self.radius)), variable.origin)

    @override
    def estimate(
        self, state: tuple[()], variable: Variable, queries: Queries, feedback: Feedback
    ) -> tuple[tuple[()], Step]:
        ranking = feedback.ranking(self.n_ranked)
        w = np.zeros(queries.directions.k)
        edges = ranking.n_edges
        if edges:
            w[: ranking.n] = ranking.net_losses() / edges  # eq. (14); mu cancels: x_j - x_i = mu (xi_j - xi_i)
        return state, Step(queries.directions, w)
