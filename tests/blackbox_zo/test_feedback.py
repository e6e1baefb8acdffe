from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import blackbox_zo as bz
from blackbox_zo._typing import Ints
from blackbox_zo.feedback import Ranking, Values

from .helpers import laws

Edges = set[tuple[int, int]]


def graph_of_values(values: list[float], n_ranked: int | None = None) -> Edges:
    """Edge (i, j): i is better. Failures are last; with `n_ranked`, only edges from one of the best are known."""
    key = [np.inf if np.isnan(v) else v for v in values]
    limit = sorted(key)[(n_ranked or len(key)) - 1]
    return {(i, j) for i, a in enumerate(key) for j, b in enumerate(key) if a < b and a <= limit}


def graph_of_groups(groups: list[list[int]], n: int) -> Edges:
    rest = set(range(n)) - {i for group in groups for i in group}
    order = [*groups, sorted(rest)]
    return {(i, j) for a, better in enumerate(order) for worse in order[a + 1 :] for i in better for j in worse}


def degrees(edges: Edges, n: int) -> list[int]:
    """Indegree minus outdegree."""
    return [sum(j == v for _, j in edges) - sum(i == v for i, _ in edges) for v in range(n)]


def assert_is_graph(ranking: Ranking, edges: Edges) -> None:
    assert ranking.net_losses().tolist() == degrees(edges, ranking.n)
    assert ranking.n_edges == len(edges)


values_with_ties = st.lists(st.sampled_from([0.0, 1.0, 2.0, -1.5, 3.0, float("nan")]), min_size=1, max_size=9)


@st.composite
def grouped(draw: Callable[..., Any]) -> tuple[list[list[int]], int]:
    """Tie groups over some of n positions."""
    n = draw(st.integers(1, 9))
    order = draw(st.permutations(range(n)))[: draw(st.integers(0, n))]
    cuts = sorted(draw(st.sets(st.integers(1, max(len(order) - 1, 1)))))
    groups = [order[a:b] for a, b in zip([0, *cuts], [*cuts, len(order)], strict=True)]
    return [g for g in groups if g], n


@laws
@given(values_with_ties)
def test_values_as_a_graph(values: list[float]) -> None:
    assert_is_graph(Values(values).ranking(), graph_of_values(values))


@laws
@given(values_with_ties, st.integers(1, 9))
def test_the_best_of_values_as_a_graph(values: list[float], n_ranked: int) -> None:
    n_ranked = min(n_ranked, len(values))
    assert_is_graph(Values(values).ranking(n_ranked), graph_of_values(values, n_ranked))


@laws
@given(grouped())
def test_tie_groups_as_a_graph(case: tuple[list[list[int]], int]) -> None:
    groups, n = case
    assert_is_graph(Ranking(groups, n), graph_of_groups(groups, n))
    assert_is_graph(Ranking([tuple(g) if len(g) > 1 else g[0] for g in groups], n), graph_of_groups(groups, n))


@laws
@given(grouped())
def test_net_losses_sum_to_zero(case: tuple[list[list[int]], int]) -> None:
    assert int(Ranking(*case).net_losses().sum()) == 0


@laws
@given(grouped())
def test_groups_say_it_again(case: tuple[list[list[int]], int]) -> None:
    ranking = Ranking(*case)
    assert_is_graph(Ranking(ranking.groups(), ranking.n), graph_of_groups(*case))


@laws
@given(st.lists(grouped(), min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_parts_add_their_edges_up(cases: list[tuple[list[list[int]], int]], random: Any) -> None:
    """Each part ranks some of the queries; the others are absent from it."""
    total = sum(n for _, n in cases)
    positions = list(range(total))
    random.shuffle(positions)
    parts, edges, start = [], set(), 0
    for groups, n in cases:
        mine = positions[start : start + n]
        parts.append((np.array(mine, dtype=np.intp), Ranking(groups, n)))
        edges |= {(mine[i], mine[j]) for i, j in graph_of_groups(groups, n)}
        start += n
    assert_is_graph(Ranking.join(parts, total), edges)


@laws
@given(grouped(), st.integers(1, 9))
def test_the_best_of_a_ranking_as_a_graph(case: tuple[list[list[int]], int], n_ranked: int) -> None:
    groups, n = case
    n_ranked = min(n_ranked, n)
    place = {i: p for p, group in enumerate(groups) for i in group}
    values = [float(place.get(i, len(groups))) for i in range(n)]
    assert_is_graph(Ranking(groups, n).ranking(n_ranked), graph_of_values(values, n_ranked))


def test_the_best_of_a_part_pass_over_the_absent() -> None:
    part = Ranking.join([(np.array([2, 3, 4, 5]), Ranking([0, 1, 2, 3], 4))], 6)
    assert_is_graph(part.ranking(1), {(2, 3), (2, 4), (2, 5)})


@pytest.mark.parametrize(("m", "k"), [(10, 10), (15, 5), (6, 1), (8, 3), (2, 1)])
def test_closed_form_of_the_m_k_oracle(m: int, k: int) -> None:
    ranking = Ranking(range(k), m)
    assert ranking.net_losses().tolist() == [-(m - 1 - 2 * r) for r in range(k)] + [k] * (m - k)
    assert ranking.n_edges == k * (k - 1) // 2 + k * (m - k)


@laws
@given(grouped(), st.randoms(use_true_random=False))
def test_display_order_does_not_matter(case: tuple[list[list[int]], int], random: Any) -> None:
    groups, n = case
    shown = list(range(n))
    random.shuffle(shown)
    moved = Ranking([[shown[i] for i in group] for group in groups], n)
    expected: Ints = Ranking(groups, n).net_losses()
    assert moved.net_losses()[shown].tolist() == expected.tolist()


@laws
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=9))
def test_monotone_transforms_do_not_matter(values: list[int]) -> None:
    v = np.array(values, dtype=float)
    for same in (3.0 * v - 5.0, np.exp(v), v**3, np.arctan(v)):
        assert Values(same).ranking().net_losses().tolist() == Values(v).ranking().net_losses().tolist()


def test_infinities_are_failures() -> None:
    values = Values([1.0, np.inf, -np.inf, np.nan, 0.0])
    assert np.isnan(values.values).tolist() == [False, True, True, True, False]
    assert values.n_failed == 3
    assert_is_graph(values.ranking(), {(4, 0), *((i, j) for i in (4, 0) for j in (1, 2, 3))})


def test_values_are_a_copy() -> None:
    mine = np.array([1.0, np.inf])
    values = Values(mine)
    mine[0] = 5.0
    assert values.values[0] == 1.0 and mine[1] == np.inf


@pytest.mark.parametrize("value", [1.5, -0.0, np.nan, np.inf, -np.inf])
def test_floats_are_the_same_by_the_short_way(value: float) -> None:
    short, long = Values.of([2.5, value]), Values([2.5, value])
    np.testing.assert_array_equal(short.values, long.values)
    assert (short.n, short.n_failed, short.stderr, short.info) == (2, long.n_failed, None, None)


def test_empty_groups_and_nothing_ranked() -> None:
    assert_is_graph(Ranking([[], [1], []], 3), {(1, 0), (1, 2)})
    assert Ranking([], 4).n_edges == 0
    assert Ranking([], 0).net_losses().tolist() == []


def test_arrays_and_numpy_integers_are_positions() -> None:
    assert_is_graph(Ranking([np.int64(2), np.array([0, 1])], 3), {(2, 0), (2, 1)})  # type: ignore[list-item]


def test_net_losses_are_kept_and_read_only() -> None:
    ranking = Values([3.0, 1.0, 2.0]).ranking()
    with pytest.raises(ValueError, match="read-only"):
        ranking.net_losses()[:] = 0


def test_none_is_a_failure() -> None:
    assert Values([None, 1.0]).n_failed == 1


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ([0, 3], "`Ranking(groups)` names 3, but the positions of 3 queries run from 0 to 2."),
        ([-1], "`Ranking(groups)` names -1, but"),
        ([0.5], "`Ranking(groups)` names 0.5, but"),
        ([True], "`Ranking(groups)` names True, but"),
        (["0"], "`Ranking(groups)` names '0', but"),
        ([0, 1, 0], "`Ranking(groups)` names position 0 twice; each query has one place."),
        ([(1, 1)], "`Ranking(groups)` names position 1 twice"),
        ([(0, 2), 2], "`Ranking(groups)` names position 2 twice"),
    ],
)
def test_bad_rankings(groups: list[Any], words: str) -> None:
    with pytest.raises(bz.TellError) as error:
        Ranking(groups, 3)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((["a"],), "`Values(values)` needs one real number per query, got ['a']"),
        ((5.0,), "shape (n,), one number per query; got shape ()"),
        (([[1.0, 2.0]],), "got shape (1, 2)"),
        (([1.0, 2.0], [0.1]), "`Values` has 2 values but 1 entries in `stderr`"),
        (([1.0], None, [None, None]), "`Values` has 1 values but 2 entries in `info`"),
    ],
)
def test_bad_values(arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(bz.TellError) as error:
        Values(*arguments)
    assert words in str(error.value)


def test_repr_reads_like_the_constructor() -> None:
    assert repr(Ranking([2, (0, 3)], 5)) == "Ranking([[2], [0, 3]], n=5)"
    assert "1." in repr(Values([1.0]))


# ------------------------------------------------------------------------------------------------ parts with weights

compared = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from([0.25, 0.5, 1.0, 2.0])).filter(
        lambda e: e[0] != e[1]
    ),
    max_size=12,
)


@laws
@given(compared, st.booleans())
def test_pairs_add_their_weights_up(edges: list[tuple[int, int, float]], weighted: bool) -> None:
    """Also where a pair comes again or is contradicted. The weights are sums of powers of 2, so sums are exact."""
    weights = [w if weighted else 1.0 for *_, w in edges]
    ranking = Ranking.pairs([i for i, *_ in edges], [j for _, j, _ in edges], 6, weights if weighted else None)
    net = [sum(w * ((j == v) - (i == v)) for (i, j, _), w in zip(edges, weights, strict=True)) for v in range(6)]
    assert ranking.net_losses().tolist() == net and ranking.n_edges == sum(weights) and ranking.n == 6


@laws
@given(st.lists(st.tuples(grouped(), st.sampled_from([0.5, 1.0, 3.0])), min_size=1, max_size=3))
def test_a_part_of_weight_w_counts_w_times(cases: list[tuple[tuple[list[list[int]], int], float]]) -> None:
    rows = [Ranking([g for g in ([i for i in group if i < 4] for group in groups) if g], 4) for (groups, _), _ in cases]
    weights = [w for _, w in cases]
    together = Ranking.from_levels(np.concatenate([r.levels for r in rows]), weights)
    net = np.sum([w * r.net_losses() for r, w in zip(rows, weights, strict=True)], axis=0)
    assert together.net_losses().tolist() == net.tolist()
    assert together.n_edges == sum(w * r.n_edges for r, w in zip(rows, weights, strict=True))


def test_weights_of_one_are_none() -> None:
    """So that whole numbers stay whole, to the bit."""
    ranking = Ranking.pairs([0, 1], [1, 2], 3, [1.0, 1.0])
    assert ranking.weights is None and ranking.net_losses().dtype == np.intp


@pytest.mark.parametrize("levels", [[1, 0, 2], [[1, 0, 2], [0, 0, 1]]])
def test_places_may_be_given_as_lists(levels: Any) -> None:
    np.testing.assert_array_equal(Ranking.from_levels(levels).levels, np.atleast_2d(levels))


def test_join_keeps_weights() -> None:
    weighted, plain = Ranking.from_levels(np.array([[0, 1], [1, 0]]), [0.5, 2.0]), Ranking([1], 2)
    joined = Ranking.join([(np.array([3, 0]), weighted), (np.array([1, 2]), plain)], 4)
    assert joined.weights is not None and joined.weights.tolist() == [0.5, 2.0, 1.0]
    assert joined.net_losses().tolist() == [-1.5, 1.0, -1.0, 1.5] and joined.n_edges == 3.5


def test_each_part_is_cut_down_by_itself() -> None:
    """As if each rater had named their best only; pairs are not changed."""
    raters = Ranking.from_levels(np.array([[0, 1, 2, 3], [3, 2, 1, 0]]), [1.0, 2.0])
    best = raters.ranking(1)
    assert best.levels.tolist() == [[0, 1, 1, 1], [1, 1, 1, 0]] and best.weights is not None
    assert best.net_losses().tolist() == [-3 + 2, 1 + 2, 1 + 2, 1 - 6]
    pairs = Ranking.pairs([0, 1], [1, 2], 3)
    assert pairs.ranking(1).levels.tolist() == pairs.levels.tolist()


@laws
@given(grouped(), st.data())
def test_about_some_queries_is_the_graph_among_them(case: tuple[list[list[int]], int], data: Any) -> None:
    groups, n = case
    some = data.draw(st.lists(st.integers(0, n - 1), unique=True))
    edges = {(some.index(i), some.index(j)) for i, j in graph_of_groups(groups, n) if i in some and j in some}
    assert_is_graph(Ranking(groups, n).about(np.array(some, dtype=np.intp)), edges)


def test_merged_is_the_order_of_net_losses() -> None:
    raters = Ranking.from_levels(np.array([[0, 1, 2], [0, 2, 1], [2, 0, 1]]))
    assert raters.merged().levels.tolist() == [[0, 1, 2]]  # net losses -2, 0, 2
    one = Ranking([1], 3)
    assert one.merged() is one


def test_no_pairs_are_a_ranking_that_knows_nothing() -> None:
    for nothing in (Ranking.pairs([], [], 4), Ranking.pairs([], [], 4, []), Ranking.join([], 4)):
        assert nothing.n == 4 and nothing.n_edges == 0 and not nothing.net_losses().any() and nothing.groups() == []


def test_many_parts_are_told_in_short() -> None:
    assert repr(Ranking.pairs([0, 1], [1, 2], 3)) == "<Ranking of 3 queries in 2 parts>"
    assert repr(Ranking([1, (0, 2)], 4)) == "Ranking([[1], [0, 2]], n=4)"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Ranking.pairs([0], [1, 2], 3), "got 1 better and 2 worse ones; give one each per pair."),
        (lambda: Ranking.pairs([0], [3], 3), "two different positions from 0 to 2 in each pair."),
        (lambda: Ranking.pairs([1], [1], 3), "two different positions from 0 to 2 in each pair."),
        (lambda: Ranking.pairs([0], [1], 3, [1.0, 2.0]), "has 1 parts, but weights of shape (2,); give one per part."),
        (lambda: Ranking.pairs([0], [1], 3, [0.0]), "must be positive and finite, got [0.0]."),
        (lambda: Ranking.from_levels(np.array([0, 1]), [np.inf]), "must be positive and finite, got [inf]."),
    ],
)
def test_bad_pairs_and_weights(make: Callable[[], Ranking], words: str) -> None:
    with pytest.raises(bz.TellError) as error:
        make()
    assert words in str(error.value)


def test_values_may_be_any_real_numbers_and_no_others() -> None:
    assert bz.Values([Decimal("1.5"), Fraction(1, 2), np.float32(2), None]).values.tolist()[:3] == [1.5, 0.5, 2.0]
    assert bz.Values(np.array([1 + 0j, 2])).values.tolist() == [1.0, 2.0]
    for bad in (np.array([1 + 1j, 2]), ["1.5", 2.0], np.array(["1.5"])):
        with pytest.raises(bz.TellError, match="needs one real number per query"):
            bz.Values(bad)


def test_errors_that_are_not_known_are_none_as_in_a_journal() -> None:
    """A live run and its replay must not differ: a file holds no error of a failed query."""
    found = bz.Values([1.0, np.nan, 2.0], [0.1, np.nan, np.inf]).stderr
    np.testing.assert_array_equal(found, [0.1, np.nan, np.nan])
    assert bz.Values([np.nan, 1.0], [np.nan, np.inf]).stderr is None
    assert bz.Values([1.0], [0.0]).stderr == [0.0]
