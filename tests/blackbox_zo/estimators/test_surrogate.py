from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.estimators._gaussian_process import fit, uncertain
from blackbox_zo.estimators._surrogate import SurrogateState

from ..helpers import Quadratic, few, run, sphere


def kernel(a: Floats, b: Floats, length: float) -> Floats:
    """Matérn 5/2, one pair after another."""
    k = np.empty((len(a), len(b)))
    for i, p in enumerate(a):
        for j, q in enumerate(b):
            s = math.sqrt(5.0) * math.sqrt(sum((p - q) ** 2)) / length
            k[i, j] = (1.0 + s + s * s / 3.0) * math.exp(-s)
    return k


class DenseGP:
    """A Gaussian process with a constant mean and plain formulas: no factors are shared, nothing is scaled."""

    def __init__(self, points: Floats, values: Floats, length: float, noise: float) -> None:
        self.points, self.length = points, length
        self.k = kernel(points, points, length) + noise * np.eye(len(points))
        one = np.ones(len(points))
        self.mean = one @ np.linalg.solve(self.k, values) / (one @ np.linalg.solve(self.k, one))
        self.away = values - self.mean
        self.alpha = np.linalg.solve(self.k, self.away)

    def __call__(self, x: Floats) -> float:
        return float(self.mean + kernel(x[None], self.points, self.length)[0] @ self.alpha)

    def minus_log_likelihood(self) -> float:
        """Rasmussen & Williams 2006, eq. (2.30), at the best signal variance."""
        n = len(self.points)
        signal = self.away @ self.alpha / n
        covariance = signal * self.k
        return float(
            0.5 * self.away @ np.linalg.solve(covariance, self.away)
            + 0.5 * np.linalg.slogdet(covariance)[1]
            + 0.5 * n * math.log(2.0 * math.pi)
        )


def slopes(f: Any, x: Floats, h: float = 1e-4) -> Floats:
    return np.array([(f(x + h * e) - f(x - h * e)) / (2 * h) for e in np.eye(len(x))])


def data(n: int, d: int, seed: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, d))
    return points, np.sin(points[:, 0]) + sphere(points) - 5.0


@few
@given(n=st.integers(3, 15), d=st.integers(1, 5), seed=st.integers(0, 99))
def test_estimate_is_the_gradient_of_the_posterior_mean(n: int, d: int, seed: int) -> None:
    points, values = data(n, d, seed)
    variable, estimator = bz.Vector(np.linspace(0.1, 0.4, d)), bz.Surrogate(0.3, 2, 50, noise=1e-4)
    start = SurrogateState(points, values, np.nan, np.nan)
    queries = estimator.sample(start, variable, bz.Key(seed, 0))
    told = sphere(queries.points())
    state, step = estimator.estimate(start, variable, queries, bz.Values(told))
    assert state.noise == 1e-4 and len(state.values) == n + 2
    posterior = DenseGP(np.concatenate((points, queries.points())), np.append(values, told), state.length, state.noise)
    expected = slopes(posterior, variable.value)
    np.testing.assert_allclose(step.dense(), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_prediction_is_the_posterior_mean() -> None:
    points, values = data(12, 3, 0)
    gp = fit(points, values, None, None)
    x = np.array([0.3, -0.2, 0.1])
    assert gp.predict(x) == pytest.approx(DenseGP(points, values, gp.length, gp.noise)(x), rel=1e-6)
    np.testing.assert_allclose([gp.predict(p) for p in points], values, atol=1e-2)


@pytest.mark.parametrize("seed", range(4))
def test_length_and_noise_maximise_the_marginal_likelihood(seed: int) -> None:
    """No point of a grid is better by more than a tenth of a nat."""
    rng = np.random.default_rng(seed)
    points, values = data(20, 2, seed)
    values = values + 0.3 * rng.standard_normal(20)
    gp = fit(points, values, None, None)
    found = DenseGP(points, values, gp.length, gp.noise).minus_log_likelihood()
    grid = [(gp.length * 2.0**a, max(gp.noise, 1e-8) * 4.0**b) for a in range(-3, 4) for b in range(-3, 4)]
    assert found <= min(DenseGP(points, values, *theta).minus_log_likelihood() for theta in grid) + 0.1


def test_a_length_that_varies_faster_is_shorter() -> None:
    points = np.random.default_rng(0).uniform(-1, 1, (40, 1))
    slow, fast = (fit(points, np.sin(w * points[:, 0]), None, 1e-6).length for w in (1.0, 8.0))
    assert fast < 0.5 * slow


def test_next_queries_turn_toward_where_the_gradient_is_least_known() -> None:
    """`xi Sigma`, with the posterior covariance of the gradient from second differences of the kernel."""
    points, _ = data(5, 3, 1)
    x, length, noise, h = np.array([0.2, 0.1, -0.3]), 1.7, 1e-3, 1e-4
    xi = np.random.default_rng(2).standard_normal((2, 3))
    j = np.stack(
        [
            (kernel(points, (x + h * e)[None], length) - kernel(points, (x - h * e)[None], length))[:, 0]
            for e in np.eye(3)
        ],
        axis=1,
    )
    j /= 2 * h
    sigma = 5 / (3 * length**2) * np.eye(3) - j.T @ np.linalg.solve(
        kernel(points, points, length) + noise * np.eye(5), j
    )
    np.testing.assert_allclose(uncertain(points, x, length, noise, xi), xi @ sigma, rtol=1e-5, atol=1e-6)


def test_queries_are_x_and_orthonormal_steps_from_it() -> None:
    search = bz.Search(np.arange(6.0), bz.Surrogate(0.5, 4, 30), seed=2)
    for _ in range(3):
        x = np.array(search.x)
        proposal = search.ask()
        away = (proposal.points - x) / 0.5
        np.testing.assert_array_equal(away[0], 0.0)
        np.testing.assert_allclose(away[1:] @ away[1:].T, np.eye(3), atol=1e-9)
        search.tell(proposal, bz.Values(sphere(proposal.points)))


@pytest.mark.parametrize(("d", "n_queries"), [(1, 3), (3, 6), (3, 7), (3, 11), (4, 2), (4, 3), (4, 4)])
def test_directions_beyond_d_mirror_those_before(d: int, n_queries: int) -> None:
    variable, estimator = bz.Vector(np.ones(d)), bz.Surrogate(0.1, n_queries, 30)
    queries = estimator.sample(estimator.start(variable), variable, bz.Key(0, 0))
    away = queries.points()[1:] - variable.value
    mirrored = away[d : 2 * d]
    np.testing.assert_allclose(mirrored, -away[: len(mirrored)], atol=1e-15)
    assert len(np.unique(queries.points().round(9), axis=0)) == n_queries


def test_history_keeps_the_newest_answers() -> None:
    search = bz.Search(np.ones(3), bz.Surrogate(0.1, 4, 10))
    asked = []
    for _ in range(4):
        proposal = search.ask()
        asked.append(proposal.points)
        search.tell(proposal, bz.Values(sphere(proposal.points)))
    newest = np.concatenate(asked)[-10:]
    np.testing.assert_array_equal(search.state.points, newest)
    np.testing.assert_array_equal(search.state.values, sphere(newest))


def test_estimate_scales_with_f_and_not_with_its_offset() -> None:
    points, values = data(10, 3, 4)
    x = np.array([0.1, 0.2, 0.3])
    plain, scaled = (
        gp.gradient_weights(x) @ (points - x) for gp in (fit(points, v, None, 1e-6) for v in (values, 7 * values + 100))
    )
    np.testing.assert_allclose(scaled, 7 * plain, rtol=1e-6)


@pytest.mark.parametrize("values", [[np.nan] * 3, [1.0, np.nan, np.nan], [1.0, 1.0, 1.0]], ids=str)
def test_too_little_known_is_no_estimate(values: list[float]) -> None:
    variable, estimator = bz.Vector(np.ones(3)), bz.Surrogate(0.1, 3, 10)
    queries = estimator.sample(estimator.start(variable), variable, bz.Key(0, 0))
    assert not estimator.estimate(estimator.start(variable), variable, queries, bz.Values(values))[1].dense().any()


def test_points_that_coincide_do_no_harm() -> None:
    points = np.zeros((6, 2))
    points[3:] = 1.0
    gp = fit(points, np.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.1]), None, None)
    assert np.isfinite(gp.gradient_weights(np.full(2, 0.5))).all()


def test_fewer_queries_than_a_random_vector_needs() -> None:
    f = Quadratic(20)
    f.a = np.diag(np.linspace(0.5, 2.0, 20))
    least = f.minimum()

    def gap(estimator: bz.Estimator, n: int) -> float:
        search = run(bz.Search(f.x, estimator, bz.SGD(0.3), seed=1), f, 240 // n)
        return float(f(search.x)) - least

    assert gap(bz.Surrogate(0.1, 4, 60, noise=1e-6), 4) < 0.3 * gap(bz.RandomVector(0.1, 2, "orthogonal"), 4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"radius": 0.0}, "`Surrogate(radius=...)` must be a positive number, got 0.0."),
        ({"n_queries": 1}, "`Surrogate(n_queries=...)` must be a whole number of at least 2, got 1."),
        ({"history": 1}, "`Surrogate(history=...)` must be a whole number of at least 2, got 1."),
        ({"noise": 0.0}, "`Surrogate(noise=...)` must be a positive number, got 0.0."),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as error:
        bz.Surrogate(**{"radius": 0.1, "n_queries": 3, "history": 20, **arguments})
    assert str(error.value) == words
