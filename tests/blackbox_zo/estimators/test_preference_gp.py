"""`PreferenceGP`: its likelihood, its posterior, its draws, and what a search makes of them."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from scipy.integrate import dblquad
from scipy.optimize import approx_fprime, check_grad

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.estimators._gaussian_process import distances, matern
from blackbox_zo.estimators._preference_gp import PreferenceState
from blackbox_zo.estimators._preference_model import Choices, fit, laplace, likelihood, no_choices
from blackbox_zo.estimators._preference_paths import draw


def said(*rankings: bz.Ranking) -> Choices:
    """What rankings of the same points say."""
    choices = Choices(*no_choices())
    for ranking in rankings:
        choices = choices.plus(ranking, np.arange(ranking.n))
    return choices


def some(seed: int = 0, n: int = 5, d: int = 2) -> tuple[Floats, Choices, Floats]:
    """Points, answers about them that contradict each other, and their unit kernel."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, d))
    orders = [rng.permutation(n).tolist() for _ in range(3)]
    choices = said(
        bz.Ranking(orders[0], n), bz.Ranking(orders[1][:2], n), bz.Ranking.pairs([0, 1], [1, 0], n, [2, 0.5])
    )
    return points, choices, matern(distances(points, points), 1.3)


# ----------------------------------------------------------------------------------------------------- likelihood


def test_orders_have_the_chances_of_plackett_and_luce() -> None:
    f = np.array([0.3, -1.0, 0.8, 0.1])
    chances = {p: np.exp(likelihood(f, said(bz.Ranking(p, 4)))[0]) for p in permutations(range(4))}
    assert sum(chances.values()) == pytest.approx(1.0)
    e = np.exp(f)
    assert chances[2, 0, 1, 3] == pytest.approx(e[2] / e.sum() * e[0] / (e.sum() - e[2]) * e[1] / (e[1] + e[3]))
    top = said(bz.Ranking([2], 4))
    assert np.exp(likelihood(f, top)[0]) == pytest.approx(sum(c for p, c in chances.items() if p[0] == 2))


def test_a_pair_has_the_chance_of_bradley_and_terry_to_the_power_of_its_weight() -> None:
    f = np.array([0.4, -0.7, 5.0])
    log_p = likelihood(f, said(bz.Ranking.pairs([1], [0], 3, [2.5])))[0]
    assert log_p == pytest.approx(-2.5 * np.log1p(np.exp(1.1)))


def test_the_slope_and_curvature_of_the_likelihood() -> None:
    _, choices, _ = some()
    f = np.random.default_rng(1).standard_normal(5)
    _, slope, p = likelihood(f, choices)
    assert check_grad(lambda f: likelihood(f, choices)[0], lambda f: likelihood(f, choices)[1], f) < 1e-6
    curvature = np.diag(choices.weight @ p) - p.T * choices.weight @ p
    assert curvature == pytest.approx(-approx_fprime(f, lambda f: likelihood(f, choices)[1], 1e-7), abs=1e-5)
    assert slope.sum() == pytest.approx(0.0, abs=1e-12)  # nothing changes if all utilities rise


def test_far_utilities_do_not_overflow() -> None:
    log_p, slope, p = likelihood(np.array([-800.0, 800.0]), said(bz.Ranking([0], 2)))
    assert log_p == pytest.approx(-1600.0) and slope == pytest.approx([1.0, -1.0]) and np.isfinite(p).all()


def test_points_that_are_dropped_take_only_their_own_comparisons_along() -> None:
    choices = said(bz.Ranking([2, 0, 1], 3), bz.Ranking.pairs([0], [1], 3))
    kept = choices.among(np.array([0, 2]))
    assert [a.tolist() for a in kept] == [[1], [1.0], [0], [0]]  # 2 over 0, with their new numbers
    assert [len(a) for a in choices.among(np.array([1]))] == [0, 0, 0, 0]


def test_a_point_shown_twice_is_not_compared_with_itself() -> None:
    choices = Choices(*no_choices()).plus(bz.Ranking([0, 1], 2), np.array([4, 4]))
    assert [len(a) for a in choices] == [0, 0, 0, 0]


# ------------------------------------------------------------------------------------------------------ posterior


@pytest.mark.parametrize("guess", [0.0, 5.0])
def test_the_mode_is_where_the_slope_of_the_posterior_is_zero(guess: float) -> None:
    _, choices, kernel = some()
    post = laplace(kernel, 2.0, choices, np.full(5, guess))
    f = post.utility
    assert likelihood(f, choices)[1] == pytest.approx(np.linalg.solve(4.0 * kernel, f), abs=1e-5)
    assert f == pytest.approx(4.0 * kernel @ post.slope, abs=1e-4)  # eq. (3.17)


def test_the_evidence_is_near_the_integral() -> None:
    kernel = np.array([[1.0, 0.6], [0.6, 1.0]])
    choices = said(bz.Ranking.pairs([0, 0, 0, 1], [1, 1, 1, 0], 2))
    precision = np.linalg.inv(kernel)

    def joint(a: float, b: float) -> float:
        f = np.array([a, b])
        prior = np.exp(-0.5 * f @ precision @ f) / (2 * np.pi * np.sqrt(np.linalg.det(kernel)))
        return float(prior * np.exp(likelihood(f, choices)[0]))

    assert laplace(kernel, 1.0, choices, np.zeros(2)).evidence == pytest.approx(
        np.log(dblquad(joint, -8, 8, -8, 8)[0]), abs=0.02
    )


def test_points_that_coincide_do_no_harm() -> None:
    points, choices, _ = some()
    twice = np.concatenate((points, points + 1e-12))
    post = laplace(matern(distances(twice, twice), 1.3), 2.0, choices, np.zeros(10))
    alone = laplace(matern(distances(points, points), 1.3), 2.0, choices, np.zeros(5))
    assert post.utility[:5] == pytest.approx(alone.utility, abs=1e-5)
    assert post.utility[5:] == pytest.approx(alone.utility, abs=1e-5)
    assert len(post.free) == 5


def test_answers_that_agree_more_raise_the_signal() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (8, 1))
    order = np.argsort(points[:, 0]).tolist()
    apart, slope = distances(points, points), np.zeros(8)
    agreed = fit(apart, said(*[bz.Ranking(order, 8)] * 6), slope, (1.0, 3.0), 1.0)
    random = fit(apart, said(*[bz.Ranking(rng.permutation(8), 8) for _ in range(6)]), slope, (1.0, 3.0), 1.0)
    assert random[1] < 1.5 < 3.0 < agreed[1]


# ---------------------------------------------------------------------------------------------------------- draws


def test_draws_have_the_mean_and_the_covariance_of_the_posterior() -> None:
    points, choices, kernel = some()
    post = laplace(kernel, 2.0, choices, np.zeros(5))
    new = np.array([[0.2, -0.3], [1.0, 1.0]])
    cross = matern(distances(new, points), 1.3)
    covariance = post.factor @ np.linalg.inv(post.root @ post.root.T) @ post.factor.T
    gain = cross @ np.linalg.inv(kernel)
    want = 4.0 * (matern(distances(new, new), 1.3) - gain @ cross.T) + gain @ covariance @ gain.T
    draws = draw(post, points, 1.3, 2.0, 1.0, 20_000, np.random.default_rng(0))
    values = draws.values(np.concatenate((points, new)))
    assert values[:5].mean(axis=1) == pytest.approx(post.utility, abs=0.05)
    assert np.cov(values[:5]) == pytest.approx(covariance, abs=0.06)
    assert values[5:].mean(axis=1) == pytest.approx(4.0 * cross @ post.slope, abs=0.06)
    assert np.cov(values[5:]) == pytest.approx(want, abs=0.25)  # the prior is drawn with 512 cosines


def test_draws_without_boldness_are_the_mean() -> None:
    points, choices, kernel = some()
    post = laplace(kernel, 2.0, choices, np.zeros(5))
    new = np.random.default_rng(3).standard_normal((4, 2))
    values = draw(post, points, 1.3, 2.0, 0.0, 2, np.random.default_rng(0)).values(new)
    assert values == pytest.approx(
        (4.0 * matern(distances(new, points), 1.3) @ post.slope)[:, None].repeat(2, 1), abs=1e-4
    )


def test_the_slope_of_a_draw_and_its_top() -> None:
    points, choices, kernel = some()
    post = laplace(kernel, 2.0, choices, np.zeros(5))
    draws = draw(post, points, 1.3, 2.0, 1.0, 3, np.random.default_rng(0))
    u = np.array([0.3, -0.2])
    assert draws.value_and_slope(u, 1)[0] == pytest.approx(draws.values(u[None])[0, 1])
    assert check_grad(lambda u: draws.value_and_slope(u, 1)[0], lambda u: draws.value_and_slope(u, 1)[1], u) < 1e-5
    low, high = np.array([-1.0, -1.0]), np.array([1.0, 0.5])
    top = draws.climb(1, u, low, high)
    assert (top >= low).all() and (top <= high).all()
    assert draws.values(top[None])[0, 1] >= draws.values(u[None])[0, 1]


# --------------------------------------------------------------------------------------------------------- search


def bowl(x: Any) -> float:
    return float(((x - np.array([0.6, -0.3, 0.2, 0.5])) ** 2).sum())


def searched(estimator: bz.PreferenceGP, rounds: int, seed: int = 0, f: Any = bowl, **vector: Any) -> bz.Search:
    search = bz.Search(bz.Vector(np.zeros(4), **vector), estimator, seed=seed)
    for _ in range(rounds):
        proposal = search.ask()
        search.tell(proposal, bz.Values([f(p) for p in proposal.points]).ranking())
    return search


def test_a_round_shows_x_and_others_around_it() -> None:
    search = searched(bz.PreferenceGP(0.5, 8), 3)
    proposal = search.ask()
    assert np.array_equal(proposal.points[0], search.x) and proposal.n == 8
    reach = 0.5 * search.state.reach
    assert (np.abs(proposal.points - search.x) <= reach + 1e-12).all()
    gaps = distances(proposal.points, proposal.points, "chebyshev")[np.triu_indices(8, 1)]
    assert gaps.min() >= 0.02 * reach - 1e-12


def test_x_goes_to_the_best_that_was_shown() -> None:
    search = bz.Search(np.zeros(3), bz.PreferenceGP(0.5, 5), seed=1)
    proposal = search.ask()
    search.tell(proposal, bz.Ranking([3, 1, 0, 2, 4], 5))
    assert search.x == pytest.approx(proposal.points[3])


def test_one_wrong_answer_does_not_outweigh_many() -> None:
    search = bz.Search(np.zeros(1), bz.PreferenceGP(0.5, 2), seed=1)
    first = search.ask()
    search.tell(first, bz.Ranking.pairs([0] * 8 + [1], [1] * 8 + [0], 2))
    assert search.x == pytest.approx(first.points[0])


@pytest.mark.parametrize(
    ("m", "k", "rounds", "close"), [(8, None, 12, 1e-3), (8, 3, 12, 5e-3), (8, 1, 15, 2e-2), (2, None, 40, 2e-2)]
)
def test_it_finds_what_is_liked_in_few_rounds(m: int, k: int | None, rounds: int, close: float) -> None:
    """From a distance of 0.74; the median of three runs."""
    found = [bowl(searched(bz.PreferenceGP(0.5, m, n_ranked=k), rounds, seed).x) for seed in range(3)]
    assert np.median(found) < close


def test_fewer_rounds_than_an_evolution_strategy() -> None:
    def after(estimator: bz.Estimator, seed: int) -> float:
        search = bz.Search(np.zeros(4), estimator, seed=seed)
        for _ in range(10):
            proposal = search.ask()
            search.tell(proposal, bz.Values([bowl(p) for p in proposal.points]).ranking())
        return bowl(search.x)

    gp, es = (np.median([after(e, s) for s in range(5)]) for e in (bz.PreferenceGP(0.5), bz.EvolutionStrategy(0.5, 8)))
    assert gp < 0.1 * es


def test_only_the_order_of_values_matters() -> None:
    a, b = (searched(bz.PreferenceGP(0.5, 4), 5, f=f) for f in (bowl, lambda x: np.exp(9 * bowl(x))))
    assert np.array_equal(a.x, b.x)


def test_bounds_hold() -> None:
    low, high = np.array([-0.2, -1.0, 0.0, -9.0]), np.array([0.2, 1.0, 0.1, 9.0])
    search = searched(bz.PreferenceGP(5.0, 6), 20, bounds=np.stack((low, high), axis=1))
    points = search.ask().points
    assert (points >= low).all() and (points <= high).all()
    assert bowl(search.x) < 0.45  # from 0.74; 0.18 is the least within these bounds


@pytest.mark.parametrize("m", [2, 5])
def test_the_first_challenger_is_the_middle_of_the_bounds(m: int) -> None:
    vector = bz.Vector(np.array([1.0, 0.3, 5.0]), bounds=np.array([[0.0, 8.0], [-np.inf, 1.0], [-1.0, 6.0]]))
    search = bz.Search(vector, bz.PreferenceGP(0.5, m), seed=0)
    first = search.ask()
    assert first.points[:2] == pytest.approx(np.array([[1.0, 0.3, 5.0], [4.0, 0.3, 2.5]]))
    search.tell(first, bz.Ranking([1], m))
    second = search.ask()
    assert second.points[0] == pytest.approx([4.0, 0.3, 2.5])
    assert not any(point == pytest.approx(first.points[1]) for point in second.points[1:])


def test_a_start_in_the_middle_or_without_bounds_has_a_latin_hypercube_alone() -> None:
    middle = bz.Search(bz.Vector(np.full(3, 0.5), bounds=(0.0, 1.0)), bz.PreferenceGP(0.25, 5), seed=0).ask()
    free = bz.Search(np.full(3, 0.5), bz.PreferenceGP(0.25, 5), seed=0).ask()
    assert middle.points == pytest.approx(free.points)
    strata = np.sort(np.floor((free.points[1:] - 0.25) / 0.125), axis=0)
    assert np.array_equal(strata, np.tile(np.arange(4.0)[:, None], (1, 3)))


def test_more_candidates_than_places() -> None:
    search = bz.Search(np.zeros(1), bz.PreferenceGP(0.5, 80), seed=0)
    for _ in range(2):
        proposal = search.ask()
        search.tell(proposal, bz.Values((proposal.points[:, 0] - 0.3) ** 2))
    assert abs(search.x[0] - 0.3) < 0.02


def test_nothing_said_changes_nothing() -> None:
    search = bz.Search(np.zeros(2), bz.PreferenceGP(0.5, 3), seed=0)
    search.tell(search.ask(), bz.Ranking([(0, 1, 2)], 3))
    assert np.array_equal(search.x, np.zeros(2)) and not len(search.state.points)


def test_failures_lose() -> None:
    search = bz.Search(np.zeros(2), bz.PreferenceGP(0.5, 4), seed=0)
    proposal = search.ask()
    search.tell(proposal, bz.Values([np.nan, 3.0, np.nan, 4.0]))
    assert any(search.x == pytest.approx(proposal.points[i]) for i in (1, 3))


def test_the_history_is_bounded() -> None:
    search = searched(bz.PreferenceGP(0.5, 4, history=10), 8)
    state = search.state
    assert isinstance(state, PreferenceState)
    assert len(state.points) == len(state.slope) == 10
    assert max(state.winner.max(), state.loser.max()) < 10 and (np.diff(state.choice) >= 0).all()


def test_what_was_said_of_x_is_kept_however_old_x_is() -> None:
    search = bz.Search(np.zeros(2), bz.PreferenceGP(0.5, 4, history=10), seed=0)
    for _ in range(5):
        proposal = search.ask()
        search.tell(proposal, bz.Ranking([0], 4))  # x, which never moves
    state = search.state
    assert isinstance(state, PreferenceState)
    (x,) = np.flatnonzero((state.points == 0.0).all(axis=1))
    assert len(state.points) == 10 and np.bincount(state.winner)[x] == 3  # of the three rounds whose points are left


def test_the_box_grows_twofold_at_most_and_shrinks_as_much_in_seven_duels_as_in_a_round_of_eight() -> None:
    eight, two = bz.PreferenceGP(1.0, 8), bz.PreferenceGP(1.0, 2)
    assert eight._reach(0.1, 0.0, 1e-9, 3.0, 4) == pytest.approx(0.05)
    assert two._reach(0.1, 0.0, 1e-9, 3.0, 4) == pytest.approx(0.1 * 0.5 ** (1 / 7))
    assert eight._reach(0.1, 5.0, 1e-9, 3.0, 4) == pytest.approx(0.2)
    assert eight._reach(1.5, 1.5, 1e-9, 3.0, 4) == 2.0
    assert eight._reach(0.1, 0.0, 9.0, 3.0, 4) == 0.1  # nearer, all would look the same


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"radius": 0.0}, "`PreferenceGP(radius=...)` must be a positive number, got 0.0."),
        ({"n_queries": 1}, "`PreferenceGP(n_queries=...)` must be a whole number of at least 2, got 1."),
        ({"n_ranked": 9}, "`PreferenceGP(n_ranked=...)` must be at most n_queries=8, got 9."),
        ({"n_ranked": 0}, "`PreferenceGP(n_ranked=...)` must be a whole number of at least 1, got 0."),
        ({"history": 7}, "`PreferenceGP(history=...)` must be a whole number of at least 8, got 7."),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        bz.PreferenceGP(**{"radius": 0.1, **arguments})
    assert str(error.value) == message
