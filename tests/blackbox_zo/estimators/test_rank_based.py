from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import blackbox_zo as bz
from blackbox_zo._typing import Floats

from ..helpers import bits, laws, one_step, run, sphere

X = np.linspace(-1.0, 1.0, 4)


def estimate(estimator: bz.RankBased, feedback: bz.Values | bz.Ranking) -> tuple[bz.Queries, bz.Step]:
    variable = bz.Vector(X)
    queries = estimator.sample((), variable, bz.Key(0, 0))
    return queries, estimator.estimate((), variable, queries.take(slice(feedback.n)), feedback)[1]


def from_the_graph(points: Floats, edges: set[tuple[int, int]], mu: float) -> Floats:
    """`1 / (|E| mu)` times the sum over edges i -> j of `x_j - x_i`."""
    g = np.zeros(points.shape[1])
    for i, j in edges:
        g += points[j] - points[i]
    return g / (len(edges) * mu) if edges else g


@laws
@given(
    values=st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, float("nan")]), min_size=2, max_size=9),
    k=st.integers(1, 9),
    mu=st.floats(1e-3, 10.0),
)
def test_estimate_is_that_of_the_explicit_graph(values: list[float], k: int, mu: float) -> None:
    m = len(values)
    k = min(k, m)
    key = [np.inf if np.isnan(v) else v for v in values]
    last = sorted(key)[k - 1]
    edges = {(i, j) for i in range(m) for j in range(m) if key[i] < key[j] and key[i] <= last}
    queries, step = estimate(bz.RankBased(mu, m, k), bz.Values(values))
    np.testing.assert_allclose(step.dense(), from_the_graph(queries.points(), edges, mu), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("m", "k"), [(10, 10), (15, 5), (6, 1), (8, 3), (2, 1)])
def test_closed_form_weights(m: int, k: int) -> None:
    _, step = estimate(bz.RankBased(0.1, m, k), bz.Values(np.arange(m)))
    edges = k * (k - 1) // 2 + k * (m - k)
    expected = np.array([-(m - 1 - 2 * r) for r in range(k)] + [k] * (m - k)) / edges
    assert step.w.tolist() == expected.tolist()


@laws
@given(st.permutations(range(7)), st.integers(1, 7))
def test_whole_number_weights_sum_to_exactly_zero(order: list[int], k: int) -> None:
    _, step = estimate(bz.RankBased(0.1, 7, k), bz.Ranking(order[:k], 7))
    edges = k * (k - 1) // 2 + k * (7 - k)
    counts = np.rint(step.w * edges)
    np.testing.assert_allclose(step.w * edges, counts, atol=1e-12)
    assert counts.sum() == 0.0


@laws
@given(st.permutations(range(6)), st.integers(1, 6))
def test_ranking_and_values_in_that_order_give_the_same_bits(order: list[int], k: int) -> None:
    values = np.empty(6)
    values[order] = np.linspace(-3.0, 5.0, 6)
    for ranking in (bz.Ranking(order[:k], 6), bz.Ranking(order, 6)):
        by_rank = estimate(bz.RankBased(0.1, 6, k), ranking)[1].dense()
        assert bits(by_rank) == bits(estimate(bz.RankBased(0.1, 6, k), bz.Values(values))[1].dense())


@laws
@given(st.lists(st.integers(-20, 20), min_size=5, max_size=5))
def test_monotone_transforms_of_f_change_no_bit(values: list[int]) -> None:
    v = np.array(values, dtype=float)
    expected = bits(estimate(bz.RankBased(0.1, 5, 3), bz.Values(v))[1].dense())
    for same in (7.0 * v + 1e3, np.exp(v), np.arctan(v)):
        assert bits(estimate(bz.RankBased(0.1, 5, 3), bz.Values(same))[1].dense()) == expected


@laws
@given(st.permutations(range(6)))
def test_the_order_in_which_candidates_are_shown_does_not_matter(shown: list[int]) -> None:
    """The weights follow the candidates."""
    values = np.array([0.3, 0.1, 0.7, 0.7, 0.2, 0.9])
    w = estimate(bz.RankBased(0.1, 6), bz.Values(values))[1].w
    assert bits(estimate(bz.RankBased(0.1, 6), bz.Values(values[shown]))[1].w) == bits(w[shown])


def test_whole_runs_by_ranking_and_by_value_are_the_same() -> None:
    def search() -> bz.Search:
        return bz.Search(X, bz.RankBased(0.1, 6, 3), seed=3)

    by_value, by_rank = run(search(), sphere, 30), search()
    for _ in range(30):
        proposal = by_rank.ask()
        best = np.argsort(sphere(proposal.points))[:3]
        by_rank.tell(proposal, bz.Ranking(best.tolist(), proposal.n))
    assert bits(by_value.x) == bits(by_rank.x)


def test_radius_does_not_change_the_estimate() -> None:
    """`x_j - x_i = mu (xi_j - xi_i)`: eta has the same meaning for every mu."""
    small, large = (estimate(bz.RankBased(mu, 6), bz.Values(np.arange(6)))[1].dense() for mu in (1e-3, 10.0))
    assert bits(small) == bits(large)


@pytest.mark.parametrize(
    "feedback",
    [bz.Values([1.0] * 6), bz.Values([np.nan] * 6), bz.Ranking([], 6), bz.Ranking([tuple(range(6))], 6)],
    ids=["tied", "failed", "undecided", "one group"],
)
def test_nothing_compared_is_no_estimate(feedback: Any) -> None:
    assert not estimate(bz.RankBased(0.1, 6), feedback)[1].dense().any()


def test_ranked_in_parts_no_edge_crosses() -> None:
    """Positions 0, 1 and 2, 3, 4 are ranked by two people."""
    parts = bz.Ranking.join([(np.array([0, 1]), bz.Ranking([1], 2)), (np.array([2, 3, 4]), bz.Ranking([0, 1], 3))], 5)
    queries, step = estimate(bz.RankBased(0.5, 5), parts)
    expected = from_the_graph(queries.points(), {(1, 0), (2, 3), (2, 4), (3, 4)}, 0.5)
    np.testing.assert_allclose(step.dense(), expected, rtol=1e-10)


def test_a_short_budget_ranks_fewer() -> None:
    queries, step = estimate(bz.RankBased(0.5, 6, 5), bz.Values([2.0, 0.0, 1.0]))
    expected = from_the_graph(queries.points(), {(1, 0), (2, 0), (1, 2)}, 0.5)
    np.testing.assert_allclose(step.dense(), expected, rtol=1e-10)


def test_the_estimate_points_uphill() -> None:
    _, _, step = one_step(bz.RankBased(0.01, 2000), sphere, X)
    cosine = step.dense() @ X / np.linalg.norm(step.dense()) / np.linalg.norm(X)
    assert cosine > 0.99


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"radius": 0}, "`RankBased(radius=...)` must be a positive number, got 0."),
        ({"n_queries": 1}, "`RankBased(n_queries=...)` must be a whole number of at least 2, got 1."),
        ({"n_ranked": 0}, "`RankBased(n_ranked=...)` must be a whole number of at least 1, got 0."),
        ({"n_ranked": 7}, "`RankBased(n_ranked=...)` must be at most n_queries=6, got 7."),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as error:
        bz.RankBased(**{"radius": 0.1, "n_queries": 6, **arguments})
    assert str(error.value) == words
