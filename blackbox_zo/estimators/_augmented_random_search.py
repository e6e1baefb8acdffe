"""`AugmentedRandomSearch`: two-point differences of the best directions, divided by their standard deviation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from blackbox_zo._checks import check_at_least, check_positive
from blackbox_zo._typing import override
from blackbox_zo.directions import Gaussian
from blackbox_zo.estimators._base import Estimator
from blackbox_zo.estimators._random_vector import plan
from blackbox_zo.feedback import Feedback, Ranking, Values
from blackbox_zo.randomness import Key
from blackbox_zo.rules import SGD, Rule
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Variable

__all__ = ["AugmentedRandomSearch"]


@final
@dataclass(frozen=True)
class AugmentedRandomSearch(Estimator):
    """ARS (Mania, Guy & Recht 2018, arXiv 1803.07055, algorithm 2), for noisy functions of unknown scale.

    N directions u_j ~ N(0, I) are asked in both senses; those b whose better answer is best give

    `g = 1 / (b sigma) sum_j (f(x + nu u_j) - f(x - nu u_j)) u_j`,

    sigma the standard deviation of the 2b answers used. Its length depends neither on the scale of f nor on nu. With
    b = 1 it is the sign of one difference. The variants V2 normalise observations, which is left to the policy; those
    with "-t" have b < N. With a ranking, the net losses of a query take the place of its value.

    Args:
        radius: nu, positive, in units of the variable.
        n_directions: N ≥ 1.
        n_best: b, 1 to N; None for all.

    Raises:
        ValueError: An argument is out of its range.
    """

    radius: float
    n_directions: int = 8
    n_best: int | None = None

    accepts = (Values, Ranking)

    def __post_init__(self) -> None:
        check_positive("AugmentedRandomSearch", radius=self.radius)
        check_at_least("AugmentedRandomSearch", 1, n_directions=self.n_directions)
        if self.n_best is not None:
            check_at_least("AugmentedRandomSearch", 1, n_best=self.n_best)
            if self.n_best > self.n_directions:
                raise ValueError(
                    f"`AugmentedRandomSearch(n_best=...)` must be at most n_directions={self.n_directions}, "
                    f"got {self.n_best}."
                )

    @override
    def rule(self) -> Rule:
        """SGD with the step size 0.02 of most tasks in the paper."""
        return SGD(0.02)

    @override
    def start(self, variable: Variable) -> tuple[()]:
        return ()

    @override
    def sample(self, state: tuple[()], variable: Variable, key: Key) -> Queries:
        # The two points of a pair are neighbours, so the end of the budget splits at most one pair
        index, scale = plan(self.n_directions, self.radius, "central")
        return Queries(Gaussian(variable.blocks, self.n_directions, key), index, scale, variable.origin)

    @override
    def estimate(
        self, state: tuple[()], variable: Variable, queries: Queries, feedback: Feedback
    ) -> tuple[tuple[()], Step]:
        # Directions with a failed query are left out; equal answers move nothing
        f = feedback.values if isinstance(feedback, Values) else feedback.net_losses().astype(np.float64)
        w = np.zeros(queries.directions.k)
        pairs = f[: feedback.n // 2 * 2].reshape(-1, 2)
        usable = np.flatnonzero(np.isfinite(pairs).all(axis=1))
        order = np.argsort(pairs[usable].min(axis=1), kind="stable")
        best = usable[order[: self.n_best]]
        sigma = float(pairs[best].std()) if best.size else 0.0
        if sigma > 0.0:
            w[best] = (pairs[best, 0] - pairs[best, 1]) / (len(best) * sigma)
        return state, Step(queries.directions, w)
