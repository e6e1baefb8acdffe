"""A model that ranks the candidates of `EvolutionStrategy(model=True)`: the fit, and how few queries a step takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.estimators._model_fit import fitted
from blackbox_zo.estimators._quadratic_model import UNKNOWN, coefficients

few = settings(max_examples=25, deadline=None)


def sphere(x: Floats) -> Floats:
    return np.asarray((x * x).sum(axis=-1))


def quadratic(d: int, seed: int) -> tuple[Floats, Floats]:
    """A positive definite Hessian, and the minimiser."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((d, d))
    return a @ a.T + np.eye(d), 0.3 * rng.standard_normal(d)


def asks(search: bz.Search, f: Any, queries: int) -> list[int]:
    """Run, and return the number of queries of each step."""
    out = []
    while search.nfev < queries:
        proposal = search.ask()
        search.tell(proposal, bz.Values(f(proposal.points)))
        out.append(proposal.n)
    return out


# -------------------------------------------------------------------------------------------------------- the fit


@few
@given(d=st.integers(1, 6), seed=st.integers(0, 50))
def test_the_fit_finds_the_least_point_of_a_quadratic(d: int, seed: int) -> None:
    """In any frame, and from any other one."""
    hessian, least = quadratic(d, seed)
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((2 * coefficients(d) + 2, d))
    values = 0.5 * np.einsum("ni,ij,nj->n", z - least, hessian, z - least) + 7.0
    model = fitted(z, values, 0.1 * rng.standard_normal(d), np.diag(rng.uniform(0.5, 2.0, d))).model
    basis, centre = np.linalg.qr(rng.standard_normal((d, d)))[0], 0.2 * rng.standard_normal(d)
    q = model.least(centre, basis, 100.0)
    assert q is not None
    np.testing.assert_allclose(centre + q @ basis, least, atol=1e-5)
    ranks = np.argsort(np.argsort(model.values(z)))
    np.testing.assert_array_equal(ranks, np.argsort(np.argsort(values)))


@few
@given(d=st.integers(1, 5), size=st.sampled_from(["linear", "diagonal", "full"]), seed=st.integers(0, 50))
def test_the_fit_is_the_weighted_least_squares_fit(d: int, size: str, seed: int) -> None:
    """Of a function that is not quadratic: the best 3/4, whose residuals count 20 times down to once by rank."""
    rng = np.random.default_rng(seed)
    count = {"linear": 1 + d, "diagonal": 1 + 2 * d, "full": coefficients(d)}[size]
    n = int(np.ceil(1.1 * count)) + (size == "full")
    total = int(n / 0.75)
    n = int(np.ceil(0.75 * total))
    z = rng.standard_normal((max(total, 3), d))
    values = (z**4).sum(axis=1) + 3 * (z @ rng.standard_normal(d)) + rng.standard_normal(len(z))
    n = int(np.ceil(0.75 * len(z)))
    model = fitted(z, values, np.zeros(d), np.eye(d)).model
    best = np.argsort(values)[:n]
    i, j = np.triu_indices(d)
    columns = [np.ones((n, 1)), z[best]]
    if model.hessian.ndim == 2:
        columns.append(z[best][:, i] * z[best][:, j])
    elif model.hessian.size:
        columns.append(z[best] ** 2)
    features, w = np.hstack(columns), np.linspace(20, 1, n)
    c = np.linalg.lstsq(features * w[:, None], values[best] * w, rcond=None)[0]
    by_hand, ours = features[:, 1:] @ c[1:], model.values(z[best])
    scale = np.linalg.norm(by_hand - by_hand.mean())
    ours = ours * (scale / np.linalg.norm(ours - ours.mean()))
    np.testing.assert_allclose(ours - ours.mean(), by_hand - by_hand.mean(), atol=float(1e-4 * scale))


@pytest.mark.parametrize(("n", "shape"), [(4, (0,)), (12, (0,)), (13, (4,)), (21, (4,)), (22, (4, 4)), (40, (4, 4))])
def test_a_larger_model_when_there_are_points_for_it(n: int, shape: tuple[int, ...]) -> None:
    """Of 4 variables: 1.1 × 9 coefficients of 3/4 of the points, then 1.1 × 15."""
    z = np.random.default_rng(0).standard_normal((n, 4))
    assert fitted(z, sphere(z), np.zeros(4), np.eye(4)).model.hessian.shape == shape


@few
@given(seed=st.integers(0, 50), limit=st.floats(0.1, 2.0))
def test_the_least_point_is_in_the_trust_region_and_least_there(seed: int, limit: float) -> None:
    """Any Hessian, positive or not; against all directions in the plane."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((2, 2))
    a, b = a + a.T, 3.0 * rng.standard_normal(2)
    z = rng.standard_normal((20, 2))

    def q(x: Floats) -> Floats:
        return np.asarray(0.5 * np.einsum("...i,ij,...j->...", x, a, x) + x @ b)

    found = fitted(z, q(z), np.zeros(2), np.eye(2)).model.least(np.zeros(2), np.eye(2), limit)
    assert found is not None and np.linalg.norm(found) <= limit * (1 + 1e-12)
    angle = np.linspace(0, 2 * np.pi, 721)
    disc = np.concatenate([r * limit * np.stack((np.cos(angle), np.sin(angle)), axis=1) for r in np.linspace(0, 1, 41)])
    assert float(q(found)) <= q(disc).min() + 1e-3 * np.ptp(q(disc))


def test_nothing_can_be_fitted_to_two_points_or_to_equal_ones() -> None:
    z = np.random.default_rng(0).standard_normal((20, 2))
    assert fitted(z[:2], z[:2, 0], np.zeros(2), np.eye(2)).model is UNKNOWN
    found = fitted(z, np.ones(20), np.zeros(2), np.eye(2)).model.least(np.zeros(2), np.eye(2), 1.0)
    assert found is None or np.linalg.norm(found) <= 1.0 + 1e-9


# -------------------------------------------------------------------------------------------------- the generation


def test_on_a_quadratic_a_generation_takes_one_or_two_queries() -> None:
    hessian, least = quadratic(5, 1)
    search = bz.Search(np.zeros(5), bz.EvolutionStrategy(0.5, 9, model=True), seed=1)
    n = asks(search, lambda x: np.einsum("ni,ij,nj->n", x - least, hessian, x - least), 120)
    assert n[0] == 9 and max(n[10:]) <= 3
    assert search.state.generation > 60 and search.best.value < 1e-8


def test_where_the_model_is_wrong_all_candidates_are_asked() -> None:
    """Values that no model of x can rank: 1 + 1 + 1 + 2 + 3 + 1 of 9, and a step as good as one without a model."""
    rng = np.random.default_rng(0)
    search = bz.Search(np.zeros(5), bz.EvolutionStrategy(0.5, 9, model=True), seed=1)
    n = asks(search, lambda x: rng.standard_normal(len(x)), 900)
    assert n[1:7] == [1, 1, 1, 2, 3, 1] and search.state.generation < 120


def test_no_candidate_is_asked_twice_and_the_best_of_the_model_come_first() -> None:
    search = bz.Search(np.zeros(4), bz.EvolutionStrategy(0.5, 12, model=True), seed=3)
    asked: list[Floats] = []
    for _ in range(200):
        surrogate, proposal = search.state.surrogate, search.ask()
        if not surrogate.asked.size:
            asked = []
        elif surrogate.model.centre.size:
            drawn: Any = proposal.queries.directions
            others = np.setdiff1d(np.arange(drawn.k), np.append(surrogate.asked, proposal.queries.index))
            rank = surrogate.model.values(drawn.asked)
            if others.size:
                assert rank[proposal.queries.index].max() <= rank[others].min()
        asked += list(proposal.points)
        assert len({tuple(x) for x in asked}) == len(asked) <= 12
        search.tell(proposal, bz.Values((np.abs(proposal.points - 0.3) ** 0.5).sum(axis=1)))


def test_failed_candidates_rank_last() -> None:
    """Half of the space fails, and holds the minimum of the model; the search ends at the border of the other half."""

    def f(x: Floats) -> Floats:
        return np.where(x[:, 0] < 0.2, np.nan, sphere(x))

    search = bz.Search(np.ones(3), bz.EvolutionStrategy(0.3, model=True), seed=2)
    asks(search, f, 500)
    assert 0.04 < search.best.value < 0.0405


def test_nothing_but_failures_is_no_generation() -> None:
    search = bz.Search(np.ones(3), bz.EvolutionStrategy(0.3, model=True), seed=2)
    n = asks(search, lambda x: np.full(len(x), np.nan), 70)
    assert set(n) == {7} and search.state.surrogate.model is UNKNOWN


def test_rankings_are_asked_for_whole_generations() -> None:
    search = bz.Search(np.ones(3), bz.EvolutionStrategy(0.5, 9, model=True))
    for _ in range(40):
        proposal = search.ask()
        assert proposal.n == 9
        search.tell(proposal, bz.Values(sphere(proposal.points)).ranking())
    assert sphere(search.x) < 1e-3 * 3 and not search.state.surrogate.values.size


def test_a_late_answer_teaches_the_model_but_does_not_move_x() -> None:
    search = bz.Search(np.ones(3), bz.EvolutionStrategy(0.5, 9, model=True), seed=1)
    asks(search, sphere, 60)
    early, late = search.ask(), search.ask(repeats=True)
    search.tell(early, bz.Values(sphere(early.points)))
    x, state = search.x.copy(), search.state
    search.tell(late, bz.Values(sphere(late.points)))
    assert np.array_equal(search.x, x) and search.state.generation == state.generation
    assert len(search.state.surrogate.values) >= len(state.surrogate.values)


def test_answers_of_others_make_the_first_model() -> None:
    """40 of them, and the first query is close to the optimum of a quadratic."""
    hessian, least = quadratic(4, 2)
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (40, 4))

    def f(x: Floats) -> Floats:
        return np.asarray(np.einsum("ni,ij,nj->n", x - least, hessian, x - least))

    variable, estimator = bz.Vector(np.zeros(4)), bz.EvolutionStrategy(0.3, model=True)
    state = estimator.inform(estimator.start(variable), variable, points, f(points))
    queries = estimator.sample(state, variable, bz.Key(0, 0))
    assert queries.n == 1
    np.testing.assert_allclose(queries.points()[0], least, atol=1e-6)


def test_within_bounds_the_model_is_one_of_f_itself() -> None:
    """A quadratic whose minimum is near a corner is solved to the last digits as soon as the model is determined."""
    hessian, _ = quadratic(3, 4)
    least = np.array([0.97, -0.98, 0.3])
    search = bz.Search(bz.Vector(np.zeros(3), (-1.0, 1.0)), bz.EvolutionStrategy(0.3, 8, model=True), seed=1)
    asks(search, lambda x: np.einsum("ni,ij,nj->n", x - least, hessian, x - least), 60)
    assert search.best.value < 1e-10


def test_the_budget_may_end_within_a_generation() -> None:
    r = bz.minimize(
        lambda x: float(sphere(x)), np.ones(4), (bz.EvolutionStrategy(0.3, 20, model=True), bz.SGD(1.0)), 33
    )
    assert r.nfev == 33 and r.success


@pytest.mark.parametrize("step_size", ["line", "both"])
def test_a_model_and_a_line_exclude_each_other(step_size: Any) -> None:
    with pytest.raises(ValueError, match='does not go with a model, which asks a few queries at a time; use "path"'):
        bz.EvolutionStrategy(0.3, model=True, step_size=step_size)
