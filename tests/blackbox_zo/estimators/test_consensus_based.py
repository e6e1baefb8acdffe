from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.randomness import normals

from ..helpers import bits, one_step, run, sphere

X0 = np.array([1.0, -2.0, 0.5])


def bumps(points: Floats) -> Floats:
    """Rastrigin's function with 2.5 instead of 10."""
    return np.asarray(sphere(points) + 2.5 * (1 - np.cos(2 * np.pi * points)).sum(axis=-1))


def noise(step: int, n: int, d: int) -> Floats:
    return normals(bz.Key(4, step), "particles", n, d)


@pytest.mark.parametrize("kind", ["anisotropic", "isotropic"])
def test_steps_are_the_formulas_with_the_same_noise(kind: Any) -> None:
    n, d, alpha, lam, sigma, dt = 7, 3, 5.0, 1.3, 0.8, 0.05
    estimator = bz.ConsensusBased(0.4, n, alpha, noise=kind, drift=lam, diffusion=sigma, dt=dt)
    search = bz.Search(X0, estimator, seed=4)
    particles = X0 + 0.4 * noise(0, n, d)
    for step in range(6):
        proposal = search.ask()
        np.testing.assert_allclose(proposal.points, particles, rtol=1e-12, atol=1e-14)
        search.tell(proposal, bz.Values(bumps(proposal.points)))
        values = bumps(particles)
        w = [np.exp(-alpha * (v - min(values))) for v in values]
        consensus = sum(w_i * v_i for w_i, v_i in zip(w, particles, strict=True)) / sum(w)
        np.testing.assert_allclose(search.x, consensus, rtol=1e-12, atol=1e-14)
        xi = noise(step + 1, n, d)
        moved = []
        for i, v in enumerate(particles):
            away = v - consensus
            spread = np.abs(away) if kind == "anisotropic" else np.full(d, np.linalg.norm(away))
            moved.append(v - lam * dt * away + sigma * np.sqrt(dt) * spread * xi[i])
        particles = np.array(moved)


def test_hopping_is_the_weighted_mean_of_fresh_particles() -> None:
    search = bz.Search(X0, bz.ConsensusBased(0.4, 9, 5.0, scheme="hopping"), seed=4)
    x = X0
    for _ in range(4):
        proposal = search.ask()
        values = bumps(proposal.points)
        w = np.exp(-5.0 * (values - values.min()))
        search.tell(proposal, bz.Values(values))
        np.testing.assert_allclose(search.x, (w / w.sum()) @ proposal.points, rtol=1e-12)
        spread = proposal.points - x
        assert 0.1 < spread.std() < 0.8
        x = np.array(search.x)


@pytest.mark.parametrize("seed", range(20))
def test_hopping_agrees_with_its_closed_form(seed: int) -> None:
    """For `E = x'Ax/2` and infinitely many particles `x+ = (I/s^2 + alpha A)^-1 x/s^2`, a proximal step."""
    alpha, s = 10.0, 0.1
    a = np.array([[2.0, 0.5], [0.5, 1.0]])
    angle = 0.3 * seed
    x = np.array([np.cos(angle), np.sin(angle)])

    def energy(points: Floats) -> Floats:
        return np.asarray(0.5 * np.einsum("...i,ij,...j->...", points, a, points))

    _, _, step = one_step(bz.ConsensusBased(s, 1000, alpha, scheme="hopping"), energy, x, seed=seed)
    move = -step.dense()
    expected = np.linalg.solve(np.eye(2) / s**2 + alpha * a, x / s**2) - x
    for direction in (expected, -a @ x):
        assert move @ direction / (np.linalg.norm(move) * np.linalg.norm(direction)) >= 0.95
    assert np.linalg.norm(move - expected) < 0.25 * np.linalg.norm(expected)


def test_error_falls_with_the_root_of_the_number_of_particles() -> None:
    x, s, alpha = np.array([1.0, 0.5]), 0.1, 10.0
    expected = x / (1 + alpha * s**2) - x
    errors = []
    for n in (200, 3200):
        steps = [
            one_step(bz.ConsensusBased(s, n, alpha, scheme="hopping"), lambda p: 0.5 * sphere(p), x, seed=seed)[2]
            for seed in range(30)
        ]
        errors.append(np.sqrt(np.mean([np.sum((-step.dense() - expected) ** 2) for step in steps])))
    assert -0.65 < np.log(errors[1] / errors[0]) / np.log(16) < -0.35


@pytest.mark.parametrize("diffusion", [1.0, 3.0])
def test_finds_the_least_of_many_minima(diffusion: float) -> None:
    """Start N(3, 2^2), N 200, T 8, dt 0.02: found in 0.97 to 1 of 100 runs where descent finds 0.02."""
    found = 0
    for seed in range(10):
        search = bz.Search(np.full(2, 3.0), bz.ConsensusBased(2.0, 200, diffusion=diffusion), seed=seed)
        found += bool(np.abs(run(search, bumps, 400).x).max() < 0.25)
    assert found >= 9


@pytest.mark.parametrize("scheme", ["cbo", "hopping"])
def test_failed_particles_have_no_weight(scheme: Any) -> None:
    estimator, variable = bz.ConsensusBased(0.4, 5, 1.0, scheme=scheme), bz.Vector(X0)
    queries = estimator.sample(estimator.start(variable), variable, bz.Key(4, 0))
    values = bumps(queries.points())
    values[[1, 3]] = np.nan
    _, step = estimator.estimate(estimator.start(variable), variable, queries, bz.Values(values))
    kept = queries.points()[[0, 2, 4]]
    w = np.exp(-(values[[0, 2, 4]] - np.nanmin(values)))
    np.testing.assert_allclose(X0 - step.dense(), (w / w.sum()) @ kept, rtol=1e-12)


@pytest.mark.parametrize("scheme", ["cbo", "hopping"])
def test_a_large_alpha_follows_the_best_particle(scheme: Any) -> None:
    _, queries, step = one_step(bz.ConsensusBased(0.4, 9, 1e12, scheme=scheme), bumps, X0)
    points = queries.points()
    np.testing.assert_allclose(X0 - step.dense(), points[np.argmin(bumps(points))], rtol=1e-9)


def test_without_answers_the_particles_are_drawn_again_around_the_same_places() -> None:
    search = bz.Search(X0, bz.ConsensusBased(0.4, 5, scheme="cbo"))
    proposal = search.ask()
    search.tell(proposal, bz.Values([np.nan] * 5))
    assert bits(search.x) == bits(X0)
    assert np.abs(search.ask().points - X0).max() < 4 * 0.4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"radius": 0.0}, "`ConsensusBased(radius=...)` must be a positive number, got 0.0."),
        ({"n_queries": 1}, "`ConsensusBased(n_queries=...)` must be a whole number of at least 2, got 1."),
        ({"alpha": 0}, "`ConsensusBased(alpha=...)` must be a positive number, got 0."),
        ({"drift": -1.0}, "`ConsensusBased(drift=...)` must be a positive number, got -1.0."),
        ({"diffusion": 0.0}, "`ConsensusBased(diffusion=...)` must be a positive number, got 0.0."),
        ({"dt": float("inf")}, "`ConsensusBased(dt=...)` must be a positive number, got inf."),
        ({"scheme": "hop"}, "`ConsensusBased(scheme=...)` must be one of 'cbo', 'hopping'; got 'hop'."),
        ({"noise": "none"}, "`ConsensusBased(noise=...)` must be one of 'anisotropic', 'isotropic'; got 'none'."),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as error:
        bz.ConsensusBased(**{"radius": 0.1, "n_queries": 8, **arguments})
    assert str(error.value) == words
