from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.estimators._random_vector import RandomVectorState

from ..helpers import Quadratic, bits, one_step, sphere

DISTRIBUTIONS: tuple[Any, ...] = ("gaussian", "sphere", "rademacher", "orthogonal", "lowrank")
DIFFERENCES: tuple[Any, ...] = ("central", "forward", "residual", "relative")
each = pytest.mark.parametrize("distribution", DISTRIBUTIONS)
every = pytest.mark.parametrize("difference", DIFFERENCES)

D = 5
X = {"w": np.array([[0.6, -1.0], [0.3, 0.8]]), "b": np.array([-0.5])}  # a matrix, for directions of low rank
FLAT = np.array([0.6, -1.0, 0.3, 0.8, -0.5])


def mean_and_error(
    estimator: bz.RandomVector, fun: Callable[[Floats], Floats], previous: float
) -> tuple[Floats, Floats]:
    """The mean of the estimate's k independent terms, and its standard error."""
    _, queries, step = one_step(estimator, fun, X, state=RandomVectorState(previous))
    terms = (step.w * estimator.n_directions)[:, None] * queries.directions.rows
    if estimator.distribution == "orthogonal":  # the rows of a frame depend on each other, frames do not
        terms = terms.reshape(-1, D, D).mean(axis=1)
    np.testing.assert_allclose(terms.mean(axis=0), step.dense(), atol=1e-10)
    return terms.mean(axis=0), terms.std(axis=0) / np.sqrt(len(terms)) + 1e-12  # whole frames may be exact


@every
@each
def test_unbiased_on_a_quadratic(distribution: Any, difference: Any) -> None:
    f = Quadratic(D)
    estimator = bz.RandomVector(0.3, 20_000, distribution, difference)
    mean, error = mean_and_error(estimator, f, previous=float(f(FLAT)) + 0.5)
    exact = f.gradient(FLAT)
    assert np.abs((mean - exact) / error).max() < 4.0
    # and it could fail: without the factor d of unit vectors, or with half or twice the scale
    for factor in (1 / D, 0.5, 2.0):
        assert np.abs((mean - factor * exact) / error).max() > 8.0


def cubes(points: Floats) -> Floats:
    return np.asarray((points**3).sum(axis=-1))


@pytest.mark.parametrize("difference", ["central", "forward"])
@each
def test_unbiased_for_the_smoothed_gradient_of_a_cubic(distribution: Any, difference: Any) -> None:
    """`E (x + mu v)^3 = x^3 + 3 x mu^2 E v^2`; v is normal, or in the unit ball. Signs: see the docstring."""
    mu = 1.0
    excess = {"gaussian": 3.0, "sphere": 3.0 / (D + 2), "orthogonal": 3.0 / (D + 2), "rademacher": 1.0, "lowrank": 1.0}
    mean, error = mean_and_error(bz.RandomVector(mu, 40_000, distribution, difference), cubes, 0.0)
    assert np.abs((mean - 3 * FLAT**2 - excess[distribution] * mu**2) / error).max() < 4.0
    assert np.abs((mean - 3 * FLAT**2) / error).max() > 8.0


def by_hand(
    estimator: bz.RandomVector, u: Floats, fun: Callable[[Floats], Floats], x: Floats, previous: float
) -> Floats:
    """The formulas of the docstring, one query at a time."""
    mu, k = estimator.radius, estimator.n_directions
    c = len(x) if estimator.distribution in ("sphere", "orthogonal") else 1
    g = np.zeros(len(x))
    for j in range(k):
        if estimator.difference == "central":
            quotient = (fun(x + mu * u[j]) - fun(x - mu * u[j])) / (2 * mu)
        elif estimator.difference == "forward":
            quotient = (fun(x + mu * u[j]) - fun(x)) / mu
        elif estimator.difference == "relative":
            first = j - j % (estimator.group or k)
            others = [fun(x + mu * u[i]) for i in range(first, first + (estimator.group or k)) if i != j]
            quotient = (fun(x + mu * u[j]) - sum(others) / len(others)) / mu
        else:
            quotient = (fun(x + mu * u[j]) - previous) / mu
        for i in range(len(x)):
            g[i] += c / k * quotient * u[j, i]
    return g


@every
@each
@pytest.mark.parametrize("k", [2, 7])
def test_same_as_the_formulas_by_hand(distribution: Any, difference: Any, k: int) -> None:
    estimator, f = bz.RandomVector(0.1, k, distribution, difference), Quadratic(D)
    _, queries, step = one_step(estimator, f, X, state=RandomVectorState(2.0))
    expected = by_hand(estimator, queries.directions.rows, f, FLAT, 2.0)
    np.testing.assert_allclose(step.dense(), expected, rtol=1e-11, atol=1e-12)


def test_full_orthogonal_frame_is_exact_on_quadratics() -> None:
    f = Quadratic(D)
    _, _, step = one_step(bz.RandomVector(0.1, D, "orthogonal"), f, FLAT)
    np.testing.assert_allclose(step.dense(), f.gradient(FLAT), rtol=1e-10)


@pytest.mark.parametrize(("difference", "n"), [("central", 6), ("forward", 4), ("residual", 3), ("relative", 3)])
def test_number_of_queries(difference: Any, n: int) -> None:
    _, queries, _ = one_step(bz.RandomVector(0.1, 3, difference=difference), sphere, FLAT)
    assert queries.n == n


def test_residual_compares_with_the_mean_of_the_step_before() -> None:
    estimator = bz.RandomVector(0.1, 3, difference="residual")
    state, queries, first = one_step(estimator, sphere, FLAT)
    assert not first.dense().any()
    assert state.previous == sphere(queries.points()).mean()
    assert estimator.warmup == 1 and bz.RandomVector(0.1).warmup == 0


def test_residual_keeps_its_value_over_a_step_without_answers() -> None:
    estimator, variable = bz.RandomVector(0.1, 3, difference="residual"), bz.Vector(FLAT)
    queries = estimator.sample(RandomVectorState(2.0), variable, bz.Key(0, 0))
    state, step = estimator.estimate(RandomVectorState(2.0), variable, queries, bz.Values([np.nan] * 3))
    assert state.previous == 2.0 and not step.dense().any()


@pytest.mark.parametrize("difference", ["central", "forward", "residual"])
@each
def test_one_direction_is_enough(distribution: Any, difference: Any) -> None:
    estimator, f = bz.RandomVector(0.1, 1, distribution, difference), Quadratic(D)
    _, queries, step = one_step(estimator, f, X, state=RandomVectorState(2.0))
    expected = by_hand(estimator, queries.directions.rows, f, FLAT, 2.0)
    np.testing.assert_allclose(step.dense(), expected, rtol=1e-11, atol=1e-12)


@each
def test_relative_compares_within_groups(distribution: Any) -> None:
    estimator, f = bz.RandomVector(0.1, 6, distribution, "relative", group=3), Quadratic(D)
    _, queries, step = one_step(estimator, f, X)
    assert queries.group == queries.take(slice(2)).group == 3
    expected = by_hand(estimator, queries.directions.rows, f, FLAT, 0.0)
    np.testing.assert_allclose(step.dense(), expected, rtol=1e-11, atol=1e-12)


def test_relative_does_not_see_what_a_group_has_in_common() -> None:
    """Groups may be asked about other examples, whose values differ by far more than a direction changes them."""
    estimator, variable = bz.RandomVector(0.1, 6, difference="relative", group=3), bz.Vector(FLAT)
    queries = estimator.sample(estimator.start(variable), variable, bz.Key(0, 0))
    values = sphere(queries.points())
    steps = [
        estimator.estimate(estimator.start(variable), variable, queries, bz.Values(values + shift))[1]
        for shift in (np.zeros(6), np.repeat([1e3, -1e3], 3))
    ]
    np.testing.assert_allclose(steps[0].w, steps[1].w, rtol=1e-9)


def test_relative_leaves_out_what_has_failed_or_stands_alone() -> None:
    estimator, variable = bz.RandomVector(0.1, 8, difference="relative", group=4), bz.Vector(FLAT)
    state = estimator.start(variable)
    queries = estimator.sample(state, variable, bz.Key(0, 0))
    values = sphere(queries.points())
    values[[1, 4, 5, 7]] = np.nan  # of the second group one is left
    _, step = estimator.estimate(state, variable, queries, bz.Values(values))
    few = bz.RandomVector(0.1, 3, difference="relative")
    expected = by_hand(few, queries.directions.rows[[0, 2, 3]], sphere, FLAT, 0.0)
    np.testing.assert_allclose(step.dense(), expected, rtol=1e-11)
    _, cut = estimator.estimate(state, variable, queries.take(slice(3)), bz.Values(sphere(queries.points())[:3]))
    expected = by_hand(few, queries.directions.rows[:3], sphere, FLAT, 0.0)
    np.testing.assert_allclose(cut.dense(), expected, rtol=1e-11)  # the budget ended in the first group


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n_directions": 1, "difference": "relative"}, "n_directions"),
        ({"n_directions": 4, "difference": "relative", "group": 1}, "group"),
        ({"n_directions": 4, "difference": "relative", "group": 3}, "must divide"),
        ({"n_directions": 4, "group": 2}, "difference='relative'"),
    ],
)
def test_groups_that_cannot_be(options: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        bz.RandomVector(0.1, **options)


@pytest.mark.parametrize("difference", ["central", "forward", "residual"])
def test_a_failed_query_leaves_its_direction_out_of_the_mean(difference: Any) -> None:
    """The estimate is that of the other directions alone."""
    state, variable = RandomVectorState(1.0), bz.Vector(FLAT)
    estimator = bz.RandomVector(0.1, 4, difference=difference)
    queries = estimator.sample(state, variable, bz.Key(0, 0))
    values = sphere(queries.points())
    failed = {"central": 3, "forward": 2, "residual": 1}[difference]  # in each case of direction 1
    values[failed] = np.nan
    _, step = estimator.estimate(state, variable, queries, bz.Values(values))
    few = bz.RandomVector(0.1, 1, difference=difference)
    u = queries.directions.rows
    kept = [by_hand(few, u[j : j + 1], sphere, FLAT, 1.0) for j in (0, 2, 3)]
    np.testing.assert_allclose(step.dense(), np.mean(kept, axis=0), rtol=1e-11)


def test_forward_needs_the_value_at_x() -> None:
    variable, estimator = bz.Vector(FLAT), bz.RandomVector(0.1, 3, difference="forward")
    queries = estimator.sample(estimator.start(variable), variable, bz.Key(0, 0))
    _, step = estimator.estimate(RandomVectorState(0.0), variable, queries, bz.Values([np.nan, 1.0, 2.0, 3.0]))
    assert not step.dense().any()


@each
def test_a_budget_that_ends_keeps_whole_pairs(distribution: Any) -> None:
    """Five answers are two pairs; the estimate is their mean."""
    variable, estimator = bz.Vector(FLAT), bz.RandomVector(0.1, 3, distribution)
    queries = estimator.sample(estimator.start(variable), variable, bz.Key(0, 0))
    values = bz.Values(sphere(queries.points()[:5]))
    _, step = estimator.estimate(RandomVectorState(0.0), variable, queries.take(slice(5)), values)
    u = queries.directions.rows
    one = bz.RandomVector(0.1, 1, distribution)
    pairs = [by_hand(one, u[j : j + 1], sphere, FLAT, 0.0) for j in (0, 1)]
    np.testing.assert_allclose(step.dense(), np.mean(pairs, axis=0), rtol=1e-10)


def test_every_step_and_seed_draws_anew() -> None:
    def points(seed: int, step: int) -> tuple[Any, ...]:
        return bits(one_step(bz.RandomVector(0.1, 2), sphere, FLAT, seed=seed, step=step)[1].points())

    assert len({points(seed, step) for seed in range(5) for step in range(5)}) == 25


def test_rank_of_low_rank_directions() -> None:
    x = np.zeros((40, 30))
    for rank in (1, 3):
        estimator = bz.RandomVector(0.1, 1, "lowrank", rank=rank)
        _, queries, _ = one_step(estimator, sphere, x)
        assert np.linalg.matrix_rank(queries.directions.rows.reshape(x.shape)) == rank


nan = float("nan")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"radius": 0}, "`RandomVector(radius=...)` must be a positive number, got 0."),
        ({"radius": -1e-3}, "`RandomVector(radius=...)` must be a positive number, got -0.001."),
        ({"radius": nan}, "`RandomVector(radius=...)` must be a positive number, got nan."),
        ({"radius": "small"}, "`RandomVector(radius=...)` must be a positive number, got 'small'."),
        ({"radius": None}, "`RandomVector(radius=...)` must be a positive number, got None."),
        ({"n_directions": 0}, "`RandomVector(n_directions=...)` must be a whole number of at least 1, got 0."),
        ({"n_directions": 1.5}, "`RandomVector(n_directions=...)` must be a whole number of at least 1, got 1.5."),
        ({"rank": 0}, "`RandomVector(rank=...)` must be a whole number of at least 1, got 0."),
        ({"distribution": "cauchy"}, "`RandomVector(distribution=...)` must be one of 'gaussian', 'sphere',"),
        ({"distribution": "cauchy"}, "got 'cauchy'."),
        ({"difference": "both"}, "must be one of 'central', 'forward', 'residual', 'relative'; got 'both'."),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as error:
        bz.RandomVector(**{"radius": 0.1, **arguments})
    assert words in str(error.value)


def test_sparse_directions_of_a_small_x() -> None:
    """Refused where most of them would be zero; else each query moves whole elements by 1, and the slope is right."""
    with pytest.raises(ValueError, match="moves one of 64 elements, but x has only 9"):
        bz.minimize(lambda x: float(x @ x), np.ones(9), bz.RandomVector(0.125, distribution="sparse"), budget=10)
    asked: list[Any] = []

    def f(x: Any) -> float:
        asked.append(x.copy())
        return float(x @ np.arange(256.0))

    g = bz.gradient(f, np.zeros(256), bz.RandomVector(0.125, 4000, "sparse"))
    assert set(np.unique(asked)) == {-1.0, 0.0, 1.0}
    assert g @ np.arange(256.0) > 0.93 * np.linalg.norm(g) * np.linalg.norm(np.arange(256.0))
