"""`QuasiNewton`, `BlockDescent`, and their parts: the opening, the line search, the BFGS matrix."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.estimators._bfgs import newton_step, updated
from blackbox_zo.estimators._opening import separable
from blackbox_zo.estimators._parabola_search import Line

SEEDS = st.integers(0, 2**32 - 1)


def searched(
    f: Callable[[Floats], float], x0: Any, estimator: bz.Estimator, queries: int, **given: Any
) -> tuple[bz.Search, int]:
    """The search when it is over, or at the end of the budget, and the queries it took."""
    search = bz.Search(bz.Vector(x0, **given), estimator, budget=queries)
    while not search.exhausted:
        p = search.ask()
        search.tell(p, bz.Values([f(x) for x in p.points]))
        if estimator.over(search.state, search.variable):
            break
    return search, search.nfev


def ellipsoid(d: int, condition: float, seed: int = 0) -> Callable[[Floats], float]:
    rng = np.random.default_rng(seed)
    turn, best = np.linalg.qr(rng.standard_normal((d, d)))[0], rng.uniform(-0.5, 0.5, d)
    scales = np.logspace(0, math.log10(condition), d)
    return lambda x: float(scales @ (turn @ (x - best)) ** 2)


# ------------------------------------------------------------------------------------------- the search


@pytest.mark.parametrize("condition", [1.0, 1e6])
def test_a_separable_quadratic_is_solved_by_the_opening(condition: float) -> None:
    scales, best = np.logspace(0, math.log10(condition), 5), np.linspace(-0.3, 0.3, 5)
    search, _ = searched(lambda x: float(scales @ (x - best) ** 2), np.zeros(5), bz.QuasiNewton(), 12)  # 1 + 2 d + 1
    assert search.best.value < 1e-20 * condition


@pytest.mark.parametrize(("condition", "each"), [(1e2, 30), (1e4, 40), (1e6, 60)])
@pytest.mark.parametrize("d", [3, 10])
def test_turned_ellipsoids(d: int, condition: float, each: int) -> None:
    f = ellipsoid(d, condition)
    search, _ = searched(f, np.zeros(d), bz.QuasiNewton(), each * d)
    assert search.best.value < 1e-8


def test_rosenbrock() -> None:
    def f(x: Floats) -> float:
        return float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())

    search, _ = searched(f, np.array([-1.2, 1.0, -1.2, 1.0]), bz.QuasiNewton(), 600)
    assert search.best.value < 1e-10


@pytest.mark.parametrize("factor", [1e-12, 1e-3, 1e3, 1e12])
def test_the_unit_of_f_does_not_matter(factor: float) -> None:
    f = ellipsoid(4, 1e3)
    search, _ = searched(lambda x: factor * f(x), np.zeros(4), bz.QuasiNewton(), 160)
    assert search.best.value < 1e-10 * factor


def test_an_optimum_on_bounds_is_found_exactly_and_no_query_is_outside() -> None:
    seen = []

    def f(x: Floats) -> float:
        seen.append(np.array(x))
        return float(((x - [2.0, 0.3, -3.0]) ** 2).sum() + 0.5 * x[0] * x[1])

    search, _ = searched(f, np.zeros(3), bz.QuasiNewton(), 100, bounds=(-1.0, 1.0))
    np.testing.assert_allclose(search.best.x, [1.0, 0.05, -1.0], atol=1e-7)
    assert search.best.x[0] == 1.0 and search.best.x[2] == -1.0
    assert np.abs(seen).max() <= 1.0


def test_a_start_in_a_corner() -> None:
    search, _ = searched(lambda x: float((x**2).sum()), np.ones(3), bz.QuasiNewton(), 60, bounds=(-1.0, 1.0))
    assert search.best.value < 1e-12


@pytest.mark.parametrize("digits", [3, 6])
def test_values_that_come_in_coarse_steps(digits: int) -> None:
    f = ellipsoid(4, 10.0)
    search, _ = searched(lambda x: round(f(x), digits), np.ones(4), bz.QuasiNewton(), 200)
    assert f(search.best.x) < 3 * 10**-digits


def test_values_in_single_precision() -> None:
    f = ellipsoid(5, 100.0)
    search, _ = searched(lambda x: float(np.float32(f(x) + 1.0)), np.ones(5), bz.QuasiNewton(), 300)
    assert f(search.best.x) < 1e-3


def test_failures_on_one_side_of_x_are_asked_on_the_other() -> None:
    # at the optimum every forward difference fails
    def f(x: Floats) -> float:
        return math.nan if (x > 0.0).any() else float((x**2).sum() - x[0] * x[1])

    search, _ = searched(f, np.full(3, -1.0), bz.QuasiNewton(), 200)
    assert search.best.value < 1e-6


@pytest.mark.parametrize(
    ("f", "why"),
    [
        (lambda x: 3.0, "all values around the start are equal"),
        (lambda x: math.nan, "the start failed"),
        (lambda x: float((x**2).sum()), "converged"),
        (lambda x: float(np.abs(x[0] + 2 * x[1] - 0.3) + 9 * np.abs(x[0] - x[1])), "the function is no quadratic"),
    ],
)
def test_it_says_why_it_is_over(f: Callable[[Floats], float], why: str) -> None:
    estimator = bz.QuasiNewton()
    search, queries = searched(f, np.array([0.9, -0.7]), estimator, 2000)
    assert estimator.over(search.state, search.variable).startswith(why)
    assert queries < 1000


def test_where_no_curvature_is_seen_the_first_move_shows_it() -> None:
    """Each upper side fails, so that the opening sees slopes alone."""

    def f(x: Floats) -> float:
        return math.nan if (x > 0.5).any() else float((x - 0.4) @ (x - 0.4) + x[0] * x[1])

    for pairs in (None, 4):
        search, _ = searched(f, np.full(3, 0.5), bz.QuasiNewton(pairs=pairs), 40)
        assert search.best.value - f(np.array([0.8 / 3, 0.8 / 3, 0.4])) < 1e-6


@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_a_sharp_function_is_left_early_and_an_ill_conditioned_one_is_not(shift: float) -> None:
    """By what lines gain of what B promises, wherever the zero of f is."""
    other = np.linalg.qr(np.random.default_rng(1).standard_normal((8, 8)))[0]

    def sharp(x: Floats) -> float:
        return shift + float(np.sqrt(np.abs(other @ x - 0.1)).sum())

    estimator, turned = bz.QuasiNewton(), ellipsoid(8, 1e6)
    search, queries = searched(sharp, np.linspace(-0.9, 0.8, 8), estimator, 2000)
    assert estimator.over(search.state, search.variable).startswith("the function is no quadratic")
    assert queries < 250
    search, queries = searched(lambda x: shift + turned(x), np.full(8, -0.9), estimator, 2000)
    assert not estimator.over(search.state, search.variable).startswith("the function is no quadratic")
    assert turned(search.best.x) < 1e-6


def test_where_nothing_can_move_it_asks_x_and_is_over() -> None:
    search, queries = searched(lambda x: 7.0, np.ones(2), bz.QuasiNewton(), 10, bounds=[(1, 1), (1, 1)])
    assert queries == 1
    assert bz.QuasiNewton().over(search.state, search.variable).startswith("converged")


def test_it_is_told_f_of_x_by_others() -> None:
    estimator, variable = bz.QuasiNewton(), bz.Vector(np.ones(3))
    fresh = estimator.start(variable)
    told = estimator.inform(fresh, variable, np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]), np.array([5.0, 7.0]))
    assert (told.value, estimator.sample(told, variable, bz.Key(0, 0)).n) == (7.0, 6)
    assert estimator.sample(fresh, variable, bz.Key(0, 0)).n == 7
    other = estimator.inform(fresh, variable, np.zeros((1, 3)), np.array([5.0]))
    assert math.isnan(other.value)


def test_an_answer_that_is_told_twice_over_counts_once() -> None:
    estimator, variable = bz.QuasiNewton(), bz.Vector(np.ones(2))
    state = estimator.start(variable)
    queries = estimator.sample(state, variable, bz.Key(0, 0))
    values = bz.Values((variable.points(queries) ** 2).sum(axis=1))
    after, _ = estimator.estimate(state, variable, queries, values)
    again, step = estimator.estimate(after, variable, queries, values)
    assert again is after
    assert not step.dense().any()


# ------------------------------------------------------------------------------------------- BlockDescent


@pytest.mark.parametrize("size", [1, 7, 64])
def test_one_sweep_solves_a_sphere(size: int) -> None:
    d = 100
    estimator = bz.BlockDescent(size=size, sweeps=1)
    search, queries = searched(lambda x: float(((x - 0.3) ** 2).sum()), np.zeros(d), estimator, 1000)
    assert search.best.value < 1e-5  # forward differences are a little off
    assert queries <= 1 + d + 2 * math.ceil(d / size) + 4
    assert estimator.over(search.state, search.variable) == "1 times through all coordinates"


def test_blocks_never_make_x_worse() -> None:
    f = ellipsoid(12, 1e4)
    search = bz.Search(np.ones(12), bz.BlockDescent(size=5), budget=2000)
    last = f(np.ones(12))
    while not search.exhausted:
        p = search.ask()
        search.tell(p, bz.Values([f(x) for x in p.points]))
        assert f(search.x) <= last
        last = f(search.x)
    assert last < 0.01 * f(np.ones(12))


def test_blocks_on_which_nothing_depends_do_not_shorten_the_steps_in_others() -> None:
    d = 700
    search, _ = searched(
        lambda x: float((x[0] - 3) ** 2 + (x[-1] - 3) ** 2), np.zeros(d), bz.BlockDescent(size=1, sweeps=1), 2 * d
    )
    assert search.best.value < 1e-3


def test_coordinates_that_are_held_at_a_bound_leave_the_line_to_the_others() -> None:
    """One steep coordinate is held: the other goes to its least point in one sweep."""

    def f(x: Floats) -> float:
        return float(1e3 * x[0] + (x[1] - 0.7) ** 2)

    search, _ = searched(f, np.zeros(2), bz.BlockDescent(sweeps=1), 20, bounds=[(0.0, 1.0), (-1.0, 1.0)])
    np.testing.assert_allclose(search.best.x, [0.0, 0.7], atol=1e-3)


# ------------------------------------------------------------------------------------------- parts


@given(SEEDS)
def test_the_opening_is_exact_on_separable_quadratics(seed: int) -> None:
    rng = np.random.default_rng(seed)
    g, c = rng.standard_normal(4), rng.uniform(0.1, 10.0, 4)
    h = np.stack((rng.uniform(0.1, 0.5, 4), -rng.uniform(0.1, 0.5, 4)))
    slope, curvature, least = separable(h, g * h + 0.5 * c * h * h, 1e9)
    np.testing.assert_allclose(slope, g, atol=1e-10)
    np.testing.assert_allclose(curvature, c, atol=1e-9)
    np.testing.assert_allclose(least, -g / c, atol=1e-8)


def test_the_opening_with_failures_and_without_a_bowl() -> None:
    h = np.array([[0.5, 0.5, 0.5, 0.5], [-0.5, -0.5, -0.5, -0.5]])
    rise = np.array([[1.0, np.nan, np.nan, -1.0], [np.nan, -1.0, np.nan, 0.5]])
    slope, curvature, least = separable(h, rise, 2.0)
    assert slope.tolist() == [2.0, 2.0, 0.0, -1.5]
    assert curvature.tolist() == [0.0, 0.0, 0.0, -2.0]
    assert least.tolist() == [-2.0, -2.0, 0.0, 2.0]


@given(SEEDS, st.integers(1, 8))
@example(3184014, 4)  # the least eigenvalue comes to 1e-16 of the largest, and rounds below 0
def test_updates_keep_b_positive_definite_and_the_secant(seed: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    b = np.eye(d) * float(rng.uniform(0.01, 100.0))
    for _ in range(5):
        s, y = rng.standard_normal(d), rng.standard_normal(d)
        sbs = float(s @ b @ s)
        new = updated(b, s, y)
        np.testing.assert_allclose(new, new.T, atol=1e-9 * np.abs(new).max())
        eigenvalues = np.linalg.eigvalsh(new)
        assert eigenvalues[0] > -d * np.finfo(float).eps * eigenvalues[-1]  # what fp64 can tell from positive
        if float(s @ y) >= 0.2 * sbs:  # not damped
            np.testing.assert_allclose(new @ s, y, atol=1e-6 * np.abs(new).max() * np.abs(s).max())
        b = new


def test_b_gets_smaller_everywhere_where_it_proves_too_large() -> None:
    new = updated(100.0 * np.eye(3), np.array([1.0, 0.0, 0.0]), np.array([2.0, 0.0, 0.0]))
    np.testing.assert_allclose(new, 2.0 * np.eye(3))
    larger = updated(np.eye(3), np.array([1.0, 0.0, 0.0]), np.array([50.0, 0.0, 0.0]))
    np.testing.assert_allclose(larger, np.diag([50.0, 1.0, 1.0]))


@given(SEEDS)
def test_the_step_stays_inside_and_goes_down(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((5, 5))
    b, g = a @ a.T + 0.1 * np.eye(5), rng.standard_normal(5)
    low, high = rng.random(5) < 0.3, rng.random(5) < 0.3
    high &= ~low
    p = newton_step(b, g, low, high)
    assert (p[low] >= 0).all() and (p[high] <= 0).all()
    assert g @ p <= 0
    if not (low | high).any():
        np.testing.assert_allclose(b @ p, -g, atol=1e-8)


@pytest.mark.parametrize("length", [0.1, 1.0, 3.0])
def test_a_parabola_takes_two_trials(length: float) -> None:
    def f(alpha: float) -> float:
        return (alpha - length) ** 2

    line = Line.begin(np.ones(1), -2 * length, length**2)
    tried = []
    while not line.over:
        tried.append(line.alpha)
        line = line.told(f(line.alpha), np.array([line.alpha]))
    assert len(tried) <= 2
    assert line.value < 1e-20


def test_a_line_backtracks_from_failures_and_gives_up() -> None:
    line = Line.begin(np.ones(1), -1.0, 0.0)
    tries = 0
    while not line.over:
        line = line.told(math.nan, np.array([line.alpha]))
        tries += 1
    assert (tries, line.value, line.move.tolist()) == (12, 0.0, [0.0])
