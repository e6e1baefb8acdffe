"""`OrdinalCoordinateSearch`: separable functions from rankings alone, and noticing that one is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.estimators._ordinal_coordinates import LOOK
from blackbox_zo.estimators._ordinal_line import brackets, halved, minima, narrowed, part, sections

from ..helpers import Quadratic, sphere


def rastrigin(points: Floats) -> Floats:
    return np.asarray((10 + points**2 - 10 * np.cos(2 * np.pi * points)).sum(axis=-1))


def rosenbrock(points: Floats) -> Floats:
    x, y = points[..., :-1], points[..., 1:]
    return np.asarray((100.0 * (y - x**2) ** 2 + (1.0 - x) ** 2).sum(axis=-1))


def run(f: Any, x0: Any, bounds: Any = (-5.0, 5.0), budget: int = 2000, flips: float = 0.0) -> bz.Search:
    """A search that ends with the budget or when it is over; with flips, each comparison of two errs so often."""
    search = bz.Search(bz.Vector(x0, bounds), bz.OrdinalCoordinateSearch(), seed=1, budget=budget)
    rng = np.random.default_rng(5)
    while not search.exhausted and not search.estimator.over(search.state, search.variable):
        proposal = search.ask()
        values = np.asarray(f(proposal.points))
        search.tell(proposal, flipped(values, flips, rng) if flips else bz.Values(values).ranking())
    return search


def flipped(values: Floats, share: float, rng: np.random.Generator) -> bz.Ranking:
    """All pairs of points, a share of them the wrong way round."""
    i, j = np.triu_indices(len(values), 1)
    better = (values[i] < values[j]) ^ (rng.random(len(i)) < share)
    return bz.Ranking.pairs(np.where(better, i, j), np.where(better, j, i), len(values))


# ------------------------------------------------------------------------------------------- the line


def test_the_minima_of_an_order() -> None:
    assert minima(np.array([3, 1, 2, 0, 4])).tolist() == [1, 3]
    assert minima(np.array([0, 1, 2])).tolist() == [0]
    assert minima(np.array([2, 1, 1, 2])).tolist() == [1]  # a plateau is one minimum
    t = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    assert brackets(t, np.array([0, 3])).tolist() == [[0, 0, 1], [2, 3, 4]]


def test_the_part_of_a_line_where_the_better_half_lies() -> None:
    assert part(np.array([0.0, 1, 2, 3, 4, 5, 6]), np.array([6, 5, 1, 4, 0, 2, 3])) == (1.0, 6.0)
    assert part(np.array([0.0, 1, 2, 3]), np.array([0, 1, 2, 3])) == (0.0, 2.0)


def test_rivals_are_halved_down_to_one() -> None:
    rivals = np.array([[0.0, 1, 2], [3, 4, 5], [6, 7, 8]])
    assert halved(rivals, np.array([2, 0, 1])).tolist() == [[3, 4, 5]]


def test_intervals_keep_the_minimum_of_a_function_of_one() -> None:
    rng = np.random.default_rng(0)
    least = rng.uniform(0, 1, 50)
    line: tuple[Floats, Floats, Floats] = (np.zeros(50), np.full(50, 0.3), np.ones(50))
    for _ in range(40):
        place = sections(*line)
        better = np.abs(place - least) < np.abs(line[1] - least)
        line = narrowed(*line, place, better, ~better)
        assert ((line[0] <= least) & (least <= line[2])).all()
    assert (line[2] - line[0]).max() < 1e-7


# ------------------------------------------------------------------------------------------- separable functions


@pytest.mark.parametrize("d", [1, 2, 5, 10])
def test_a_sphere_takes_few_queries_for_each_coordinate(d: int) -> None:
    least = np.linspace(-1.5, 2.5, d)
    search = run(lambda p: sphere(p - least), np.linspace(4.0, -3.0, d), budget=30 * d + 40)
    assert sphere(search.x - least) < 1e-6


@pytest.mark.parametrize("d", [3, 10, 60])
def test_a_slope_is_followed_into_the_corner_at_once(d: int) -> None:
    slope = np.where(np.arange(d) % 2, -1.0, 1.0) * 10 ** np.linspace(0, 1, d)
    rng = np.random.default_rng(d)
    low, high = -rng.uniform(0.1, 9, d), rng.uniform(0.1, 9, d)  # to the last bit
    search = run(lambda p: p @ slope, 0.1 * low + 0.03 * high, np.column_stack((low, high)), budget=2 * d + 3)
    np.testing.assert_array_equal(search.x, np.where(slope > 0, low, high))


@pytest.mark.parametrize("d", [2, 5])
def test_the_best_of_many_minima_is_found(d: int) -> None:
    least = np.linspace(-2.2, 3.1, d)
    search = run(lambda p: rastrigin(p - least), np.full(d, 4.0), budget=160 * d)
    assert rastrigin(search.x - least) < 1e-6


def test_without_bounds_the_span_grows() -> None:
    least = np.array([300.0, -0.5, 7.0])
    search = run(lambda p: sphere(p - least), np.zeros(3), None, budget=300)
    assert np.abs(search.x - least).max() < 1e-3


def test_a_fixed_coordinate_stays_and_costs_nothing() -> None:
    bounds = [(-5.0, 5.0), (2.0, 2.0), (-5.0, 5.0)]
    assert bz.Search(bz.Vector([1.0, 2.0, 3.0], bounds), bz.OrdinalCoordinateSearch()).ask().n == 3
    search = run(sphere, [1.0, 2.0, 3.0], bounds, budget=150)
    assert np.abs(search.x - [0, 2, 0]).max() < 1e-3


def test_it_looks_along_each_coordinate_in_turn() -> None:
    """Anew where no coordinate gains any more."""
    search, looked = bz.Search(bz.Vector(np.full(3, 3.0), (-5, 5)), bz.OrdinalCoordinateSearch()), []
    for _ in range(300):
        proposal = search.ask()
        if search.state.phase == LOOK:
            looked.append(search.state.axis)
        search.tell(proposal, bz.Values(sphere(proposal.points - 0.3)).ranking())
    assert list(dict.fromkeys(looked)) == [1, 2, 0]


def test_it_goes_on_around_x_and_never_gets_worse() -> None:
    search, last = bz.Search(bz.Vector(np.full(3, 3.0), (-5, 5)), bz.OrdinalCoordinateSearch()), np.inf
    for _ in range(300):
        proposal = search.ask()
        search.tell(proposal, bz.Values(rastrigin(proposal.points - 0.3)).ranking())
        now = float(rastrigin(search.x - 0.3))
        assert now <= last + 1e-12
        last = now
        assert not search.estimator.over(search.state, search.variable)
    assert last < 1e-9


# ------------------------------------------------------------------------------------------- others


def ridge(points: Floats) -> Floats:
    return np.asarray(np.abs(points.sum(axis=-1)) + sphere(points) / 100)


def turned(points: Floats) -> Floats:
    axes = np.linalg.qr(np.random.default_rng(4).standard_normal((6, 6)))[0]
    return np.asarray((10.0 ** np.linspace(0, 4, 6) * (points @ axes) ** 2).sum(axis=-1))


@pytest.mark.parametrize(("f", "most"), [(rosenbrock, 60), (ridge, 40), (turned, 40), (Quadratic(6, seed=1), 160)])
def test_it_notices_that_a_function_is_not_separable(f: Any, most: int) -> None:
    """Soon where coordinates hang together closely; later where they hardly do."""
    search = run(f, np.linspace(-3, 2.5, 6), budget=500)
    assert "not separable" in search.estimator.over(search.state, search.variable)
    assert search.nfev <= most


def test_it_is_over_where_nothing_is_better() -> None:
    search = run(lambda p: np.zeros(len(p)), np.ones(3))
    assert search.estimator.over(search.state, search.variable) == "no point is better than another"
    assert search.nfev == 4 and (search.x == 1).all()


def test_an_answer_cut_short_or_late_changes_nothing() -> None:
    search = bz.Search(bz.Vector(np.ones(4), (-5, 5)), bz.OrdinalCoordinateSearch(), budget=8)
    early = search.ask()
    search.tell(early, bz.Values(sphere(early.points)).ranking())
    x = search.x
    cut = search.ask()
    assert cut.n == 3
    search.tell(cut, bz.Values(sphere(cut.points)).ranking())
    assert (search.x == x).all() and search.state.turn == 1


@pytest.mark.parametrize("seed", range(4))
def test_people_may_name_the_best_three(seed: int) -> None:
    """x is asked again with the others, so that a coordinate that nobody has ranked is compared later."""
    least = np.random.default_rng(seed).uniform(-4, 4, 5)
    search = bz.Search(bz.Vector(np.full(5, 2.9), (-5, 5)), bz.OrdinalCoordinateSearch(), budget=500)
    while not search.exhausted:
        p = search.ask()
        search.tell(p, bz.Values(sphere(p.points - least)).ranking(3))
        assert not search.estimator.over(search.state, search.variable)
    assert sphere(search.x - least) < 1e-6


@pytest.mark.parametrize("f", [sphere, Quadratic(5, seed=2)])
def test_minimize_bears_a_tenth_of_all_comparisons_wrong(f: Any) -> None:
    class Judge(bz.Oracle):
        accepts = ()

        def answer(self, proposal: bz.Proposal) -> bz.Ranking:
            rng = np.random.default_rng([3, proposal.step])
            return flipped(np.asarray(f(proposal.points)), 0.1, rng)

    first = float(f(np.full((1, 5), 3.0))[0])
    r = bz.minimize(Judge(), np.full(5, 3.0), budget=1500, bounds=(-5, 5), seed=1)
    assert float(f(r.center[None])[0]) < 1e-4 * first


def test_a_portfolio_goes_on_where_it_ends() -> None:
    seen: list[Floats] = []
    f = Quadratic(4, seed=1)

    def recorded(points: Floats) -> Floats:
        seen.append(points)
        return np.asarray(f(points))

    r = bz.minimize(bz.RankOnly(bz.FunctionOracle(recorded, vectorized=True)), np.full(4, 3.0), budget=500)
    first, second, *others = [run for run in r.trace if run.queries > 1]
    assert (first.member, second.member, others) == ("OrdinalCoordinateSearch", "OrdinalSurrogate", [])
    assert "not separable" in first.ended and f(r.center[None])[0] < 1e-6


def test_the_next_member_begins_at_the_last_move() -> None:
    x0 = np.random.default_rng(0).uniform(-4, 4, 6)
    alone = run(ridge, x0)
    assert "joint" in alone.estimator.over(alone.state, alone.variable)  # it went back to the best single move
    members = (bz.OrdinalCoordinateSearch(), bz.OrdinalSurrogate(0.3))
    search = bz.Search(bz.Vector(x0, (-5.0, 5.0)), bz.Portfolio(members), seed=1)
    while search.state.member < 1:
        proposal = search.ask()
        search.tell(proposal, bz.Values(ridge(proposal.points)).ranking())
    np.testing.assert_allclose(search.x, alone.x, rtol=1e-12)


def test_the_radius_is_positive() -> None:
    with pytest.raises(ValueError, match=r"`OrdinalCoordinateSearch\(radius=\.\.\.\)`"):
        bz.OrdinalCoordinateSearch(0.0)
