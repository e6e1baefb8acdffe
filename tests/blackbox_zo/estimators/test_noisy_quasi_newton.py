"""`NoisyQuasiNewton`, and its parts: differences along the axes of B."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.estimators._bfgs import stretched
from blackbox_zo.estimators._noisy_differences import bends, displacements, near_bounds, parted, rescaled, slopes

SEEDS = st.integers(0, 2**32 - 1)


def ellipsoid(d: int, condition: float, seed: int = 0) -> Callable[[Floats], float]:
    rng = np.random.default_rng(seed)
    turn, best = np.linalg.qr(rng.standard_normal((d, d)))[0], rng.uniform(-0.5, 0.5, d)
    scales = np.logspace(0, math.log10(condition), d)
    return lambda x: float(scales @ (turn @ (x - best)) ** 2)


def searched(
    f: Callable[[Floats], float], x0: Any, queries: int, noise: float = 0.0, seed: int = 0, **given: Any
) -> bz.Search:
    """The search at the end of a budget, or when it is over."""
    rng, method = np.random.default_rng(seed), bz.NoisyQuasiNewton()
    search = bz.Search(bz.Vector(x0, **given), method, budget=queries)
    while not search.exhausted and not method.over(search.state, search.variable):
        p = search.ask()
        search.tell(p, bz.Values([f(x) + noise * rng.standard_normal() for x in p.points]))
    return search


def noisy_bowl() -> Callable[[Floats], float]:
    rng = np.random.default_rng(0)
    return lambda x: float(x @ x) + 0.1 * rng.standard_normal()


# ------------------------------------------------------------------------------------------- the search


@pytest.mark.parametrize("condition", [1.0, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("noise", [1e-3, 1.0])
def test_turned_ellipsoids_are_solved_to_less_than_the_noise(condition: float, noise: float) -> None:
    f = ellipsoid(10, condition)
    ends = [f(searched(f, np.full(10, 2.0), 4000, noise, seed).variable.x) for seed in range(3)]
    assert np.median(ends) < 0.2 * noise


def test_newton_steps_are_averaged_so_more_queries_come_closer() -> None:
    f = ellipsoid(5, 10.0)

    def end(queries: int) -> float:
        return float(np.mean([f(searched(f, np.zeros(5), queries, 0.01, seed).variable.x) for seed in range(10)]))

    assert end(4000) < 0.3 * end(400)


def test_noise_that_grows_with_f_is_measured_anew_on_the_way_down() -> None:
    f, rng = ellipsoid(10, 100.0), np.random.default_rng(3)
    search = searched(lambda x: f(x) * math.exp(0.003 * rng.standard_normal()), np.full(10, 3.0), 3000)
    assert search.state.error < 1e-4
    assert f(search.variable.x) < 1e-3


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_an_optimum_in_a_corner_is_found_exactly(noise: float) -> None:
    slopes = np.logspace(0.5, 1.5, 6)
    search = searched(lambda x: float(slopes @ x), np.zeros(6), 1500, noise, bounds=(-2, 3))
    np.testing.assert_array_equal(search.variable.x, np.full(6, -2.0))


def test_no_query_is_outside_the_bounds() -> None:
    seen = []

    def f(x: Floats) -> float:
        seen.append(x)
        return float(x[0] * 3 + (x[1] - x[2]) ** 2)

    searched(f, np.array([0.0, 0.9, 0.5]), 400, 0.1, bounds=(-1, 1))
    assert np.abs(seen).max() <= 1.0


def test_it_says_where_noise_hides_everything() -> None:
    search = searched(lambda x: float(x @ x), np.full(4, 0.1), 500, noise=100.0, seed=1)
    assert bz.NoisyQuasiNewton().over(search.state, search.variable) == "noise hides the differences around the start"
    assert search.nfev == 4 + 4 * 2 * 4  # with radius 0.2, 0.6, 1.8 and 2


def test_the_opening_is_widened_until_noise_does_not_hide_it() -> None:
    narrow = bz.minimize(noisy_bowl(), np.full(5, 3.0), bz.NoisyQuasiNewton(1e-2), budget=1500)
    assert float(narrow.center @ narrow.center) < 0.1


def test_it_says_that_the_start_fails() -> None:
    search = searched(lambda x: math.nan, np.ones(4), 500)
    assert bz.NoisyQuasiNewton().over(search.state, search.variable) == "the start failed"


def test_without_noise_it_works_as_well() -> None:
    f = ellipsoid(5, 1e3)
    assert f(searched(f, np.zeros(5), 600).variable.x) < 1e-6


def test_failures_are_left_out_of_the_differences() -> None:
    rng, f = np.random.default_rng(0), ellipsoid(6, 10.0)
    search = searched(lambda x: math.nan if rng.random() < 0.1 else f(x), np.zeros(6), 3000, 0.01)
    assert f(search.variable.x) < 0.05


def test_values_that_are_known_at_x_are_not_asked_again() -> None:
    variable, method = bz.Vector(np.zeros(3)), bz.NoisyQuasiNewton()
    state = method.inform(method.start(variable), variable, np.array([[0.0, 0, 0], [1, 0, 0]]), np.array([1.0, 5.0]))
    queries = method.sample(state, variable, bz.Key(0, 0))
    assert np.count_nonzero(queries.scale == 0.0) == 3


def test_a_variable_that_cannot_move_is_left_alone() -> None:
    bounds = [(0, 0), (-2, 2), (-2, 2)]
    search = searched(lambda x: float(((x - 1) ** 2).sum()), np.zeros(3), 400, 0.01, bounds=bounds)
    assert search.variable.x[0] == 0.0
    np.testing.assert_allclose(search.variable.x[1:], 1.0, atol=0.2)


def test_where_nothing_can_move_it_is_over() -> None:
    search = searched(lambda x: float(x @ x), np.ones(2), 50, 0.01, bounds=[(1, 1), (1, 1)])
    assert bz.NoisyQuasiNewton().over(search.state, search.variable)
    rng = np.random.default_rng(0)
    r = bz.minimize(lambda x: float(x @ x) + rng.normal(), np.ones(2), budget=60, bounds=[(1, 1), (1, 1)])
    assert r.x.tolist() == [1.0, 1.0]


def test_the_radius_is_checked() -> None:
    with pytest.raises(ValueError, match="radius"):
        bz.NoisyQuasiNewton(0.0)


# ------------------------------------------------------------------------------------------- differences


def quadratic(rng: np.random.Generator, d: int) -> tuple[Floats, Floats]:
    """A gradient and a positive definite Hessian."""
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return rng.standard_normal(d), (turn * np.exp(rng.uniform(-3, 3, d))) @ turn.T


@given(SEEDS, st.integers(1, 5), st.booleans())
def test_a_quadratic_has_its_gradient_and_curvatures_told_exactly(seed: int, d: int, bounded: bool) -> None:
    rng = np.random.default_rng(seed)
    g, h = quadratic(rng, d)
    x = rng.uniform(-1, 1, d)
    x[rng.random(d) < 0.3] = 1.0  # some at a bound
    variable = bz.Vector(x, bounds=(-1, 1)) if bounded else bz.Vector(x)
    near = near_bounds(variable, h, 0.01, 1.0)
    b = parted(h, near, 0.01, 1.0)
    rows = displacements(variable, b, near, 0.01, 1.0, rng.standard_normal((d, d)))
    rises = rows @ g + 0.5 * np.einsum("ij,ij->i", rows @ h, rows)
    seen, error = bends(rows, rises)
    u = rows[:d]
    np.testing.assert_allclose(slopes(rows, rises, h), g, rtol=1e-6, atol=1e-6)
    straight = np.isfinite(seen)
    np.testing.assert_allclose(seen[straight], np.einsum("ij,ij->i", u @ h, u)[straight], rtol=1e-6, atol=1e-9)
    if not (near.any() or bounded):
        np.testing.assert_allclose(error, math.sqrt(6.0))
    if bounded:
        assert np.abs(variable.value + rows).max() <= 1.0


def test_each_difference_bends_as_much_along_the_axes_of_any_hessian() -> None:
    h = quadratic(np.random.default_rng(1), 4)[1]
    rows = displacements(
        bz.Vector(np.zeros(4)), h, np.zeros(4, dtype=bool), 0.3, 100.0, np.random.default_rng(2).standard_normal((4, 4))
    )
    np.testing.assert_allclose(0.5 * np.einsum("ij,ij->i", rows @ h, rows), 0.3)


def test_the_error_of_a_bend_is_that_of_its_values() -> None:
    rng = np.random.default_rng(0)
    rows = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0], [0.0, 1.0]])  # one up and down, one twice to one side
    x, at = rng.standard_normal((20_000, 1)), rng.standard_normal((20_000, 4))
    seen = np.array([bends(rows, row)[0] for row in at - x])
    np.testing.assert_allclose(seen.std(axis=0), bends(rows, at[0])[1], rtol=0.03)


@given(SEEDS)
def test_curvatures_that_noise_does_not_explain_are_halved_or_doubled_at_most(seed: int) -> None:
    rng = np.random.default_rng(seed)
    g, h = quadratic(rng, 4)
    wrong = quadratic(rng, 4)[1]
    free = np.zeros(4, dtype=bool)
    rows = displacements(bz.Vector(np.zeros(4)), wrong, free, 8.0, 1e9, rng.standard_normal((4, 4)))
    b, agrees = rescaled(wrong, rows, rows @ g + 0.5 * np.einsum("ij,ij->i", rows @ h, rows), 1.0, 0.0)
    ratio = np.einsum("ij,ij->i", rows @ b, rows) / np.einsum("ij,ij->i", rows @ wrong, rows)
    assert ratio.min() > 0.5 - 1e-9 and ratio.max() < 2.0 + 1e-9
    assert np.linalg.eigvalsh(b).min() > 0.0
    assert agrees or np.abs(ratio - 1.0).max() > 1e-9


def test_random_axes_teach_all_of_a_hessian() -> None:
    rng = np.random.default_rng(0)
    g, h = quadratic(rng, 4)
    b, free = np.eye(4), np.zeros(4, dtype=bool)
    for _ in range(60):
        rows = displacements(bz.Vector(np.zeros(4)), b, free, 8.0, 1e9, rng.standard_normal((4, 4)))
        b, _ = rescaled(b, rows, rows @ g + 0.5 * np.einsum("ij,ij->i", rows @ h, rows), 1e-9, 1.0)
    np.testing.assert_allclose(b, h, rtol=1e-3, atol=1e-3)


@given(SEEDS)
def test_b_is_stretched_along_one_direction(seed: int) -> None:
    rng = np.random.default_rng(seed)
    b, p = quadratic(rng, 3)[1], rng.standard_normal(3)
    now = float(p @ b @ p)
    np.testing.assert_allclose(p @ stretched(b, p, 3 * now) @ p, 3 * now)
    np.testing.assert_allclose(p @ stretched(b, p, 1e6 * now) @ p, 16 * now)
    assert np.linalg.eigvalsh(stretched(b, p, 3 * now)).min() > 0
