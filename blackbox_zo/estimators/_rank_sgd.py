"""`RankSGD`: gradients from comparisons, and a line search by comparisons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from blackbox_zo._checks import check_at_least, check_positive
from blackbox_zo._typing import Floats, Ints, override
from blackbox_zo.directions import Directions, Gaussian, Joined, Mixed
from blackbox_zo.estimators._base import Estimator
from blackbox_zo.feedback import Feedback, Ranking, Values
from blackbox_zo.randomness import Key
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Variable

__all__ = ["RankSGD"]

_MEMORY = 16
"""Maximum number of rounds without a better point over which the gradient is averaged."""


class RankState(NamedTuple):
    """How far to look, and the gradient estimates since the last move, as what they are drawn from.

    Attributes:
        radius: mu.
        searching: Whether the next round is a line search.
        seed: Of the run.
        steps: The rounds that the estimates are from, newest last, shape (r,).
        weights: Their weights, shape (r, k); 0 for directions that a round did not have.
    """

    radius: float
    searching: bool
    seed: int
    steps: Ints
    weights: Floats


@final
@dataclass(frozen=True)
class RankSGD(Estimator):
    """ZO-RankSGD with its line search (Tang et al. 2024, arXiv 2303.03751); the step length may grow and shrink.

    Rounds alternate. A gradient round shows m points `x + mu xi_i` and gives `g`, as `RankBased` does. A line search
    shows x and l - 1 points on the ray down, and x goes to the best of them:

    `x + mu 2^(j - (l - 1) / 2) u`,  j = 1 ... l - 1,  `u = -g / rms(g)`,

    rms as expected of Gaussian directions, so that mu is as far as the points of a gradient round are. The found
    length becomes the next mu: `mu <- mu 2^(j - (l - 1) / 2)`, with j = 0 where x itself is best. Answers at random
    thus leave log mu, on average, where it is. If x stays, the next gradient is averaged with those since the last
    move. A tie moves nothing: x stays, and so does mu, where x ties with the best, or was not compared. Where several
    points tie above x, x goes to the nearest, and log mu to their mean.

    With `shared_round` every round has both: the line search along the last u, and gradient points
    `x + mu u + mu xi_i` around the point where the search is expected to end. It moves in each round rather than in
    every other one, by a gradient that was found up to a factor of the length away.

    The estimate is minus the move, for `SGD(1.0)`. Nothing of the size of x is kept: directions are redrawn from their
    seeds.

    Args:
        radius: The first mu, positive, in units of the variable.
        n_queries: m ≥ 2, the candidates of a gradient round.
        n_line: l ≥ 3, the candidates of a line search, x among them.
        n_ranked: k, how many of the best are used in a gradient round, 1 to m; None for all.
        shared_round: One round for both, of m + l candidates; needs answers that rank most of them.

    Raises:
        ValueError: An argument is out of its range.
    """

    radius: float
    n_queries: int
    n_line: int = 5
    n_ranked: int | None = None
    shared_round: bool = False

    accepts = (Values, Ranking)
    warmup = 1

    def __post_init__(self) -> None:
        check_positive("RankSGD", radius=self.radius)
        check_at_least("RankSGD", 2, n_queries=self.n_queries)
        check_at_least("RankSGD", 3, n_line=self.n_line)
        if self.n_ranked is not None:
            check_at_least("RankSGD", 1, n_ranked=self.n_ranked)
            if self.n_ranked > self.n_queries:
                raise ValueError(
                    f"`RankSGD(n_ranked=...)` must be at most n_queries={self.n_queries}, got {self.n_ranked}."
                )

    @override
    def start(self, variable: Variable) -> RankState:
        return RankState(float(self.radius), False, 0, np.zeros(0, dtype=np.intp), np.zeros((0, self._drawn)))

    @property
    def _drawn(self) -> int:
        """Directions drawn in a round, at most."""
        return self.n_queries + (self.n_line if self.shared_round else 0)

    @property
    def _lengths(self) -> Floats:
        """How far the points of a line search are, in units of mu, x itself first; shape (l,)."""
        lengths: Floats = np.exp2(self._exponents)
        lengths[0] = 0.0
        return lengths

    @property
    def _exponents(self) -> Floats:
        """The binary logarithm of the next mu, in units of mu, by which point is best; shape (l,)."""
        return np.asarray(np.arange(float(self.n_line)) - (self.n_line - 1) / 2)

    # -------------------------------------------------------------------------------------------------------- asking

    @override
    def sample(self, state: RankState, variable: Variable, key: Key) -> Queries:
        line, mu = state.radius * self._lengths, state.radius
        if not len(state.steps) or not (state.searching or self.shared_round):
            m = self._drawn
            return Queries(Gaussian(variable.blocks, m, key), np.arange(m), np.full(m, mu), variable.origin)
        past = [Gaussian(variable.blocks, self._drawn, Key(state.seed, int(t))) for t in state.steps]
        u = -state.weights.reshape(1, -1) / np.linalg.norm(state.weights)
        if not self.shared_round:
            down: Directions = Mixed(Joined(past), u)
            return Queries(down, np.zeros(self.n_line, dtype=np.intp), line, variable.origin)
        m = self.n_queries
        around = np.hstack((np.vstack([u] * (m + 1)), np.eye(m + 1, m, -1)))  # u, and u + xi_i
        index = np.concatenate((np.zeros(self.n_line, dtype=np.intp), np.arange(1, m + 1)))
        scale = np.concatenate((line, np.full(m, mu)))
        return Queries(Mixed(Joined([*past, Gaussian(variable.blocks, m, key)]), around), index, scale, variable.origin)

    # ----------------------------------------------------------------------------------------------------- answering

    @override
    def estimate(
        self, state: RankState, variable: Variable, queries: Queries, feedback: Feedback
    ) -> tuple[RankState, Step]:
        # A line search that began at an older x moves nothing
        directions, ranking = queries.directions, feedback.ranking()
        still = Step(directions, np.zeros(directions.k))
        if isinstance(directions, Gaussian):
            return self._with_gradient(state, directions, feedback.ranking(self.n_ranked)), still
        assert isinstance(directions, Mixed)
        shown = min(self.n_line, ranking.n)
        far = 0.0
        if np.array_equal(queries.origin, variable.origin):
            state, far = self._searched(state, queries, ranking.about(np.arange(shown)))
        if self.shared_round and ranking.n > shown:
            assert isinstance(directions.inner, Joined)
            probes = ranking.about(np.arange(shown, ranking.n)).ranking(self.n_ranked)
            newest = directions.inner.parts[-1]
            assert isinstance(newest, Gaussian)
            state = self._with_gradient(state, newest, probes)
        if not far:
            return state, still
        w = np.zeros(directions.k)
        w[0] = -far
        return state, Step(directions, w)

    def _with_gradient(self, s: RankState, directions: Gaussian, ranking: Ranking) -> RankState:
        """Average one more estimate in; nothing changes where nothing was compared."""
        net = ranking.net_losses()
        if not net.any():
            return s
        w = np.zeros(self._drawn)
        w[: ranking.n] = net / ranking.n_edges  # eq. (14)
        return s._replace(
            searching=True,
            seed=directions.key.seed,
            steps=np.append(s.steps, directions.key.step)[-_MEMORY:],
            weights=np.vstack((s.weights, w))[-_MEMORY:],
        )

    def _searched(self, s: RankState, queries: Queries, ranking: Ranking) -> tuple[RankState, float]:
        """The state after a line search, and how far x goes along its direction."""
        net = ranking.net_losses()
        s = s._replace(searching=False)
        best = np.flatnonzero(net <= net.min() + 1e-9 * ranking.n_edges)  # sums of weights tie but for rounding
        if not _compared(ranking, 0) or (best[0] == 0 and best.size > 1):
            return s, 0.0
        j = int(best[0])  # the nearest
        mean = float(self._exponents[best].mean())
        mu = queries.scale[1] / self._lengths[1] * 2.0**mean  # that of the queries, however late
        s = s._replace(radius=float(min(max(mu, 1e-16 * self.radius), 1e16 * self.radius)))
        if j == 0:
            return s, 0.0
        return s._replace(steps=s.steps[:0], weights=s.weights[:0]), float(queries.scale[j])


def _compared(ranking: Ranking, i: int) -> bool:
    """Whether the answer says that i is better or worse than another."""
    level = ranking.levels
    present = level[level[:, i] >= 0]
    return bool(((present >= 0) & (present != present[:, i : i + 1])).any())
