from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.estimators._line_search import MANY, THREE, line_answer

from ..helpers import bits, run, sphere, stretched


def rosenbrock(points: Floats) -> Floats:
    a, b = points[..., :-1], points[..., 1:]
    return np.asarray((100 * (b - a * a) ** 2 + (1 - a) ** 2).sum(axis=-1))


@pytest.mark.parametrize("f", [lambda p: sphere(p - 0.3), stretched, rosenbrock], ids=["sphere", "stretched", "valley"])
@pytest.mark.parametrize("radius", [0.01, 0.3, 10.0])
@pytest.mark.parametrize(("d", "budget"), [(300, 900), (10_000, 400)])
def test_in_many_dimensions_x_never_ends_worse_than_the_start(f: Any, radius: float, d: int, budget: int) -> None:
    search = bz.Search(np.zeros(d), bz.EvolutionStrategy(radius), seed=2, budget=budget)
    while not search.exhausted:
        run(search, f, 1)
    start = float(f(np.zeros(d)))
    assert search.best.value <= start and float(f(search.x)) < start


def test_a_bad_first_radius_costs_one_step() -> None:
    """After 5,000 queries in 1,000 dimensions; pycma 4.5.0 with `CMA_diagonal` comes from 90 to 12.5, 303 and 11.5."""
    for radius in (0.3, 3.0, 0.03):
        search = bz.Search(np.zeros(1000), bz.EvolutionStrategy(radius), seed=1, budget=5000)
        while not search.exhausted:
            run(search, lambda p: sphere(p - 0.3), 1)
        assert sphere(search.x - 0.3) < 4.0


def test_the_first_query_is_the_start_and_later_ones_lie_on_the_line_of_the_move() -> None:
    x0 = np.linspace(0.2, 1.0, 200)
    search = bz.Search(x0, bz.EvolutionStrategy(0.3, 16), seed=1)
    before = None
    for step in range(4):
        proposal, x = search.ask(), np.array(search.x)
        np.testing.assert_allclose(proposal.points[0], x, rtol=1e-12)
        if before is not None:
            places = [1, 0, 2, 0.25, 4, 1 / 16, 0.5, 1 / 64] if step == 1 else [1, 0, 2]
            for place, point in zip(places, proposal.points, strict=False):
                np.testing.assert_allclose(point, before + place * (x - before), atol=1e-12)
            np.testing.assert_allclose(np.linalg.norm(x - before), np.linalg.norm(search.state.line))
        values = sphere(proposal.points)
        search.tell(proposal, bz.Values(values))
        on_line = values[: [1, 8, 3, 3][step]]
        before = x if np.argmin(on_line) == 0 else None
        if before is None:
            break
    assert step >= 1


@pytest.mark.parametrize(
    ("order", "best", "change"),
    [
        ("x02", 1.0, 1 / 1.2),  # x is best, and the start better than the point beyond: a little too far
        ("x20", 1.0, 1.2),
        ("2x0", 2.0, 2.0),
        ("20x", 2.0, 2.0),
        ("0x2", 0.5, 0.5),
        ("02x", 0.5, 0.5),
    ],
)
def test_what_three_points_say(order: str, best: float, change: float) -> None:
    answer = line_answer(THREE, bz.Ranking(["x02".index(name) for name in order], 5))
    assert answer is not None
    assert answer.best == best and answer.change == pytest.approx(change) and answer.sideways


def test_three_points_that_tell_nothing_change_nothing_on_average() -> None:
    orders = [line_answer(THREE, bz.Ranking(p, 3)) for p in itertools.permutations(range(3))]
    assert sum(math.log(answer.change) for answer in orders if answer) == pytest.approx(0.0, abs=1e-12)
    assert line_answer(THREE, bz.Ranking([(0, 1, 2)], 5)) is None
    assert line_answer(THREE, bz.Ranking([0], 1)) is None


def test_many_points_say_how_far_to_go_and_whether_the_rest_still_holds() -> None:
    for i, place in enumerate(MANY):
        answer = line_answer(MANY, bz.Ranking([i], len(MANY) + 3))
        assert answer is not None
        expected = place or 1 / 512
        assert (answer.best, answer.change, answer.sideways) == (expected, expected, expected >= 0.25)


def test_with_a_line_only_the_order_matters_too() -> None:
    by_value, by_order = (bz.Search(np.zeros(150), bz.EvolutionStrategy(0.3), seed=3) for _ in range(2))
    for _ in range(12):
        proposal, other = by_value.ask(), by_order.ask()
        values = stretched(proposal.points)
        by_value.tell(proposal, bz.Values(np.exp(values / 1e5)))
        by_order.tell(other, bz.Ranking(np.argsort(values).tolist(), other.n))
    assert bits(by_value.x) == bits(by_order.x) and by_value.state.radius == by_order.state.radius


def test_a_late_answer_changes_the_radius_but_does_not_go_back_along_its_line() -> None:
    search = run(bz.Search(np.ones(150), bz.EvolutionStrategy(0.05), seed=3), sphere, 3)
    first, second = search.ask(), search.ask()
    search.tell(second, bz.Values(sphere(second.points)))
    x, radius, line = np.array(search.x), search.state.radius, search.state.line
    order = np.concatenate(([0, 2], np.arange(3, first.n), [1]))  # of the line: x, beyond, start
    values = np.empty(first.n)
    values[order] = np.arange(first.n)
    search.tell(first, bz.Values(values))
    assert search.state.radius == pytest.approx(1.2 * radius)
    moved = search.x - x
    assert abs(moved @ line) < 0.5 * (line @ line) and np.linalg.norm(moved) < 3 * np.linalg.norm(line)


def test_a_step_cut_short_to_its_line_moves_along_it() -> None:
    for budget in range(18, 42):
        search = bz.Search(np.ones(150), bz.EvolutionStrategy(0.3, 20), seed=1, budget=budget)
        while not search.exhausted:
            run(search, sphere, 1)
        assert search.nfev == budget and sphere(search.x) < 160.0


@pytest.mark.parametrize(
    ("estimator", "d", "line"),
    [
        (bz.EvolutionStrategy(0.3), 100, False),
        (bz.EvolutionStrategy(0.3), 101, True),
        (bz.EvolutionStrategy(0.3, 11), 101, False),
        (bz.EvolutionStrategy(0.3, 12), 101, True),
        (bz.EvolutionStrategy(0.3, covariance="full"), 101, False),
        (bz.EvolutionStrategy(0.3, covariance="isotropic"), 101, True),
        (bz.EvolutionStrategy(0.3, covariance="isotropic", adapt_radius=False), 101, False),
        (bz.EvolutionStrategy(0.3, step_size="path"), 101, False),
        (bz.EvolutionStrategy(0.3, 5, step_size="line"), 1, True),
        (bz.EvolutionStrategy(0.3, step_size="line"), 1, True),
        (bz.EvolutionStrategy(0.3, covariance="low-rank"), 10, True),
        (bz.EvolutionStrategy(0.3, 4, covariance="low-rank"), 10, False),
        (bz.EvolutionStrategy(0.3, learning_rate="adapted"), 101, False),
        (bz.EvolutionStrategy(0.3, model=True), 101, False),
    ],
)
def test_a_line_is_the_default_in_many_dimensions(estimator: bz.EvolutionStrategy, d: int, line: bool) -> None:
    x = bz.Vector(np.zeros(d))
    queries = estimator.sample(estimator.start(x), x, bz.Key(0, 0))
    asks_itself = not queries.directions.rows[0].any()
    assert asks_itself == line


@pytest.mark.parametrize(("step_size", "d", "until"), [("both", 3, 15), ("both", 120, 1200), ("line", 3, math.inf)])
def test_both_go_by_lines_first_and_then_by_a_path(step_size: Any, d: int, until: float) -> None:
    search = bz.Search(np.ones(d), bz.EvolutionStrategy(0.3, 10, step_size=step_size), seed=1)
    for _ in range(int(min(until, 60)) // 10 + 5 if d < 100 else 125):
        asked, proposal = search.nfev, search.ask()
        itself = not proposal.queries.directions.rows[0].any()
        assert itself == (asked < until)
        assert (search.state.path_radius.size == 0) == itself and (search.state.line.size == 0) != itself
        search.tell(proposal, bz.Values(stretched(proposal.points)))
