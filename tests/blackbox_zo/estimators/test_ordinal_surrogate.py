"""The model of rankings, and the CMA-ES that it helps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.estimators._ordinal_model import agreement, neighbours, no_pairs, ordinal
from blackbox_zo.estimators._ordinal_surrogate import TRUST, OrdinalState

from ..helpers import Quadratic, sphere, stretched

D = 5


def rosenbrock(points: Floats) -> Floats:
    x, y = points[..., :-1], points[..., 1:]
    return np.asarray((100.0 * (y - x**2) ** 2 + (1.0 - x) ** 2).sum(axis=-1))


def queries_to(f: Any, target: float, estimator: bz.Estimator, budget: int = 3000, start: float = -1.0) -> float:
    """Queries until a point as low as the target is asked about, where each step is told its order alone."""
    search, least = bz.Search(np.full(D, start), estimator, seed=1, budget=budget), math.inf
    while not search.exhausted:
        proposal = search.ask()
        values = np.asarray(f(proposal.points))
        least = min(least, float(values.min()))
        if least <= target:
            return float(search.nfev + proposal.n)
        search.tell(proposal, bz.Values(values).ranking())
    return math.inf


# ------------------------------------------------------------------------------------------- the model


def test_neighbours_of_an_order_with_ties_and_points_left_out() -> None:
    better, worse, weight = neighbours(bz.Ranking([3, (0, 2)], n=6))
    assert list(zip(better.tolist(), worse.tolist(), weight.tolist(), strict=True)) == [
        (3, 0, 1.0), (3, 2, 1.0), (0, 1, 0.5), (0, 4, 0.5), (0, 5, 0.5), (2, 1, 0.5), (2, 4, 0.5), (2, 5, 0.5),
    ]  # fmt: skip


def test_neighbours_of_several_parts_have_their_weights() -> None:
    better, worse, weight = neighbours(bz.Ranking.pairs([0, 2], [1, 1], n=4, weights=[3.0, 1.0]))
    assert (better.tolist(), worse.tolist(), weight.tolist()) == ([0, 2], [1, 1], [3.0, 1.0])
    assert [len(part) for part in neighbours(bz.Ranking([], n=4))] == [0, 0, 0]


@pytest.mark.parametrize(
    ("values", "agree"), [([1.0, 2.0, 3.0], 3), ([3.0, 2.0, 1.0], -3), ([1.0, 3.0, 2.0], 1), ([0.0] * 3, 0)]
)
def test_agreement_counts_comparisons(values: list[float], agree: int) -> None:
    assert agreement(bz.Ranking([0, 1], n=3), np.array(values)) == (agree, 3)
    assert agreement(bz.Ranking([], n=3), np.array(values)) == (0, 0)
    duels = bz.Ranking.pairs([0, 1], [1, 2], n=3, weights=[2.0, 5.0])
    assert agreement(duels, np.array([1.0, 2.0, 0.0])) == (2 - 5, 7)


@pytest.mark.parametrize("monotone", [lambda f: f, lambda f: np.exp(0.1 * f), lambda f: np.cbrt(f)])
def test_the_model_orders_points_that_were_never_compared(monotone: Any) -> None:
    """From answers that each order 8 points, and none of two steps; a monotone function changes nothing."""
    f, rng, pairs = Quadratic(D, seed=3), np.random.default_rng(0), no_pairs(D)
    for _ in range(20):
        points = rng.standard_normal((8, D))
        pairs = pairs.plus(points, bz.Values(monotone(f(points))).ranking(), 1000)
    assert len(pairs.weight) == 20 * 7
    model, fresh = ordinal(pairs, np.zeros(D), np.eye(D)), rng.standard_normal((100, D))
    agree, compared = agreement(bz.Values(f(fresh)).ranking(), model.values(fresh))
    assert agree > 0.85 * compared


def test_the_oldest_comparisons_are_forgotten() -> None:
    pairs = no_pairs(2)
    for i in range(10):
        pairs = pairs.plus(np.full((4, 2), float(i)), bz.Ranking([0, 1, 2], n=4), 5)
    assert pairs.better[:, 0].tolist() == [7.0, 7.0, 8.0, 8.0, 8.0, 9.0, 9.0, 9.0]


def test_a_model_of_nothing_is_unknown() -> None:
    assert ordinal(no_pairs(D), np.zeros(D), np.eye(D)).centre.size == 0
    same = no_pairs(D).plus(np.ones((2, D)), bz.Ranking([0], n=2), 9)  # two points at the same place
    assert ordinal(same, np.zeros(D), np.eye(D)).centre.size == 0


# ------------------------------------------------------------------------------------------- the search


@pytest.mark.parametrize(
    ("f", "target", "gain"), [(sphere, 1e-6, 1.8), (stretched, 1e-6, 2.5), (rosenbrock, 1e-3, 1.5)]
)
def test_it_needs_fewer_queries_than_the_strategy_alone(f: Any, target: float, gain: float) -> None:
    ours, plain = (queries_to(f, target, e) for e in (bz.OrdinalSurrogate(0.5), bz.EvolutionStrategy(0.5)))
    assert gain * ours < plain


def test_a_monotone_function_of_f_changes_no_point() -> None:
    runs = []
    for f in (stretched, lambda points: np.log(stretched(points))):
        search = bz.Search(np.ones(D), bz.OrdinalSurrogate(0.5), seed=2, budget=200)
        while not search.exhausted:
            proposal = search.ask()
            search.tell(proposal, bz.Values(f(proposal.points)).ranking())
        runs.append(search.x)
    assert np.array_equal(*runs)


def test_a_model_that_foretells_nothing_is_not_trusted() -> None:
    """Answers at random: every generation is the strategy's own, one for each answer."""
    search, rng = bz.Search(np.zeros(D), bz.OrdinalSurrogate(0.5), seed=2), np.random.default_rng(1)
    trusted = 0
    for _ in range(40):
        proposal = search.ask()
        trusted += proposal.queries.directions.k > proposal.n
        search.tell(proposal, bz.Values(rng.standard_normal(proposal.n)).ranking())
    state = search.state
    assert isinstance(state, OrdinalState)
    assert trusted <= 2 and state.inner.generation == 40 + 2 * trusted
    agree, compared = state.foretold.sum(axis=0)
    assert agree < TRUST * compared and len(state.foretold) == 2


def test_a_model_that_foretells_answers_ranks_generations_by_itself() -> None:
    search, asked = bz.Search(np.ones(D), bz.OrdinalSurrogate(0.5), seed=2), []
    for _ in range(30):
        proposal = search.ask()
        asked.append(proposal.queries.directions.k)
        search.tell(proposal, bz.Values(sphere(proposal.points)).ranking())
    assert {proposal.n} == {8} and set(asked) == {8, 32}
    assert search.state.inner.generation == asked.count(8) + 3 * asked.count(32) and asked.count(32) > 15


def trusted(seed: int = 2) -> bz.Search:
    """A search whose model is trusted."""
    search = bz.Search(np.ones(D), bz.OrdinalSurrogate(0.5), seed=seed)
    while True:
        proposal = search.ask()
        search.tell(proposal, bz.Values(sphere(proposal.points)).ranking())
        agree, compared = search.state.foretold.sum(axis=0)
        if len(search.state.foretold) == 2 and agree > 0.8 * compared:
            return search


def test_a_late_answer_makes_one_generation_of_its_own_points() -> None:
    """The model ranks what was drawn around the present x alone."""
    search = trusted()
    early, late, before = search.ask(), search.ask(), search.state.inner.generation
    search.tell(late, bz.Values(sphere(late.points)).ranking())
    assert search.state.inner.generation == before + 3
    search.tell(early, bz.Values(sphere(early.points)).ranking())
    assert search.state.inner.generation == before + 4


def test_the_answer_outranks_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bz.Queries, Floats]] = []
    passed = bz.OrdinalSurrogate._passed

    def spy(self: Any, inner: Any, variable: Any, queries: bz.Queries, values: Floats) -> Any:
        seen.append((queries, values))
        return passed(self, inner, variable, queries, values)

    monkeypatch.setattr(bz.OrdinalSurrogate, "_passed", spy)
    search = trusted()
    seen.clear()
    proposal = search.ask()
    search.tell(proposal, bz.Values(-sphere(proposal.points)).ranking())  # the opposite of all before
    (queries, values), *alone = seen
    assert queries.n == 32 and len(alone) == 2
    assert np.array_equal(np.argsort(values[proposal.queries.index]), np.argsort(-sphere(proposal.points)))


def test_no_generation_is_drawn_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[bz.Key] = []
    drawn = bz.EvolutionStrategy.drawn

    def spy(self: Any, state: Any, variable: Any, key: bz.Key, n: int, **others: Any) -> bz.Queries:
        keys.append(key)
        return drawn(self, state, variable, key, n, **others)

    monkeypatch.setattr(bz.EvolutionStrategy, "drawn", spy)
    steps = [trusted(seed).steps for seed in (1, 2)]
    assert len(set(keys)) == len(keys) > sum(steps)


def test_duels_are_trusted_after_many_of_them() -> None:
    """Two duels foretold are chance; thirty are not."""
    search = bz.Search(np.full(3, 2.0), bz.OrdinalSurrogate(0.5, 2), seed=1)
    for i in range(250):
        p = search.ask()
        assert i > 30 or p.queries.directions.k == 2
        search.tell(p, bz.Values(sphere(p.points)).ranking())
    assert len(search.state.foretold) == 30 and sphere(search.x) < 1e-3


def test_answers_of_two_people_who_name_the_best_three() -> None:
    found = []
    for seed in range(1, 6):
        search = bz.Search(np.full(3, 2.0), bz.OrdinalSurrogate(0.5, 8), seed=seed)
        for _ in range(40):
            p = search.ask()
            each = bz.Values(sphere(p.points)).ranking(3)
            search.tell(p, bz.Ranking.join([(np.arange(8), each), (np.arange(8), each)], 8))
        found.append(float(sphere(search.x)))
    assert np.median(found) < 1e-8


def test_a_resumed_run_repeats_the_generations_without_answers(tmp_path: Any) -> None:
    def search() -> bz.Search:
        return bz.Search(np.ones(D), bz.OrdinalSurrogate(0.5), seed=4, journal=tmp_path / "run.jsonl")

    with search() as first:
        for _ in range(20):
            p = first.ask()
            first.tell(p, bz.Values(stretched(p.points)).ranking())
        assert first.state.inner.generation > 25
    with search() as second:
        assert np.array_equal(first.x, second.x)
        assert np.array_equal(first.ask().points, second.ask().points)


@pytest.mark.parametrize("n", [0, 1, 2.5])
def test_a_step_has_two_points_or_more(n: Any) -> None:
    with pytest.raises(ValueError, match=r"`OrdinalSurrogate\(n_queries=\.\.\.\)`"):
        bz.OrdinalSurrogate(0.3, n)


def test_values_are_refused_and_the_mend_is_named() -> None:
    with pytest.raises(bz.FeedbackError, match=r"it needs `Ranking`, not `Values`\. Put `RankOnly` around the oracle"):
        bz.minimize(lambda x: float(x @ x), np.ones(3), bz.OrdinalSurrogate(0.3))
