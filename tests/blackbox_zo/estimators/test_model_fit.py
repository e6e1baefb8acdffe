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


def some(d: int, seed: int, digits: int = 9) -> tuple[Floats, Floats, Fit]:
    """A window of points and values, and their fit."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((2 * coefficients(d), d))
    values = rugged(points).round(digits)
    return points, values, fitted(points, values, 0.1 * rng.standard_normal(d), 0.7 * np.eye(d))


def and_one(points: Floats, values: Floats, value: float) -> tuple[Floats, Floats]:
    """The window after one more answer, at a point of its own."""
    d = points.shape[1]
    x = 0.3 * np.random.default_rng(len(values)).standard_normal(d)
    return np.concatenate((points, x[None, :])), np.append(values, value)


@few
@given(
    d=st.integers(11, 14),
    seed=st.integers(0, 50),
    together=st.booleans(),
    leave=st.integers(0, 2),
    digits=st.integers(0, 9),
)
def test_an_update_is_the_least_squares_fit_to_the_best_of_the_window(
    d: int, seed: int, together: bool, leave: int, digits: int
) -> None:
    """By the weights of the fit, and for one that has come that of its rank; together or one by one."""
    points, values, fit = some(d, seed, digits)
    m, rng = coefficients(d) // 8, np.random.default_rng(seed + 1)
    new = 0.5 * rng.standard_normal((m, d))
    answers = np.maximum(rugged(new).round(digits), fit.values[0])
    window, told = np.concatenate((points, new)), np.concatenate((values, answers))
    found: Fit | None = fit
    for j in [m] if together else range(1, m + 1):
        now = slice(min(j, leave), len(values) + j)  # the oldest leave
        assert found is not None
        found = found.updated(window[now], told[now], m if together else 1)
    assert found is not None and found.age == m

    now = slice(min(m, leave), None)
    best = np.argsort(told[now], kind="stable")[: int(np.ceil(0.75 * len(told[now])))]
    z = (window[now][best] - fit.model.centre) @ fit.model.whiten
    n, y = len(fit.values), told[now][best] - values.min()
    rank = np.minimum(np.searchsorted(fit.values, told), n - 1)
    rank[fit.best] = np.arange(n)  # of equal values, too, each keeps its weight
    weights = np.linspace(20.0, 1.0, n)[rank[now][best]]
    one, other = np.triu_indices(d)
    features = np.hstack((np.ones((len(z), 1)), z, z[:, one] * z[:, other]))
    c = np.linalg.lstsq(features * weights[:, None], y * weights, rcond=None)[0]
    expected, got = features @ c, found.model.values(window[now][best]) * fit.scale
    np.testing.assert_allclose(got - got[0], expected - expected[0], atol=1e-5 * np.abs(y).max())


def test_an_update_leaves_the_fit_before_as_it_was() -> None:
    """A state that was kept, for a snapshot or a late answer, is used again."""
    points, values, fit = some(12, 1)
    before = [np.array(part) for part in (fit.coefficients, fit.factor, fit.points, fit.model.hessian)]
    found = fit.updated(*and_one(points, values, fit.values[1]), 1)
    assert found is not None and found.model is not fit.model
    for then, now in zip(before, (fit.coefficients, fit.factor, fit.points, fit.model.hessian), strict=True):
        np.testing.assert_array_equal(then, now)


def test_what_is_worse_than_three_quarters_counts_for_nothing() -> None:
    points, values, fit = some(11, 2)
    for value in (values.max() + 1.0, np.inf):
        found = fit.updated(*and_one(points[1:], values[1:], value), 1)
        assert found is not None and found.age == 1
        same = set(map(tuple, fit.points)) == set(map(tuple, points[1:][np.argsort(values[1:])[: len(fit.values)]]))
        assert (found.model is fit.model) == same


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [46, 60])
def test_where_failures_are_among_the_best_a_fit_is_due(n: int) -> None:
    """Of 183 answers the best 138."""
    points, values, fit = some(12, 2)
    values[:n] = np.inf
    assert len(values) == 182
    assert fit.updated(*and_one(points, values, fit.values[2]), 1) is None


def test_a_fit_is_due_after_one_answer_for_eight_coefficients() -> None:
    points, values, fit = some(12, 3)
    most = coefficients(12) // 8
    assert fit.updated(points, values, most) is not None
    assert fit.updated(points, values, most + 1) is None
    assert UNFITTED.updated(points, values, 1) is None
    points, values, fit = some(10, 3)  # it costs no more than an update
    assert fit.updated(points, values, 1) is None


def test_after_a_better_answer_a_fit_is_due_sooner() -> None:
    points, values, fit = some(11, 3)
    better, worst = values.min() - 1.0, values.max()
    assert coefficients(11) // 32 == 2

    def after(*answers: float) -> Fit | None:
        window, found = (points, values), fit
        for answer in answers:
            window = and_one(*window, answer)
            then = found.updated(*window, 1)
            if then is None:
                return None
            found = then
        return found

    assert after(worst, worst, worst) is not None
    assert after(better, worst) is not None and after(better, worst, worst) is None
    assert after(worst, better) is not None and after(worst, worst, better) is None


def test_where_rounding_has_spoilt_the_equations_a_fit_is_due() -> None:
    points, values, fit = some(12, 4)
    spoilt = fit._replace(factor=np.full_like(fit.factor, np.nan))
    assert spoilt.updated(*and_one(points, values, fit.values[1]), 1) is None


def test_an_answer_that_alone_tells_of_a_coefficient_cannot_leave_without_a_fit() -> None:
    d = 12
    points, values, _ = some(d, 5)
    points[:, 0] = 0.0
    values = (points * points).sum(axis=1) + 0.01
    points[0], values[0] = np.eye(d)[0], 0.0  # the best, and the only one off a plane
    fit = fitted(points, values, np.zeros(d), np.eye(d))
    gone = fit.updated(*and_one(points[1:], values[1:], values.max()), 1)
    assert gone is None


def test_the_search_updates_its_model_and_fits_it_anew_in_between() -> None:
    search = bz.Search(np.zeros(11), bz.EvolutionStrategy(0.5, model=True), seed=1)
    ages = []
    while search.nfev < 400:
        proposal = search.ask()
        search.tell(proposal, bz.Values(rugged(proposal.points - 0.3)))
        ages.append(search.state.surrogate.fit.age)
    assert ages[-100:].count(0) > 10 and len(set(ages[-100:])) > 3


def test_a_search_that_is_resumed_between_two_fits_goes_on_to_the_bit() -> None:
    """However the arrays were laid out in what it was resumed from."""

    def search() -> bz.Search:
        return bz.Search(np.full(11, 0.4), bz.EvolutionStrategy(0.5, model=True), seed=1)

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
