"""`OrdinalSurrogate`: a CMA-ES on rankings, most of whose candidates are ranked by a model of the rankings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, final

import numpy as np

from blackbox_zo._checks import check_at_least, check_positive
from blackbox_zo._typing import Floats, Ints, override
from blackbox_zo.estimators._base import Estimator, vector_of
from blackbox_zo.estimators._candidates import Candidates
from blackbox_zo.estimators._evolution_state import EvolutionState
from blackbox_zo.estimators._evolution_strategy import EvolutionStrategy
from blackbox_zo.estimators._flat_bounds import FlatBounds
from blackbox_zo.estimators._model_fit import UNFITTED
from blackbox_zo.estimators._model_frame import frame
from blackbox_zo.estimators._ordinal_model import RankedPairs, agreement, no_pairs, ordinal
from blackbox_zo.estimators._quadratic_model import UNKNOWN, Quadratic, coefficients
from blackbox_zo.estimators._stages import move_by
from blackbox_zo.estimators._surrogate_ranking import first_surrogate
from blackbox_zo.feedback import Feedback, Ranking, Values
from blackbox_zo.randomness import Key
from blackbox_zo.steps import Queries, Step
from blackbox_zo.variables import Variable, Vector

__all__ = ["OrdinalState", "OrdinalSurrogate"]

TRUST = 0.6
"""The model ranks candidates where Kendall's tau between it and the newest answers was so high."""

NEWEST = 30
"""At least so many comparisons, of two answers or more, are the newest answers."""

DRAWN = 4
"""A trusted model ranks so many times the candidates that are asked about."""

GENERATIONS = 3
"""So many generations pass with one answer; all but the first of them are ranked by the model alone."""

KEPT = 3
"""Comparisons kept for each coefficient of the model."""


class OrdinalState(NamedTuple):
    """The state of the strategy inside, and the model.

    Attributes:
        inner: The search distribution.
        pairs: The newest comparisons.
        model: Fitted to them.
        foretold: Of the newest answers, shape (m, 2): comparisons that the model foretold, less others, and all.
    """

    inner: EvolutionState
    pairs: RankedPairs
    model: Quadratic
    foretold: Floats


@final
@dataclass(frozen=True)
class OrdinalSurrogate(Estimator):
    """A CMA-ES with a quadratic model that is fitted to rankings; a comparison-based method with a surrogate.

    The model is fitted to the comparisons of the newest answers, by logistic regression: each answer orders its own
    points, and one quadratic has to account for all answers, so that points of different steps need not be compared
    (Loshchilov, Schoenauer & Sebag 2010, Comparison-based optimizers need comparison-based surrogates; there with a
    ranking SVM). Its minimiser is one of the candidates. Where the model foretold the last two answers, four times as
    many candidates are drawn: half of those asked about are those that it ranks first, the others are random. It ranks
    all, in the order of the answer where there is one, and then two more generations alone (self-adaptive ACM-ES:
    Loshchilov et al. 2012, GECCO). Where it did not, a step is one of `EvolutionStrategy` with one candidate from the
    model. So the search needs about a third of the queries on smooth functions, and no more on rugged ones.

    Within bounds a point outside stands for the nearest one inside. Near a face the order of answers then tells less
    than with the smooth map of `EvolutionStrategy`, but a narrow valley stays straight, as the model takes it to be.

    Use it for rankings where d is at most about 20: a fit costs O(d^6), then 1 ms a query. With values, which tell
    more, `EvolutionStrategy(model=True)` is faster. It is what `minimize` does where an oracle ranks.

    The estimate is minus the move, for `SGD(1.0)`.

    Args:
        radius: The first sigma, positive, in units of the variable: about a third of the distance to the optimum.
        n_queries: Points of a step, at least 2; by default `4 + floor(3 ln d)`.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> import blackbox_zo as bz
        >>> search = bz.Search([1.0, 2.0], bz.OrdinalSurrogate(0.3), budget=120)
        >>> for report in search.run(bz.RankOnly(bz.FunctionOracle(lambda x: x @ x))):
        ...     pass
        >>> bool(abs(search.x).max() < 1e-2)
        True
    """

    radius: float
    n_queries: int | None = None

    accepts = (Ranking,)

    def __post_init__(self) -> None:
        check_positive("OrdinalSurrogate", radius=self.radius)
        if self.n_queries is not None:
            check_at_least("OrdinalSurrogate", 2, n_queries=self.n_queries)

    @property
    def _strategy(self) -> EvolutionStrategy:
        return EvolutionStrategy(self.radius, self.n_queries, "full", step_size="path")

    @override
    def start(self, variable: Variable) -> OrdinalState:
        d = vector_of(self, variable).size
        return OrdinalState(self._strategy.start(variable), no_pairs(d), UNKNOWN, np.empty((0, 2)))

    @override
    def over(self, state: OrdinalState, variable: Variable) -> str:
        return self._strategy.over(state.inner, variable)

    @override
    def sample(self, state: OrdinalState, variable: Variable, key: Key) -> Queries:
        variable, strategy, inner = vector_of(self, variable), self._strategy, state.inner
        k, known = strategy.population(variable.size), state.model.centre.size > 0
        agreed, compared = state.foretold.sum(axis=0)
        trusted = len(state.foretold) > 1 and compared >= NEWEST and agreed >= TRUST * compared
        if known:  # where the model is least is one of the candidates
            inner = inner._replace(
                surrogate=first_surrogate(variable.size)._replace(fit=UNFITTED._replace(model=state.model))
            )
        queries = self._drawn(inner, variable, key, k * DRAWN if trusted else k, fitted=known)
        tag = (inner.generation, key.seed, key.step)
        if not trusted:
            return replace(queries, tag=tag)
        which = self._asked(state.model, queries, k)
        return Queries(queries.directions, which, queries.scale[which], queries.origin, tag)

    def _drawn(self, inner: EvolutionState, variable: Vector, key: Key, n: int, *, fitted: bool) -> Queries:
        bounds = FlatBounds(variable) if variable.bounded else None
        return self._strategy.drawn(inner, variable, key, n, fitted=fitted, bounds=bounds)

    @staticmethod
    def _asked(model: Quadratic, queries: Queries, k: int) -> Ints:
        """Positions of k candidates: the first, then those that the model ranks first, then any."""
        drawn = queries.directions
        assert isinstance(drawn, Candidates)
        best = 1 + np.argsort(model.values(drawn.asked[1:]), kind="stable")[: (k - 1) // 2]
        rest = np.setdiff1d(np.arange(1, drawn.k), best)[: k - 1 - len(best)]  # they were drawn in any order
        return np.concatenate((np.zeros(1, dtype=np.intp), best, rest))

    @override
    def estimate(
        self, state: OrdinalState, variable: Variable, queries: Queries, feedback: Feedback
    ) -> tuple[OrdinalState, Step]:
        variable, drawn = vector_of(self, variable), queries.directions
        assert isinstance(drawn, Candidates)
        ranking, asked = feedback.ranking(), drawn.asked[queries.index]
        model, foretold = state.model, state.foretold
        if model.centre.size and ranking.n_edges:
            foretold = _newest(np.vstack((foretold, agreement(ranking, model.values(asked)))))
        pairs = state.pairs
        if ranking.n_edges:
            pairs = pairs.plus(asked, ranking, KEPT * coefficients(variable.size))
            model = ordinal(pairs, variable.value, frame(state.inner))
        whole = queries.n < drawn.k and queries.n == self._strategy.population(variable.size)
        if not (whole and queries.tag[0] == state.inner.generation and model.centre.size and ranking.n_edges):
            inner, step = self._strategy.estimate(state.inner, variable, _those(queries, variable), ranking)
            return OrdinalState(inner, pairs, model, foretold), step
        values = model.values(drawn.asked)
        values[queries.index] = _in_order(values[queries.index], ranking)
        every = replace(queries, index=np.arange(drawn.k), scale=np.full(drawn.k, queries.scale[0]))
        inner, there = self._passed(state.inner, variable, every, values)
        for i in range(1, GENERATIONS):
            key = Key(queries.tag[1], -GENERATIONS * queries.tag[2] - i)  # no step has a negative number
            every = self._drawn(inner, there, key, drawn.k, fitted=False)
            assert isinstance(every.directions, Candidates)
            inner, there = self._passed(inner, there, every, model.values(every.directions.asked))
        return OrdinalState(inner, pairs, model, foretold), move_by(variable, there.value - variable.value)

    def _passed(
        self, inner: EvolutionState, variable: Vector, queries: Queries, values: Floats
    ) -> tuple[EvolutionState, Vector]:
        """The distribution after one generation, and the variable that has moved with it."""
        inner, step = self._strategy.estimate(inner, variable, queries, Values(values).ranking())
        return inner, variable.at(variable.value - step.dense())


def _those(queries: Queries, variable: Vector) -> Queries:
    """Queries whose directions are the candidates that were asked about, and no others."""
    drawn = queries.directions
    assert isinstance(drawn, Candidates)
    if queries.n == drawn.k:
        return queries
    y, asked = drawn.y[queries.index], drawn.asked[queries.index]
    some = Candidates(variable, y, drawn.radius, drawn.bounds, drawn.places, fitted=drawn.fitted, asked=asked)
    return replace(queries, directions=some, index=np.arange(queries.n))


def _newest(foretold: Floats) -> Floats:
    """The last rows that hold `NEWEST` comparisons, and two at least."""
    later = foretold[::-1, 1].cumsum()[::-1] - foretold[:, 1]  # comparisons after each
    later[-2:] = 0.0
    return foretold[later < NEWEST]


def _in_order(values: Floats, ranking: Ranking) -> Floats:
    """The same values, shape (n,), in the order of a ranking; those that tie in theirs."""
    order = np.lexsort((values, ranking.net_losses()))
    out = np.empty_like(values)
    out[order] = np.sort(values)
    return out
