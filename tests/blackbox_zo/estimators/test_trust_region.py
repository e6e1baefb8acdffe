"""`TrustRegion`: whole searches, then its parts against direct solutions."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.estimators._box_step import box_step, gain
from blackbox_zo.estimators._interpolation import Interpolation
from blackbox_zo.estimators._quadratic_model import ball_step
from blackbox_zo.estimators._spanned import spanned
from blackbox_zo.estimators._trust_region_state import GEOMETRY, OPENING, TRUST

from .test_quasi_newton import SEEDS, ellipsoid, searched

# ------------------------------------------------------------------------------------------- the search


@pytest.mark.parametrize("condition", [1.0, 1e3, 1e6])
@pytest.mark.parametrize("d", [2, 5, 8])
def test_a_turned_ellipsoid_is_solved_once_its_points_determine_it(d: int, condition: float) -> None:
    f = ellipsoid(d, condition)
    queries = (d + 1) * (d + 2) // 2 + 6 * d
    search, _ = searched(f, np.zeros(d), bz.TrustRegion(), queries)
    assert search.best.value < 1e-8 * f(np.zeros(d))


@pytest.mark.parametrize("n_points", [None, 9, 12])
def test_rosenbrock(n_points: int | None) -> None:
    def f(x: Floats) -> float:
        return float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())

    search, _ = searched(f, np.zeros(4), bz.TrustRegion(n_points=n_points), 600)
    assert search.best.value < 1e-8


@pytest.mark.parametrize("factor", [1e-12, 1e-3, 1e3, 1e12])
def test_the_unit_of_f_does_not_matter(factor: float) -> None:
    f = ellipsoid(4, 1e3)
    search, _ = searched(lambda x: factor * f(x), np.zeros(4), bz.TrustRegion(), 60)
    assert search.best.value < 1e-9 * factor


def test_a_value_beside_which_others_are_rounding_is_no_part_of_the_model() -> None:
    """The first long step meets a wall of 1e250."""

    def f(x: Floats) -> float:
        return float(((x - [40.0, 1.0]) ** 2).sum() + (1e250 if x[0] > 41.5 else 0.0))

    search, _ = searched(f, np.zeros(2), bz.TrustRegion(), 60)
    assert search.best.value < 1e-8


@pytest.mark.parametrize("seed", range(5))
def test_a_smooth_function_that_grows_fast_is_not_rugged(seed: int) -> None:
    """The opening spans a factor of 1e5, and the first steps gain next to nothing of what is promised."""

    def f(x: Floats) -> float:
        return float(np.cosh(12 * (x - 0.3)).sum() + (x[0] * x[1] - x[2]) ** 2) - 3.0

    search, _ = searched(f, np.random.default_rng(seed).uniform(0.0, 1.0, 3), bz.TrustRegion(1.0), 100)
    assert search.best.value < 0.1


def test_an_optimum_on_bounds_is_found_exactly_and_no_query_is_outside() -> None:
    seen = []

    def f(x: Floats) -> float:
        seen.append(np.array(x))
        return float(((x - [2.0, 0.3, -3.0]) ** 2).sum() + 0.5 * x[0] * x[1])

    search, _ = searched(f, np.zeros(3), bz.TrustRegion(), 60, bounds=(-1.0, 1.0))
    np.testing.assert_allclose(search.best.x, [1.0, 0.05, -1.0], atol=1e-6)
    assert search.best.x[0] == 1.0 and search.best.x[2] == -1.0
    assert np.abs(seen).max() <= 1.0


def test_bounds_are_met_to_the_last_bit() -> None:
    """x + (bound - x) is not the bound where rounding has it otherwise."""
    rng, estimator, missed = np.random.default_rng(0), bz.TrustRegion(), 0
    for _ in range(200):
        x, bound = rng.uniform(-0.4, 0.1, 2), rng.uniform(0.2, 0.5, 2)
        missed += int((x + (bound - x) < bound).any())
        variable = bz.Vector(x, [(-0.5, b) for b in bound])
        state = estimator.start(variable)._replace(phase=TRUST, trial=bound)
        assert variable.points(estimator.sample(state, variable, bz.Key(0, 0)))[0].tolist() == bound.tolist()
    assert missed > 10


def test_a_start_in_a_corner() -> None:
    search, _ = searched(lambda x: float((x**2).sum()), np.ones(3), bz.TrustRegion(), 60, bounds=(-1.0, 1.0))
    assert search.best.value < 1e-12


def test_it_sees_through_ruggedness_that_is_smaller_than_its_radius() -> None:
    def f(x: Floats) -> float:
        return float((x**2).sum() + 0.01 * np.sin(40 * x).sum())

    search, _ = searched(f, np.full(3, 2.0), bz.TrustRegion(0.5), 60)
    assert search.best.value < 0.1


def test_a_function_without_a_lowest_value_does_not_lead_to_infinity() -> None:
    asked = []

    def f(x: Floats) -> float:
        asked.append(float(x[0]))
        return -float(x[0])

    searched(f, np.zeros(1), bz.TrustRegion(), 1400)
    assert 1e18 < max(asked) < 1e25


def test_the_ball_becomes_longer_where_the_function_is_flatter() -> None:
    def f(x: Floats) -> float:
        return float(1e6 * (x[0] - x[1]) ** 2 + (x[0] + x[1] - 8.0) ** 2)

    # 4 sqrt(2) from the start along the flat axis, of which a ball would cover a tenth by its first steps
    search, _ = searched(f, np.zeros(2), bz.TrustRegion(0.02), 20)
    axes = search.state.model.axes
    assert np.linalg.cond(axes) > 5
    flat = axes[:, np.square(axes).sum(axis=0).argmax()]
    np.testing.assert_allclose(abs(flat @ [1, 1]) / np.linalg.norm(flat), math.sqrt(2), rtol=0.01)


@pytest.mark.parametrize("digits", [3, 6])
def test_values_that_come_in_coarse_steps(digits: int) -> None:
    f = ellipsoid(4, 10.0)
    search, _ = searched(lambda x: round(f(x), digits), np.ones(4), bz.TrustRegion(), 200)
    assert f(search.best.x) < 10 * 10**-digits


def test_failures_beside_the_optimum() -> None:
    def f(x: Floats) -> float:
        return math.nan if x[0] > 0.5 or x[1] < -0.9 else float((x - 0.4) @ (x - 0.4) + (x[0] - x[2]) ** 2)

    search, _ = searched(f, np.array([0.45, -0.85, 0.3]), bz.TrustRegion(), 200)  # three points of the opening fail
    assert search.best.value < 1e-6


def test_an_opening_whose_points_fail_is_asked_again_nearer() -> None:
    estimator = bz.TrustRegion(1.0)
    search = bz.Search(np.zeros(3), estimator, budget=100)
    asked = []
    while search.state.phase == OPENING:
        p = search.ask()
        asked.append(np.array(p.points))
        search.tell(p, bz.Values([math.nan if abs(x[1]) > 0.3 else float(((x - 0.1) ** 2).sum()) for x in p.points]))
    assert [len(points) for points in asked] == [7, 2, 2]  # along the second coordinate alone, twice
    np.testing.assert_allclose(asked[2], [[0, 0.25, 0], [0, -0.25, 0]])


@pytest.mark.parametrize(
    ("f", "why"),
    [
        (lambda x: 3.0, "all values around the start are equal"),
        (lambda x: math.nan, "the start failed"),
        (lambda x: float((x**2).sum()) if not x[1] else math.nan, "too many points around the start failed"),
        (lambda x: float((x**2).sum()), "converged"),
        (lambda x: 1e6 + float((x**2).sum()), "converged: the values can be told apart no more"),
        (lambda x: float(np.abs(x[0] + 2 * x[1] - 0.3) + 9 * np.abs(x[0] - x[1])), "converged"),
    ],
)
def test_it_says_why_it_is_over(f: Callable[[Floats], float], why: str) -> None:
    estimator = bz.TrustRegion()
    start = np.array([0.9, 0.0]) if "too many" in why else np.array([0.9, -0.7])
    search, queries = searched(f, start, estimator, 2000)
    assert estimator.over(search.state, search.variable).startswith(why)
    assert queries < 500


@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_a_sharp_function_is_left_early_and_an_ill_conditioned_one_is_not(shift: float) -> None:
    """By what steps gain of what the model promises, wherever the zero of f is."""
    other = np.linalg.qr(np.random.default_rng(1).standard_normal((5, 5)))[0]

    def sharp(x: Floats) -> float:
        return shift + float(np.sqrt(np.abs(other @ x - 0.1)).sum())

    estimator, turned = bz.TrustRegion(), ellipsoid(5, 1e6)
    search, queries = searched(sharp, np.linspace(-0.9, 0.8, 5), estimator, 2000)
    assert estimator.over(search.state, search.variable).startswith("the function is no quadratic")
    assert queries < 100
    search, _ = searched(lambda x: shift + turned(x), np.full(5, -0.9), estimator, 2000)
    assert estimator.over(search.state, search.variable).startswith("converged")
    assert turned(search.best.x) < 1e-6


def test_where_nothing_can_move_it_asks_x_and_is_over() -> None:
    search, queries = searched(lambda x: 7.0, np.ones(2), bz.TrustRegion(), 10, bounds=[(1, 1), (1, 1)])
    assert queries == 1
    assert bz.TrustRegion().over(search.state, search.variable) == "nothing can move"


def test_with_a_standard_error_it_ends_where_only_noise_is_left() -> None:
    rng, estimator = np.random.default_rng(0), bz.TrustRegion()
    search = bz.Search(np.ones(3), estimator, budget=400)
    while not search.exhausted and not estimator.over(search.state, search.variable):
        p = search.ask()
        noisy = [float(x @ x) + 1e-4 * rng.standard_normal() for x in p.points]
        search.tell(p, bz.Values(noisy, np.full(p.n, 1e-4)))
    assert search.nfev < 60
    assert search.x @ search.x < 0.01


def test_what_others_asked_saves_queries_of_the_opening() -> None:
    estimator, variable = bz.TrustRegion(), bz.Vector(np.ones(3))
    fresh = estimator.start(variable)
    assert estimator.sample(fresh, variable, bz.Key(0, 0)).n == 7
    known = np.array([[1.0, 1.0, 1.0], [1.1, 1.1, 1.0], [1.2, 1.2, 1.0], [9.0, 1.0, 1.0]])
    told = estimator.inform(fresh, variable, known, (known**2).sum(axis=1))
    assert told.value == 3.0
    assert len(told.model.points) == 1  # the second lies behind the first, the third is too far
    queries = estimator.sample(told, variable, bz.Key(0, 0))
    assert queries.n == 4
    state, _ = estimator.estimate(told, variable, queries, bz.Values((queries.points() ** 2).sum(axis=1)))
    assert state.phase != OPENING
    assert len(state.model.points) == 6


def test_what_others_asked_becomes_part_of_the_model_and_x_moves_there() -> None:
    estimator, variable = bz.TrustRegion(), bz.Vector(np.ones(3))
    state = estimator.start(variable)
    queries = estimator.sample(state, variable, bz.Key(0, 0))
    state, _ = estimator.estimate(state, variable, queries, bz.Values((queries.points() ** 2).sum(axis=1)))
    x = state.center - np.array([0.1, 0.05, 0.15])
    told = estimator.inform(state, variable, np.array([x, x + 50.0]), np.array([x @ x, 1e9]))
    assert (told.center == x).all() and told.turn == state.turn + 1
    np.testing.assert_allclose(told.model.at(told.model.inside(x)), x @ x)
    assert len(told.model.points) == len(state.model.points) + 1


def test_late_answers_are_of_use_and_partial_ones_do_no_harm() -> None:
    estimator, variable = bz.TrustRegion(), bz.Vector(np.array([0.4, -0.3]))

    def f(x: Floats) -> float:
        return float(x @ x + x[0] * x[1])

    state = estimator.start(variable)
    opening = estimator.sample(state, variable, bz.Key(0, 0))
    values = np.array([f(x) for x in opening.points()])
    part, step = estimator.estimate(state, variable, opening.take(slice(0, 2)), bz.Values(values[:2]))
    assert part.phase == OPENING and part.wanted.tolist() == [1]
    assert step.dense().any() == (values[1] < values[0])
    state, _ = estimator.estimate(state, variable, opening, bz.Values(values))
    first = estimator.sample(state, variable, bz.Key(0, 1))
    answer = bz.Values([f(first.points()[0])])
    after, _ = estimator.estimate(state, variable, first, answer)
    twice, again = estimator.estimate(after, variable.at(after.center), first, answer)
    assert twice.center.tolist() == after.center.tolist() and not again.dense().any()
    assert (twice.delta, twice.rho, twice.turn) == (after.delta, after.rho, after.turn)
    assert twice.trial.tolist() == after.trial.tolist()
    np.testing.assert_allclose(twice.model.at(twice.model.inside(first.points()[0])), answer.values[0], atol=1e-9)


def test_a_run_goes_on_from_its_journal_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    f = ellipsoid(4, 1e3)
    whole = bz.minimize(f, np.ones(4), bz.TrustRegion(), budget=70)
    path = tmp_path / "run.jsonl"
    bz.minimize(f, np.ones(4), bz.TrustRegion(), budget=31, journal=path)
    resumed = bz.minimize(f, np.ones(4), bz.TrustRegion(), budget=70, journal=path)
    assert resumed.x.tobytes() == whole.x.tobytes() and resumed.fun == whole.fun


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"radius": 0.0}, r"`TrustRegion\(radius=\.\.\.\)` must be a positive number, got 0\.0"),
        ({"radius": math.nan}, r"`TrustRegion\(radius=\.\.\.\)` must be a positive number"),
        ({"n_points": 2}, r"`TrustRegion\(n_points=\.\.\.\)` must be a whole number of at least 3, got 2"),
        ({"n_points": 7.5}, r"`TrustRegion\(n_points=\.\.\.\)` must be a whole number"),
    ],
)
def test_bad_arguments(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bz.TrustRegion(**arguments)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------- the model


def drawn(seed: int, d: int, m: int) -> tuple[np.random.Generator, Floats, Floats]:
    """Points around 0 that determine a linear function, and values."""
    rng = np.random.default_rng(seed)
    points = np.concatenate((np.zeros((1, d)), np.eye(d), rng.uniform(-1, 1, (m - d - 1, d))))
    return rng, points, rng.standard_normal(m)


def least_change(points: Floats, values: Floats, before: Floats) -> Floats:
    """The Hessian nearest to `before` among quadratics through the points, by least squares over all coefficients."""
    d = points.shape[1]
    i, j = np.triu_indices(d)
    root = np.where(i == j, 1.0, math.sqrt(2.0))  # so that the norm of the unknowns is the Frobenius norm
    quadratic = np.where(i == j, 0.5, 1.0) * points[:, i] * points[:, j] / root
    linear = np.column_stack((np.ones(len(points)), points))
    left = values - 0.5 * np.einsum("ij,jk,ik->i", points, before, points)
    null = np.linalg.qr(linear, mode="complete")[0][:, 1 + d :].T
    z = np.linalg.lstsq(null @ quadratic, null @ left, rcond=None)[0] / root
    change = np.zeros((d, d))
    change[i, j] = change[j, i] = z
    return before + change


@given(SEEDS, st.integers(1, 5), st.integers(0, 6))
def test_the_model_interpolates_with_the_least_hessian(seed: int, d: int, more: int) -> None:
    m = min(1 + d + more, (d + 1) * (d + 2) // 2)
    _, points, values = drawn(seed, d, m)
    try:
        model = Interpolation.fitted(np.full(d, 0.1), 0.5, points, values)
    except np.linalg.LinAlgError:
        return
    if np.linalg.cond(model.inverse) > 1e8:
        return
    np.testing.assert_allclose(model.at((points - 0.1) / 0.5), values, atol=1e-6)
    np.testing.assert_allclose(model.hessian / 0.25, least_change(points, values, np.zeros((d, d))), atol=1e-4)


@given(SEEDS, st.integers(2, 4), st.booleans())
def test_updates_give_the_same_as_direct_solutions(seed: int, d: int, replace: bool) -> None:
    m = 2 * d + 1
    rng, points, values = drawn(seed, d, m)
    model = Interpolation.fitted(np.zeros(d), 1.0, points, values)
    u, value = rng.uniform(-1, 1, d), float(rng.standard_normal())
    v, beta = model.seen_from(u)
    if replace:
        sigma = model.denominators(v, beta)
        j = int(np.abs(sigma).argmax())
        new, points = model.replaced(j, u, value, v, beta), points.copy()
        points[j] = u
        values = values.copy()
        values[j] = value
        ratio = np.linalg.det(new.inverse) / np.linalg.det(model.inverse)
        np.testing.assert_allclose(sigma[j] * ratio, 1.0, rtol=1e-3)
    else:
        if m == (d + 1) * (d + 2) // 2 or beta < 1e-6:
            return
        new = model.with_point(u, value, v, beta)
        points, values = np.vstack((points, u)), np.append(values, value)
    if np.linalg.cond(new.inverse) > 1e8 or np.linalg.cond(model.inverse) > 1e8:
        return
    fresh = Interpolation.fitted(np.zeros(d), 1.0, points, values)
    np.testing.assert_allclose(new.inverse, fresh.inverse, atol=1e-6 * np.abs(fresh.inverse).max())
    np.testing.assert_allclose(new.at(points), values, atol=1e-5)
    expected = least_change(points, values, model.hessian)
    np.testing.assert_allclose(new.hessian, expected, atol=1e-4 * (1 + np.abs(expected).max()))


@given(SEEDS)
def test_a_far_point_is_replaced_by_a_near_one_without_loss(seed: int) -> None:
    rng, points, _ = drawn(seed, 2, 6)
    points[3] *= 1e4 / np.linalg.norm(points[3])
    h = rng.standard_normal((2, 2))
    values = np.array([x @ h @ x + x.sum() for x in points])
    model = Interpolation.fitted(np.zeros(2), 1.0, points, values)
    u = rng.uniform(-1, 1, 2)
    v, beta = model.seen_from(u)
    points[3] = u
    values[3] = u @ h @ u + u.sum()
    try:
        new = model.replaced(3, u, float(values[3]), v, beta)
    except np.linalg.LinAlgError:
        return
    if np.linalg.cond(new.inverse) < 1e5:
        fresh = Interpolation.fitted(np.zeros(2), 1.0, points, values)
        np.testing.assert_allclose(new.inverse, fresh.inverse, atol=1e-8 * np.abs(fresh.inverse).max())


@given(SEEDS, st.integers(1, 5))
def test_other_coordinates_leave_the_quadratic_as_it_is(seed: int, d: int) -> None:
    rng, points, _ = drawn(seed, d, min(2 * d + 1, (d + 1) * (d + 2) // 2))
    a = rng.standard_normal((d, d))
    values = np.array([x @ a @ x + x.sum() for x in points])
    model = Interpolation.fitted(np.zeros(d), 1.0, points, values)
    if np.linalg.cond(model.inverse) > 1e8:
        return
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0] * rng.uniform(0.5, 2.0, d)
    moved = model.moved(rng.uniform(-1, 1, d), turn, np.asarray(np.linalg.inv(turn), dtype=np.float64))
    x = rng.uniform(-1, 1, (7, d))
    before, after = ([float(q.at(q.inside(one))) for one in x] for q in (model, moved))
    np.testing.assert_allclose(after, before, atol=1e-5 * (1 + np.abs(values).max()))


# ------------------------------------------------------------------------------------------- the step


@given(SEEDS, st.integers(1, 6), st.booleans())
def test_the_step_in_the_ball_is_the_best(seed: int, d: int, bowl: bool) -> None:
    rng = np.random.default_rng(seed)
    h, g = rng.standard_normal((d, d)), rng.standard_normal(d)
    h = h @ h.T if bowl else h + h.T
    p = ball_step(g, h, 0.7)
    assert np.linalg.norm(p) <= 0.7 * (1 + 1e-12)
    tried = rng.standard_normal((300, d))
    tried *= 0.7 * rng.random((300, 1)) / np.linalg.norm(tried, axis=1, keepdims=True)
    assert gain(g, h, p) >= max(gain(g, h, q) for q in tried) - 1e-9
    multiplier = float(-(h @ p + g) @ p / (p @ p))  # Moré & Sorensen 1983, theorem 2.1
    np.testing.assert_allclose(h @ p + multiplier * p, -g, atol=1e-4 * (1 + abs(multiplier)))
    assert np.linalg.eigvalsh(h)[0] + multiplier > -1e-5 * (1 + abs(multiplier))


@given(SEEDS, st.integers(1, 6))
def test_the_step_in_the_box_is_inside_and_close_to_the_best(seed: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    a, g = rng.standard_normal((d, d)), 2 * rng.standard_normal(d)
    h = a @ a.T + 0.1 * np.eye(d)
    axes = np.linalg.qr(rng.standard_normal((d, d)))[0] * rng.uniform(0.5, 2.0, d)
    low, high = -rng.random(d) * (rng.random(d) > 0.2), rng.random(d) * (rng.random(d) > 0.2)
    p = box_step(g, h, 0.8, axes, low, high)
    x = axes @ p
    assert np.linalg.norm(p) <= 0.8 * (1 + 1e-6)
    assert (x >= low - 1e-9).all() and (x <= high + 1e-9).all()
    assert gain(g, h, p) >= -1e-12
    back = np.linalg.inv(axes)
    best: Floats = np.zeros(d)
    rate = 0.5 / np.linalg.norm(back.T @ h @ back, 2)
    for _ in range(300):  # the projected gradient method, ended at the ball
        step = np.clip(best - rate * back.T @ (g + h @ back @ best), low, high)
        if np.linalg.norm(back @ step) > 0.8:
            break
        best = step
    assert gain(g, h, p) >= 0.999 * gain(g, h, back @ best) - 1e-9


# ------------------------------------------------------------------------------------------- what is spanned


@given(SEEDS, st.integers(1, 6), st.integers(0, 8))
def test_axes_complete_what_displacements_span(seed: int, d: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((k, d)) * (rng.random((k, d)) < 0.5)
    kept, axes = spanned(rows)
    whole = np.concatenate((rows[kept], np.eye(d)[axes]))
    assert whole.shape == (d, d)
    assert np.linalg.matrix_rank(whole) == d


def test_a_bad_model_is_mended() -> None:
    """Where a step gains nothing and a point is far off, the next query replaces that point."""
    estimator, search = bz.TrustRegion(n_points=5), bz.Search(np.array([1.0, 0.6]), bz.TrustRegion(n_points=5))
    mended = 0
    for _ in range(40):
        mended += search.state is not None and search.moves > 0 and search.state.phase == GEOMETRY
        p = search.ask()
        search.tell(p, bz.Values([float(np.cos(7 * x[0]) + x[0] ** 4 + abs(x[1]) ** 1.5) for x in p.points]))
        assert estimator.over(search.state, search.variable) == "" or search.nfev > 10
    assert mended > 0
