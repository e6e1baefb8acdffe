"""`SPSA`: the gains that it measures, and what they are worth under noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz

from ..helpers import sphere


def opened(sigma: float, slope: float, radius: float = 0.1, d: int = 8) -> Any:
    """The state after the opening on `slope * x[0]`, with noise whose standard deviation at x is exactly sigma."""
    estimator, x = bz.SPSA(radius), bz.Vector(np.zeros(d))
    queries = estimator.sample(estimator.start(x), x, bz.Key(0, 0))
    assert queries.n == 12 and not queries.scale[:4].any()
    values = slope * x.points(queries)[:, 0]
    values[:4] += sigma * np.sqrt(0.75) * np.array([1, -1, 1, -1])
    state, step = estimator.estimate(estimator.start(x), x, queries, bz.Values(values))
    assert not step.w.any()
    return state


def test_without_noise_c_is_the_radius_and_the_size_of_gradients_is_exact() -> None:
    state = opened(0.0, 3.0)
    assert (state.step, state.c) == (0, 0.1)
    assert state.square == pytest.approx(9.0)  # each element of g is ± the slope


@pytest.mark.parametrize(("sigma", "times"), [(0.01, 3.0), (0.38, 5.697), (5.0, 10.0)])
def test_with_noise_a_difference_is_four_sigma(sigma: float, times: float) -> None:
    state = opened(sigma, 3.0)
    assert state.c == pytest.approx(0.1 * times, rel=1e-3)
    if 3 < times < 10:
        signal = np.sqrt(9.0 - sigma**2 / (2 * 0.1**2))  # the slope, less what noise adds to its square
        assert 2 * state.c * signal == pytest.approx(4 * sigma)


def test_gains_fall_as_spall_says() -> None:
    estimator, x = bz.SPSA(0.1, steps=200), bz.Vector(np.zeros(3))
    state = bz.SPSA(0.1).start(x)._replace(step=0, square=4.0)
    moves, lengths = [], []
    for k in range(60):
        queries = estimator.sample(state, x, bz.Key(1, k))
        f = 2.0 * x.points(queries)[:, 0]  # |g| = 2 always
        state, step = estimator.estimate(state, x, queries, bz.Values(f))
        moves.append(float(np.abs(step.dense()[0])))
        lengths.append(float(queries.scale[0]))
    steps = np.arange(60)
    np.testing.assert_allclose(moves, 0.1 * ((20 + 1) / (20 + steps + 1)) ** 0.602)
    np.testing.assert_allclose(lengths, 0.1 / (steps + 1) ** 0.101)


def test_no_element_moves_further_than_the_radius() -> None:
    estimator, x = bz.SPSA(0.1, 2), bz.Vector(np.zeros(3))
    state = bz.SPSA(0.1).start(x)._replace(step=0, square=1e-6)
    queries = estimator.sample(state, x, bz.Key(1, 0))
    _, step = estimator.estimate(state, x, queries, bz.Values(1e6 * x.points(queries)[:, 0]))
    assert 0.05 < np.abs(step.dense()).max() <= 0.1 * (1 + 1e-12)


@pytest.mark.parametrize(("d", "most"), [(10, 1.5), (40, 6.0)])
def test_noise_of_standard_deviation_one(d: int, most: float) -> None:
    found = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        r = bz.minimize(lambda x, rng=rng: sphere(x - 1) + rng.normal(), np.full(d, 3.0), bz.SPSA(), 3000, seed=seed)
        found.append(sphere(r.center - 1))
    assert np.median(found) < most  # from 40 and 160


@pytest.mark.parametrize("factor", [1e-12, 1e12])
def test_the_unit_of_f_does_not_matter(factor: float) -> None:
    a, b = (bz.minimize(lambda x, u=u: u * float(sphere(x)), np.ones(5), bz.SPSA(), 400) for u in (1.0, factor))
    np.testing.assert_allclose(a.x, b.x, rtol=1e-6)


def test_gradients_that_shrink_do_not_stop_it() -> None:
    # one direction is 1,000 times as steep as the others, and soon left behind
    scales = np.array([1e3, 1.0, 1.0, 1.0])
    r = bz.minimize(lambda x: float(scales @ x**2), np.full(4, 3.0), bz.SPSA(), 3000)
    assert r.fun < 2.0  # from 9,027


def test_a_module_is_trained_without_memory_of_its_size() -> None:
    torch = pytest.importorskip("torch", reason="torch is an optional dependency")
    net = torch.nn.Linear(3, 1)
    x = bz.Module(net)
    state = bz.SPSA().start(x)
    assert all(np.ndim(part) == 0 for part in state)
    assert isinstance(bz.SPSA().sample(state, x, bz.Key(0, 0)).directions, bz.Rademacher)


@pytest.mark.parametrize(("wrong", "message"), [({"n_directions": 0}, "at least 1, got 0"), ({"steps": 0.5}, "0.5")])
def test_bad_arguments(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"SPSA\\({next(iter(wrong))}=.*{message}"):
        bz.SPSA(**wrong)


def test_a_failed_opening_is_asked_again() -> None:
    estimator, x = bz.SPSA(), bz.Vector(np.zeros(2))
    queries = estimator.sample(estimator.start(x), x, bz.Key(0, 0))
    state, step = estimator.estimate(estimator.start(x), x, queries, bz.Values(np.full(12, np.nan)))
    assert state == estimator.start(x)
    assert not step.w.any()
