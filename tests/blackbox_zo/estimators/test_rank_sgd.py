from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import blackbox_zo as bz
from blackbox_zo._typing import Floats

from ..helpers import bits, few, laws, run, sphere

D = 6
X = np.linspace(-1.0, 1.0, D)


def bowl(points: Floats) -> Floats:
    return np.asarray((np.arange(1.0, points.shape[-1] + 1) * (points - 0.3) ** 2).sum(axis=-1))


class Literal:
    """The docstring, line by line, on whole vectors."""

    def __init__(self, mu: float, m: int, l: int, k: int, shared: bool, seed: int) -> None:  # noqa: E741
        self.mu, self.m, self.l, self.k, self.shared, self.seed = mu, m, l, k, shared, seed
        self.x, self.step, self.line = X, 0, False
        self.found: list[tuple[Floats, float]] = []  # the estimates since the last move

    def xi(self, n: int) -> Floats:
        return bz.Gaussian(bz.Vector(X).blocks, n, bz.Key(self.seed, self.step)).draw()

    def g(self, f: Callable[[Floats], Floats], points: Floats, xi: Floats) -> tuple[Floats, float]:
        """The estimate, and the squares of its weights: its expected rms is their root."""
        order, m = np.argsort(f(points)), len(xi)
        k = min(self.k, m)
        w = np.full(m, float(k))
        w[order[:k]] = [-(m - 1 - 2 * r) for r in range(k)]
        w /= k * (k - 1) / 2 + k * (m - k)
        return w @ xi, float(w @ w)

    def round(self, f: Callable[[Floats], Floats]) -> int:
        """Make one round; the number of queries."""
        if not self.found or not (self.line or self.shared):
            n = self.m + (self.l if self.shared and not self.found else 0)
            xi = self.xi(n)
            self.found.append(self.g(f, self.x + self.mu * xi, xi))
            self.step, self.line = self.step + 1, True
            return n
        u = -sum(g for g, _ in self.found) / np.sqrt(sum(squares for _, squares in self.found))
        lengths = [0.0, *(self.mu * 2 ** (j - (self.l - 1) / 2) for j in range(1, self.l))]
        j = int(np.argmin(f(self.x + np.array(lengths)[:, None] * u)))
        estimate, n = None, self.l
        if self.shared:
            xi = self.xi(self.m)
            estimate, n = self.g(f, self.x + self.mu * u + self.mu * xi, xi), self.l + self.m
        self.x, self.mu = self.x + lengths[j] * u, self.mu * 2 ** (j - (self.l - 1) / 2)
        self.found = [] if j else self.found
        self.found += [] if estimate is None else [estimate]
        self.step, self.line = self.step + 1, False
        return n


@few
@given(
    m=st.integers(2, 9), l=st.integers(3, 6), k=st.integers(1, 9), shared=st.booleans(), seed=st.integers(0, 99)
)  # fmt: skip
def test_rounds_are_those_of_the_docstring(m: int, l: int, k: int, shared: bool, seed: int) -> None:  # noqa: E741
    k = min(k, m)
    search = bz.Search(X, bz.RankSGD(0.1, m, l, None if k == m else k, shared), seed=seed)
    literal = Literal(0.1, m, l, k if k < m else 99, shared, seed)
    for _ in range(14):
        proposal = search.ask()
        search.tell(proposal, bz.Values(bowl(proposal.points)))
        assert literal.round(bowl) == proposal.n
        np.testing.assert_allclose(search.x, literal.x, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(search.state.radius, literal.mu, rtol=1e-9)


def after_a_gradient(estimator: bz.RankSGD, f: Any = bowl) -> tuple[bz.Search, bz.Proposal]:
    """A search whose next round is a line search, and that round."""
    search = run(bz.Search(X, estimator, seed=1), f, 1)
    return search, search.ask()


def test_a_line_search_shows_x_and_points_on_one_ray() -> None:
    search, proposal = after_a_gradient(bz.RankSGD(0.2, 50, 5))
    moves = proposal.points - X
    assert bits(proposal.points[0]) == bits(X)
    lengths = np.linalg.norm(moves, axis=1)[1:]
    np.testing.assert_allclose(lengths[1:] / lengths[:-1], 2.0)
    assert np.linalg.matrix_rank(moves, tol=1e-9) == 1
    gradient = 2 * np.arange(1.0, D + 1) * (X - 0.3)
    assert (moves[1:] @ gradient < 0).all()
    assert search.state.radius == 0.2


@pytest.mark.parametrize("l", range(3, 9))
def test_answers_at_random_leave_the_length_as_it_is_on_average(l: int) -> None:  # noqa: E741
    logs = []
    for j in range(l):
        search, proposal = after_a_gradient(bz.RankSGD(0.2, 6, l))
        search.tell(proposal, bz.Ranking([j], l))
        logs.append(np.log2(search.state.radius / 0.2))
    assert sum(logs) == pytest.approx(0.0, abs=1e-9)
    np.testing.assert_allclose(np.diff(logs), 1.0)


def test_where_x_stays_gradients_are_averaged() -> None:
    search, proposal = after_a_gradient(bz.RankSGD(0.2, 6))
    down = proposal.points[1] - X
    search.tell(proposal, bz.Ranking([0], 5))
    assert bits(search.x) == bits(X) and search.state.radius == pytest.approx(0.05)
    probes = search.ask()
    search.tell(probes, bz.Values(bowl(probes.points)))
    s = search.state
    assert s.steps.tolist() == [0, 2] and s.searching
    xi = [bz.Gaussian(search.variable.blocks, 6, bz.Key(1, t)).draw() for t in (0, 2)]
    g = [w @ rows for w, rows in zip(s.weights, xi, strict=True)]
    np.testing.assert_allclose(probes.points - X, 0.05 * xi[1], atol=1e-12)
    ahead = search.ask().points[1] - X
    average = -(g[0] + g[1])
    np.testing.assert_allclose(ahead / np.linalg.norm(ahead), average / np.linalg.norm(average), atol=1e-9)
    assert not np.allclose(ahead / np.linalg.norm(ahead), down / np.linalg.norm(down))


@pytest.mark.parametrize(
    "answer",
    [
        bz.Ranking([], 5),
        bz.Ranking([(0, 3)], 5),
        bz.Ranking.pairs([2, 0], [0, 2], 5),
        bz.Ranking.pairs([2, 0, 1, 3], [1, 3, 2, 0], 5),
        bz.Values([1.0] * 5),
    ],
    ids=["undecided", "tied at the top", "contradiction", "two contradictions", "flat"],
)
def test_x_stays_where_nothing_is_known_to_be_better(answer: Any) -> None:
    search, proposal = after_a_gradient(bz.RankSGD(0.2, 6))
    search.tell(proposal, answer)
    assert bits(search.x) == bits(X)
    assert search.state.radius == 0.2 and len(search.state.steps) == 1


def test_of_points_that_tie_x_goes_to_the_nearest() -> None:
    search, proposal = after_a_gradient(bz.RankSGD(0.2, 6))
    search.tell(proposal, bz.Ranking([(4, 2, 3)], 5))
    np.testing.assert_allclose(search.x, proposal.points[2], rtol=1e-12)


@laws
@given(st.lists(st.integers(-1, 2), min_size=5, max_size=5))
def test_ties_move_nothing(level: list[int]) -> None:
    """One part with ties and absent candidates, x first. A tie between x and the best, or no word on x: all stays."""
    search, proposal = after_a_gradient(bz.RankSGD(0.2, 6))
    search.tell(proposal, bz.Ranking.from_levels(np.array(level)))
    present = [v for v in level if v >= 0]
    top = [j for j, v in enumerate(level) if present and v == min(present)]
    if level[0] < 0 or len(set(present)) < 2 or (0 in top and len(top) > 1):
        assert bits(search.x) == bits(X) and search.state.radius == 0.2
        return
    np.testing.assert_allclose(search.x, proposal.points[top[0]], rtol=1e-12)  # the nearest
    assert np.log2(search.state.radius / 0.2) == pytest.approx(np.mean(top) - 2.0)


def test_sums_of_weights_tie_whatever_their_rounding() -> None:
    """0.1 + 0.2 for one point, 0.3 for x."""
    search, proposal = after_a_gradient(bz.RankSGD(0.2, 6))
    levels = np.array([[-1, 0, 1, -1, -1], [-1, 0, -1, 1, -1], [0, -1, -1, -1, 1]])
    search.tell(proposal, bz.Ranking.from_levels(levels, [0.1, 0.2, 0.3]))
    assert bits(search.x) == bits(X) and search.state.radius == 0.2


def test_all_of_contradicting_answers_counts() -> None:
    """Two of three raters like the third point best."""
    search, proposal = after_a_gradient(bz.RankSGD(0.2, 6))
    search.tell(proposal, bz.Ranking.from_levels(np.array([[0, 1, 1, 1, 1], [1, 1, 1, 0, 1], [1, 1, 1, 0, 1]])))
    np.testing.assert_allclose(search.x, proposal.points[3], rtol=1e-12)


def test_a_gradient_round_without_an_edge_is_asked_again() -> None:
    search = bz.Search(X, bz.RankSGD(0.2, 6), seed=1)
    proposal = search.ask()
    search.tell(proposal, bz.Ranking([], 6))
    again = search.ask()
    assert again.n == 6 and not np.allclose(again.points, proposal.points)


def test_a_line_search_from_where_x_no_longer_is_moves_nothing() -> None:
    search, first = after_a_gradient(bz.RankSGD(0.2, 6))
    second = search.ask(repeats=True)
    search.tell(first, bz.Ranking([4], 5))
    x, state = search.x, search.state
    search.tell(second, bz.Ranking([4], 5))
    assert bits(search.x) == bits(x) and search.state.radius == state.radius


def test_shared_rounds_probe_where_the_search_should_end() -> None:
    search, proposal = after_a_gradient(bz.RankSGD(0.2, 6, shared_round=True))
    assert proposal.n == 11
    xi = bz.Gaussian(search.variable.blocks, 6, bz.Key(1, 1)).draw()
    np.testing.assert_allclose(proposal.points[5:] - proposal.points[2], 0.2 * xi, atol=1e-12)


@laws
@given(st.lists(st.integers(-20, 20), min_size=5, max_size=5), st.booleans())
def test_only_the_order_matters(values: list[int], shared: bool) -> None:
    v = np.array([*values, *range(30, 36)] if shared else values, dtype=float)
    ends = []
    for same in (v, 7.0 * v + 1e3, np.arctan(v)):
        search, proposal = after_a_gradient(bz.RankSGD(0.2, 6, shared_round=shared))
        search.tell(proposal, bz.Values(same))
        proposal = search.ask()
        search.tell(proposal, bz.Values(np.arange(proposal.n)))
        ends.append((bits(search.x), bits(search.state.weights), search.state.radius))
    assert ends[0] == ends[1] == ends[2]


def test_memory_is_bounded_where_nothing_is_ever_better() -> None:
    search = bz.Search(X, bz.RankSGD(0.2, 6), seed=1)
    for _ in range(60):
        proposal = search.ask()
        search.tell(proposal, bz.Ranking([0], proposal.n))
    assert len(search.state.steps) == 16 and bits(search.x) == bits(X)


@pytest.mark.parametrize("shared", [False, True])
def test_it_does_not_stall_as_a_fixed_rate_does(shared: bool) -> None:
    """The 100-dimensional quadratic on which ZO-RankSGD with its halvings stays at 3 (mean of 5 starts)."""
    x0 = np.random.default_rng(0).standard_normal(100)
    search = bz.Search(x0, bz.RankSGD(0.1, 10, shared_round=shared), budget=4500)
    while not search.exhausted:
        run(search, sphere, 1)
    assert sphere(search.x) < 1e-5


def test_nothing_of_the_size_of_x_is_kept() -> None:
    x = np.ones(3000)
    search = run(bz.Search(x, bz.RankSGD(0.1, 4)), sphere, 7)
    assert sum(np.size(part) for part in search.state) < 50


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"radius": 0}, "`RankSGD(radius=...)` must be a positive number, got 0."),
        ({"n_queries": 1}, "`RankSGD(n_queries=...)` must be a whole number of at least 2, got 1."),
        ({"n_line": 2}, "`RankSGD(n_line=...)` must be a whole number of at least 3, got 2."),
        ({"n_ranked": 0}, "`RankSGD(n_ranked=...)` must be a whole number of at least 1, got 0."),
        ({"n_ranked": 7}, "`RankSGD(n_ranked=...)` must be at most n_queries=6, got 7."),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as error:
        bz.RankSGD(**{"radius": 0.1, "n_queries": 6, **arguments})
    assert str(error.value) == words
