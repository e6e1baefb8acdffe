"""`CoordinateSearch`, and its parts: the easiest interval and the parabola."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.estimators._interval_search import easiest, next_places, parabola
from blackbox_zo.estimators._stages import towards

BOX = (-5.0, 5.5)


def searched(
    f: Callable[[Floats], float], x0: Any, queries: int, estimator: bz.Estimator | None = None, **given: Any
) -> tuple[bz.Search, str]:
    """The search when it is over, or at the end of the budget, and why."""
    estimator = estimator or bz.CoordinateSearch()
    search, why = bz.Search(bz.Vector(x0, **given), estimator, budget=queries), ""
    while not search.exhausted and not why:
        p = search.ask()
        search.tell(p, bz.Values([f(x) for x in p.points]))
        why = estimator.over(search.state, search.variable)
    return search, why


def rastrigin(x: Floats) -> float:
    return float((10 + x**2 - 10 * np.cos(2 * np.pi * x)).sum())


def turned(f: Callable[[Floats], float], d: int, seed: int) -> Callable[[Floats], float]:
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]
    return lambda x: f(turn @ x)


# ---------------------------------------------------------------------------------------------- separable functions


@pytest.mark.parametrize("d", [1, 2, 7, 40])
def test_many_minima(d: int) -> None:
    x0 = np.random.default_rng(d).uniform(-4, 4, d)
    search, _ = searched(rastrigin, x0, 100 * d + 20, bounds=BOX)
    assert search.best.value < 1e-8


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_most_sums_of_wavy_functions_are_solved(seed: int) -> None:
    rng = np.random.default_rng(seed)
    best, depth, waves = rng.uniform(-4, 4, 3), rng.uniform(0.0, 3.0, 3), rng.uniform(1.0, 5.0, 3)

    def f(x: Floats) -> float:
        z = x - best
        return float((z**2 + depth * (1 - np.cos(waves * z))).sum())

    search, _ = searched(f, rng.uniform(-4, 4, 3), 900, bounds=(-5, 5))
    assert search.best.value < 1e-6


@pytest.mark.parametrize("factor", [1e-9, 1e9])
@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_the_unit_of_f_and_a_constant_do_not_matter(factor: float, shift: float) -> None:
    search, _ = searched(lambda x: factor * (rastrigin(x) + shift), np.full(3, 3.3), 400, bounds=BOX)
    assert search.best.value / factor - shift < 1e-8


def test_a_kink_at_the_optimum_with_a_steep_and_a_flat_side() -> None:
    def f(x: Floats) -> float:
        z = x - 0.1234
        return float(np.where(z > 0, 100 * z * z, z * z).sum())

    search, _ = searched(f, np.full(3, 4.0), 400, bounds=BOX)
    assert search.best.value < 1e-9


def test_an_optimum_on_bounds_is_found_exactly_and_no_query_is_outside() -> None:
    low, high, seen = np.array([-1e3, 0.1, -0.3]), np.array([1e-3, 0.7, 0.3]), list[Floats]()

    def f(x: Floats) -> float:
        seen.append(np.array(x))
        return float(-x[0] + x[1] + x[2] ** 2)

    search, _ = searched(f, np.array([-17.3, 0.31, 0.2]), 100, bounds=np.stack((low, high), axis=1))
    assert search.best.x[0] == 1e-3 and search.best.x[1] == 0.1
    assert (np.array(seen) >= low).all() and (np.array(seen) <= high).all()


@pytest.mark.parametrize("away", [3.0, 1e3, 1e6])
def test_without_bounds_the_span_doubles(away: float) -> None:
    best = away * np.array([1.0, -0.7])
    search, _ = searched(lambda x: float(np.abs(x - best).sum()), np.zeros(2), 400)
    assert search.best.value < 1e-4 * away


def test_one_open_side() -> None:
    search, _ = searched(lambda x: float(((x - 100) ** 2).sum()), np.zeros(2), 200, bounds=[(-1, None)] * 2)
    assert search.best.value < 1e-9


def test_x_is_where_it_was_asked_and_never_gets_worse() -> None:
    f, asked = turned(rastrigin, 4, 1), dict[bytes, float]()
    search, value = bz.Search(bz.Vector(np.full(4, 2.2), BOX), bz.CoordinateSearch(), budget=600), math.inf
    while not search.exhausted:
        p = search.ask()
        asked |= {x.tobytes(): f(x) for x in p.points}
        search.tell(p, bz.Values([f(x) for x in p.points]))
        now = asked[np.asarray(search.x).tobytes()]
        assert now == pytest.approx(search.state.value, rel=1e-13)  # a sum of rises
        assert search.state.value <= value * (1 + 1e-13)
        value = now


# ------------------------------------------------------------------------------------------- those that are not


@pytest.mark.parametrize("d", [3, 5, 20])
def test_what_is_not_separable_is_left_after_few_queries(d: int) -> None:
    taken = []
    for seed in range(10):
        scales: Floats = np.asarray(np.logspace(0, 2, d), dtype=np.float64)

        def bent(x: Floats, s: Floats = scales) -> float:
            return float((s * x * x).sum()) + rastrigin(x)

        f = turned(bent, d, seed)
        search, why = searched(f, np.random.default_rng(seed).uniform(-4, 4, d), 100 * d, bounds=BOX, unit=5.0)
        assert why.startswith("not separable")
        taken.append(search.nfev)
    assert np.median(taken) == d + 2
    assert max(taken) < 10 * d


def test_rosenbrock_is_left_at_once() -> None:
    f = lambda x: float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())  # noqa: E731
    search, why = searched(f, np.zeros(6), 600, bounds=(-2, 2))
    assert (search.nfev, why[:13]) == (8, "not separable")


def test_what_is_nearly_separable_is_kept() -> None:
    f = lambda x: rastrigin(x) + 0.01 * float(x[0] * x[1])  # noqa: E731
    search, _ = searched(f, np.full(4, 2.0), 400, bounds=BOX)
    assert search.best.value < 0.01


def test_used_alone_it_goes_on() -> None:
    f = turned(lambda x: float((np.array([1.0, 10.0, 30.0]) * (x - 0.5) ** 2).sum()), 3, 0)
    short, long = (bz.minimize(f, np.full(3, 3.0), bz.CoordinateSearch(), n, BOX, unit=5.0).fun for n in (6, 2000))
    assert long < 0.1 * short  # which was over after 5 queries


def test_in_a_portfolio_it_runs_once() -> None:
    members = (bz.CoordinateSearch(), bz.QuasiNewton())
    r = bz.minimize(turned(rastrigin, 3, 2), np.full(3, 2.2), bz.Portfolio(members), budget=1500, bounds=BOX)
    names = [run.member for run in r.trace]
    assert names[0] == "CoordinateSearch" and names[1:] == ["QuasiNewton"] * (len(names) - 1) and len(names) > 4


def test_alone_in_a_portfolio_it_restarts() -> None:
    r = bz.minimize(turned(rastrigin, 3, 2), np.full(3, 2.2), bz.Restarts(bz.CoordinateSearch()), 300, BOX)
    assert len(r.trace) > 10


# ------------------------------------------------------------------------------------------------------- failures


def test_half_of_the_box_fails() -> None:
    f = lambda x: math.nan if (x > 1.5).any() else rastrigin(x)  # noqa: E731
    search, _ = searched(f, np.full(3, -3.3), 500, bounds=BOX)
    assert search.best.value < 1e-8


def test_where_the_first_joint_point_fails_it_goes_on() -> None:
    f = lambda x: math.nan if x.sum() > 6 else rastrigin(x)  # noqa: E731
    search, _ = searched(f, np.full(4, -2.0), 500, bounds=BOX)
    assert search.best.value < 1e-8


def test_a_gain_that_the_first_joint_point_hid_is_claimed() -> None:
    # half the way, x_0 and x_1 gain, and x_2 loses more than both
    weights, best = np.array([1.0, 0.5, 100.0]), np.array([2.5, 2.5, 0.0])
    search, _ = searched(lambda x: float(weights @ np.abs(x - best)), np.zeros(3), 9, bounds=(-5, 5), unit=5.0)
    assert search.best.value == 0.0  # x_0 alone after 5 queries, and the joint move after the ends of 3


def test_a_start_that_fails_is_over() -> None:
    search, why = searched(lambda x: math.nan, np.zeros(3), 50, bounds=BOX)
    assert (search.nfev, why) == (4, "the start failed")


def test_a_flat_function_is_over() -> None:
    search, why = searched(lambda x: 3.0, np.zeros(2), 1000, bounds=BOX)
    assert why == "no coordinate gained in 50 rounds"
    assert search.nfev == 1 + 2 * (1 + 50) + 1  # the first round has a joint query


# ---------------------------------------------------------------------------------------------------------- parts


def test_the_easiest_interval() -> None:
    # wide and high, narrow and low, wide and low
    t = np.array([[0.0, 4.0, 5.0, 9.0]])
    v = np.array([[100.0, 100.0, 0.0, 1.0]])
    assert easiest(t, v)[0] == 7.0
    assert easiest(t, np.array([[1.0, 1.0, 1.0, 1.0]]))[0] in (2.0, 7.0)  # the widest
    assert easiest(np.array([[0.0, 0.0, 1.0]]), np.zeros((1, 3)))[0] == 0.5  # and not one without width


@settings(deadline=None)
@given(st.floats(-0.9, 0.9), st.floats(1e-6, 1e6))
def test_the_parabola_is_exact(best: float, bend: float) -> None:
    t = np.array([[-1.0, best + 0.2 * (best < 0) - 0.1, 1.0]])
    t.sort()
    to, good = parabola(t, bend * (t - best) ** 2, 0.0)
    ratio = (t[0, 2] - t[0, 1]) / (t[0, 1] - t[0, 0])
    if good[0] and 0.1 < ratio < 10:
        assert to[0] == pytest.approx(best, abs=1e-9)
    assert t[0, 0] < to[0] < t[0, 2]


def test_a_lopsided_triple_is_drawn_in() -> None:
    to, good = parabola(np.array([[-1.0, 0.0, 1e-4]]), np.array([[1.0, 0.0, 1.0]]), 0.0)
    assert good[0] and to[0] == pytest.approx(-1e-2)


def test_a_failure_counts_as_the_worst_value() -> None:
    t, v = np.array([[0.0, 1.0, 2.0, 3.0]]), np.array([[0.0, 0.2, np.inf, np.inf]])
    closed = np.zeros(1, dtype=np.bool_), np.zeros(1, dtype=np.bool_)
    assert next_places(t, v, closed, 0.0)[0] == next_places(t, np.minimum(v, 0.2), closed, 0.0)[0] == 0.5


@given(st.floats(-1e3, 1e3), st.floats(1e-9, 1e3), st.floats(0, 1))
def test_moves_to_bounds_are_exact(low: float, width: float, part: float) -> None:
    high = low + width
    x = bz.Vector([low + part * (high - low)], bounds=(low, high))
    for bound in (low, high):
        assert x.project(x.value + towards(np.array([bound]), x))[0] == bound


def test_one_coordinate_that_outweighs_all_others_hides_no_coupling() -> None:
    """With a tolerance of the whole, the joint move would agree: the first coordinate is nearly all of it."""

    def f(x: Floats) -> float:
        return float(1e6 * x[0] ** 2 + 10 * (x[1] - x[2]) ** 2 + x[3] ** 2)

    search, why = searched(f, [3.0, 1.0, -2.0, 1.0], 200, bounds=(-5, 5))
    assert why.startswith("not separable") and search.nfev == 6


@pytest.mark.parametrize("bounds", [None, (-1e6, 1e3)])
def test_the_first_round_stays_within_the_radius(bounds: Any) -> None:
    estimator = bz.CoordinateSearch(2.0)
    search = bz.Search(bz.Vector([3.0, -1.0], bounds, unit=[1.0, 10.0]), estimator, budget=10)
    away = np.abs(search.ask().points - [3.0, -1.0]).max(axis=0)
    assert (away <= [2.0, 20.0]).all() and (away > 0).all()
