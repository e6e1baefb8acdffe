"""The model of `EvolutionStrategy(model=True)`, updated by each answer, and how a generation begins."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.estimators._model_fit import UNFITTED, Fit, fitted
from blackbox_zo.estimators._quadratic_model import coefficients
from blackbox_zo.estimators._surrogate_ranking import _agreement, first_surrogate

few = settings(max_examples=25, deadline=None)


def rugged(x: Floats) -> Floats:
    return np.asarray((x * x + 3 * np.cos(7 * x)).sum(axis=-1) + x[..., 0])


def some(d: int, seed: int) -> tuple[Floats, Floats, Fit]:
    """Points, values and their fit."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((2 * coefficients(d), d))
    return points, rugged(points), fitted(points, rugged(points), 0.1 * rng.standard_normal(d), 0.7 * np.eye(d))


@few
@given(d=st.integers(3, 8), seed=st.integers(0, 50), together=st.booleans())
def test_an_update_is_the_least_squares_fit_with_the_new_answers(d: int, seed: int, together: bool) -> None:
    """By the weights of the fit, and for a new answer that of its rank; together or one by one."""
    points, values, fit = some(d, seed)
    m, rng = coefficients(d) // 8, np.random.default_rng(seed + 1)
    new = 0.5 * rng.standard_normal((m, d))
    answers = np.maximum(rugged(new), fit.values[0])
    found: Fit | None = fit
    for part in [slice(0, m)] if together else [slice(j, j + 1) for j in range(m)]:
        assert found is not None
        found = found.updated(new[part], answers[part])
    assert found is not None and found.age == m

    n = int(np.ceil(0.75 * len(values)))
    best = np.argsort(values)[:n]
    w = np.linspace(20.0, 1.0, n)
    places = np.searchsorted(values[best], answers)
    used = places < n
    z = (np.concatenate((points[best], new[used])) - fit.model.centre) @ fit.model.whiten
    weights = np.concatenate((w, w[places[used]]))
    i, j = np.triu_indices(d)
    features = np.hstack((np.ones((len(z), 1)), z, z[:, i] * z[:, j]))
    y = np.concatenate((values[best], answers[used])) - values.min()
    c = np.linalg.lstsq(features * weights[:, None], y * weights, rcond=None)[0]
    expected = features @ c
    got = found.model.values(np.concatenate((points[best], new[used]))) * fit.scale
    np.testing.assert_allclose(got - got[0], expected - expected[0], atol=1e-6 * np.abs(y).max())


def test_an_update_leaves_the_fit_before_as_it_was() -> None:
    """A state that was kept, for a snapshot or a late answer, is used again."""
    points, _, fit = some(5, 1)
    before = [np.array(part) for part in (fit.coefficients, fit.factor, fit.features, fit.model.hessian)]
    new = points[:2] / 2
    assert (found := fit.updated(new, np.full(2, fit.values[0]))) is not None and found.model is not fit.model
    for then, now in zip(before, (fit.coefficients, fit.factor, fit.features, fit.model.hessian), strict=True):
        np.testing.assert_array_equal(then, now)


def test_what_is_worse_than_three_quarters_counts_for_nothing() -> None:
    points, values, fit = some(5, 2)
    found = fit.updated(points[:1], np.array([values.max() + 1.0]))
    assert found is not None and found.model is fit.model and found.age == 1
    failed = fit.updated(points[:1], np.array([np.inf]))
    assert failed is not None and failed.model is fit.model


def test_a_fit_is_due_after_one_answer_for_eight_coefficients() -> None:
    points, values, fit = some(6, 3)
    most = coefficients(6) // 8
    assert fit.updated(points[:most], values[:most]) is not None
    assert fit.updated(points[: most + 1], values[: most + 1]) is None
    assert UNFITTED.updated(points[:1], values[:1]) is None


def test_after_a_better_answer_a_fit_is_due_sooner() -> None:
    points, values, fit = some(8, 3)
    assert coefficients(8) // 32 == 1
    found = fit.updated(points[:1], np.array([values.min() - 1.0]))
    assert found is not None and found.updated(points[1:2], values[1:2]) is None
    found = fit.updated(points[:1], values[:1])
    assert found is not None and found.updated(points[1:2], np.array([values.min() - 1.0])) is None
    points, values, fit = some(5, 3)
    assert fit.updated(points[:1], np.array([values.min() - 1.0])) is None


def test_where_rounding_has_spoilt_the_equations_a_fit_is_due() -> None:
    points, _, fit = some(5, 4)
    spoilt = fit._replace(factor=np.full_like(fit.factor, np.nan))
    assert spoilt.updated(points[:1], fit.values[1:2]) is None


def test_the_search_updates_its_model_and_fits_it_anew_in_between() -> None:
    search = bz.Search(np.zeros(8), bz.EvolutionStrategy(0.5, model=True), seed=1)
    ages = []
    while search.nfev < 250:
        proposal = search.ask()
        search.tell(proposal, bz.Values(rugged(proposal.points - 0.3)))
        ages.append(search.state.surrogate.fit.age)
    assert ages[-100:].count(0) > 10 and len(set(ages[-100:])) > 3


def test_a_search_that_is_resumed_between_two_fits_goes_on_to_the_bit() -> None:
    """However the arrays were laid out in what it was resumed from."""

    def search() -> bz.Search:
        return bz.Search(np.full(8, 0.4), bz.EvolutionStrategy(0.5, model=True), seed=1)

    def told(s: bz.Search) -> Floats:
        proposal = s.ask()
        s.tell(proposal, bz.Values(rugged(proposal.points - 0.3)))
        return proposal.points

    first, second = search(), search()
    while first.state.surrogate.fit.age < 3:
        told(first)
    saved = first.state_dict()
    second.load_state_dict({k: np.array(v, order="C") if isinstance(v, np.ndarray) else v for k, v in saved.items()})
    for _ in range(60):
        np.testing.assert_array_equal(told(first), told(second))


@few
@given(seed=st.integers(0, 1000), n=st.integers(2, 25), failures=st.integers(0, 3))
def test_agreement_is_kendalls_tau_of_the_newest_answers(seed: int, n: int, failures: int) -> None:
    """A pair that ties in either, as two that failed do, counts for neither."""
    _, _, fit = some(3, seed)
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, 3))
    f = np.round(rugged(points))
    f[rng.integers(0, n, failures)] = np.inf
    s = first_surrogate(3)._replace(points=points, values=f, fit=fit)
    m = fit.model.values(points)
    newest = range(max(0, n - 15), n)
    total = 0.0
    for a, b in combinations(newest, 2):
        up = (f[a] > f[b]) - float(f[a] < f[b])
        total += up * ((m[a] > m[b]) - float(m[a] < m[b]))
    assert _agreement(s, 9) == pytest.approx(total / (len(newest) * (len(newest) - 1) / 2))


def rounds(f: Any, d: int = 6) -> tuple[Floats, Floats]:
    """For each of the later generations its queries, and in how many rounds they were asked."""
    search = bz.Search(np.full(d, 0.3), bz.EvolutionStrategy(0.5, 10, model=True), seed=2)
    queries, count = [0], [0]
    while search.state.generation < 40:
        before, proposal = search.state.generation, search.ask()
        queries[-1] += proposal.n
        count[-1] += 1
        search.tell(proposal, bz.Values(f(proposal.points)))
        if search.state.generation > before:
            queries.append(0)
            count.append(0)
    return np.array(queries[20:-1]), np.array(count[20:-1])


def test_a_generation_that_will_need_many_queries_asks_half_of_them_at_once() -> None:
    rng = np.random.default_rng(0)
    queries, count = rounds(lambda x: rng.standard_normal(len(x)))
    assert np.median(queries) == 10.0 and np.median(count) <= 3.0  # 1 + 1 + 1 + 2 + 3 + 2 without that


def test_a_generation_that_needs_one_query_asks_one() -> None:
    queries, count = rounds(lambda x: (x * x).sum(axis=1))
    assert np.median(queries) == 1.0 and np.median(count) == 1.0
