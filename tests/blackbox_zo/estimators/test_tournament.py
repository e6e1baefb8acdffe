"""Weights from pairs that contradict each other, against an exact posterior."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.estimators import _tournament
from blackbox_zo.estimators._cma_constants import all_ranks, constants, order_statistics, recombination
from blackbox_zo.estimators._tournament import contradictory_wins, expected_normals, posterior
from oracles import FunctionOracle
from oracles.ranking import BradleyTerry, FixedFlip, PairwiseOracle, RandomPairs, SimulatedRater

from ..helpers import laws, sphere

CIRCLE = [(0, 1), (1, 2), (2, 0)]


def compared(pairs: list[tuple[int, int]], n: int, weights: Any = None) -> bz.Ranking:
    return bz.Ranking.pairs([i for i, _ in pairs], [j for _, j in pairs], n, weights)


def answers(z: Floats, rng: np.random.Generator, lapse: float, scale: float = 0.0) -> list[tuple[int, int]]:
    """All pairs, (better, worse): the larger z is better, but for lapses and logistic noise of a scale."""
    pairs = []
    for i, j in itertools.combinations(range(len(z)), 2):
        right = z[i] > z[j] if not scale else rng.random() < 1 / (1 + np.exp((z[j] - z[i]) / scale))
        pairs.append((i, j) if right != (rng.random() < lapse) else (j, i))
    return pairs


def exact(wins: Floats, lapse: float) -> Floats:
    """Posterior means by summing over every point of the grid to the power of n."""
    z, right = _tournament._grid()
    n = len(wins)
    log = np.zeros((len(z),) * n)
    for i, j in itertools.permutations(range(n), 2):
        says = np.log(lapse + (1 - 2 * lapse) * right)  # [own z, z of the other]
        shape = [1] * n
        shape[i] = shape[j] = len(z)
        log = log + wins[i, j] * (says if i < j else says.T).reshape(shape)
    p = np.exp(log - log.max())
    means = [float(np.moveaxis(p, i, 0).reshape(len(z), -1).sum(axis=1) @ z) for i in range(n)]
    return np.array(means) / float(p.sum())


def test_a_chain_is_exact() -> None:
    """Belief propagation is exact where comparisons form no loop, also with repeated and contradicting answers."""
    wins = np.zeros((4, 4))
    wins[0, 1], wins[1, 0], wins[1, 2], wins[2, 3], wins[3, 2] = 2.0, 1.0, 1.0, 0.5, 3.0
    for lapse in (0.05, 0.3):
        np.testing.assert_allclose(posterior(wins, lapse)[0], exact(wins, lapse), atol=1e-6)


def test_loops_are_all_but_exact() -> None:
    """Every outcome of all pairs of four that has a circle."""
    pairs, tried = list(itertools.combinations(range(4), 2)), 0
    for turned in itertools.product((False, True), repeat=6):
        wins = contradictory_wins(
            compared([(j, i) if t else (i, j) for (i, j), t in zip(pairs, turned, strict=True)], 4)
        )
        if wins is not None:
            tried += 1
            np.testing.assert_allclose(posterior(wins, 0.2)[0], exact(wins, 0.2), atol=0.02)
    assert tried == 64 - 24  # there are 4! orders


@pytest.mark.parametrize("lapse", [0.1, 0.2, 0.35])
def test_the_lapse_rate_is_found(lapse: float) -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(20):
        wins = contradictory_wins(compared(answers(rng.standard_normal(30), rng, lapse), 30))
        assert wins is not None
        found.append(posterior(wins)[1])
    assert np.mean(found) == pytest.approx(lapse, abs=0.03)


@laws
@given(n=st.integers(3, 7), seed=st.integers(0, 10**6))
def test_laws_of_the_expected_normals(n: int, seed: int) -> None:
    """They sum to 0, follow the candidates where these are numbered anew, and turn round with all answers."""
    rng = np.random.default_rng(seed)
    pairs = [*[(int(i), int(j)) for i, j in rng.integers(0, n, (2 * n, 2)) if i != j], *CIRCLE]
    weights = rng.uniform(0.5, 2.0, len(pairs))
    z = expected_normals(compared(pairs, n, weights))
    assert z is not None and abs(z.sum()) < 1e-12
    new = rng.permutation(n)
    renamed = expected_normals(compared([(int(new[i]), int(new[j])) for i, j in pairs], n, weights))
    assert renamed is not None
    np.testing.assert_allclose(renamed[new], z, atol=1e-9)
    turned = expected_normals(compared([(j, i) for i, j in pairs], n, weights))
    assert turned is not None
    np.testing.assert_allclose(turned, -z, atol=1e-9)


def test_one_strange_defeat_does_not_cost_the_best_its_place() -> None:
    """Net wins put it level with the second; the posterior does not."""
    pairs = [(i, j) for i, j in itertools.combinations(range(10), 2) if (i, j) != (0, 9)] + [(9, 0)]
    ranking = compared(pairs, 10)
    z = expected_normals(ranking)
    assert z is not None
    assert ranking.net_losses()[0] == ranking.net_losses()[1]
    assert z[0] > z[1] + 0.1


@pytest.mark.parametrize(
    "ranking",
    [
        bz.Ranking(range(4), 4),
        compared([(0, 1), (1, 2), (0, 2)], 3),
        compared([(0, 1)], 3),
        compared([(0, 1), (0, 1)], 3),
        compared([], 3),
        bz.Ranking.join([(np.arange(3), bz.Ranking([0, 1, 2], 3)), (np.arange(3), bz.Ranking([2, 1, 0], 3))], 3),
    ],
    ids=["an order", "pairs in order", "a pair", "a pair twice", "nothing", "two orders"],
)
def test_answers_without_contradicting_pairs_are_left_alone(ranking: bz.Ranking) -> None:
    assert expected_normals(ranking) is None


def test_one_pair_may_contradict_itself() -> None:
    z = expected_normals(compared([(0, 1), (1, 0), (0, 1)], 3))
    assert z is not None and z[0] > 0.05 > 1e-9 > abs(z[2]) and z[1] == pytest.approx(-z[0])


def quality(found: list[Floats], z: list[Floats]) -> float:
    """The share of what a noiseless order would bring a step: `E[w z]² / E[w w] / W²`."""
    w, true = np.concatenate(found), np.concatenate(z)
    return float((w @ true) ** 2 / (w @ w) / (true @ true))


@pytest.mark.parametrize(
    ("n", "lapse", "scale", "gain"),
    [(10, 0.2, 0.0, 0.02), (30, 0.2, 0.0, 0.05), (10, 0.1, 0.5, 0.02), (10, 0.0, 1.0, 0.0)],
)
def test_more_is_learnt_than_by_net_wins(n: int, lapse: float, scale: float, gain: float) -> None:
    rng, z, by_wins, by_posterior = np.random.default_rng(1), [], [], []
    for _ in range(4000 // n):
        true = rng.standard_normal(n)
        ranking = compared(answers(true, rng, lapse, scale), n)
        found = expected_normals(ranking)
        if found is not None:
            z.append(true)
            by_posterior.append(found)
            by_wins.append(recombination(order_statistics(n), ranking))
    assert quality(by_posterior, z) > quality(by_wins, z) + gain


def test_the_move_is_by_what_is_expected() -> None:
    """The weights of "all" are the expected normals, times the factor of their own W²."""
    variable, estimator = bz.Vector(np.ones(50)), bz.EvolutionStrategy(0.3, 6, "isotropic", weights="all")
    state = estimator.start(variable)
    queries = estimator.sample(state, variable, bz.Key(0, 0))
    ranking = compared([*itertools.combinations(range(5), 2), (3, 0), (4, 5)], 6)
    _, step = estimator.estimate(state, variable, queries, ranking)
    z = expected_normals(ranking)
    assert z is not None
    factor = 3 * 50**0.5 / (50 + z @ z)
    np.testing.assert_allclose(-step.dense(), 0.3 * factor * z @ queries.directions.rows, rtol=1e-12)
    found = all_ranks(50, ranking, constants(50, 6, "isotropic"), z)
    assert found is not None
    assert found[1].mu_eff == pytest.approx(1 / (factor**2 * (z @ z)))


def test_the_better_half_is_that_of_the_expected_order() -> None:
    """By wins the first two tie; they do not by what is expected."""
    variable, estimator = bz.Vector(np.ones(50)), bz.EvolutionStrategy(0.3, 6, "isotropic")
    state = estimator.start(variable)
    queries = estimator.sample(state, variable, bz.Key(0, 0))
    ranking = compared([(i, j) for i, j in itertools.combinations(range(6), 2) if (i, j) != (0, 5)] + [(5, 0)], 6)
    _, step = estimator.estimate(state, variable, queries, ranking)
    w = np.maximum(constants(50, 6, "isotropic").weights, 0.0)
    np.testing.assert_allclose(-step.dense(), 0.3 * w @ queries.directions.rows, rtol=1e-12)


@pytest.mark.parametrize("weights", ["best", "all"])
@pytest.mark.parametrize("covariance", ["full", "diagonal", "isotropic"])
def test_a_circle_says_nothing(weights: Any, covariance: Any) -> None:
    search = bz.Search(np.ones(4), bz.EvolutionStrategy(0.3, 3, covariance, weights=weights))
    search.tell(search.ask(), compared(CIRCLE, 3))
    assert search.x.tolist() == [1.0] * 4 and search.state.radius == 0.3


def test_bounds_change_nothing_as_long_as_nothing_is_outside() -> None:
    ranking = compared([*itertools.combinations(range(5), 2), (3, 0), (4, 5)], 6)
    ends = []
    for bounds in (None, (-100.0, 100.0), (-100.0, 1.0)):
        search = bz.Search(bz.Vector(np.full(5, 0.9), bounds), bz.EvolutionStrategy(0.3, 6, weights="all"), seed=1)
        search.tell(search.ask(), ranking)
        ends.append(search.x.tolist())
    assert ends[0] == ends[1] != ends[2]


def fall(rater: Any, n: int, d: int, queries: int, seed: int, pairs: Any = None) -> float:
    oracle = PairwiseOracle(SimulatedRater(FunctionOracle(sphere, vectorized=True), rater, seed=seed), pairs)
    estimator = bz.EvolutionStrategy(1 / 3, n, "isotropic", weights="all")
    search = bz.Search(np.random.default_rng(seed).standard_normal(d), estimator, seed=seed, budget=queries)
    for _ in search.run(oracle):
        pass
    return float(sphere(search.x))


def test_flips_cost_little_where_rounds_are_large() -> None:
    """A fifth of all comparisons wrong: the same loss with a tenth more queries. By net wins it takes a sixth more."""
    flipped = [fall(FixedFlip(0.2), 30, 100, 3300, seed) for seed in range(4)]
    true = [fall(FixedFlip(0.0), 30, 100, 3000, seed) for seed in range(4)]
    assert np.mean(np.log(flipped)) < np.mean(np.log(true)) + 0.6


def test_it_moves_on_by_few_and_wrong_comparisons() -> None:
    for rater, pairs in ((FixedFlip(0.3), None), (FixedFlip(0.2), RandomPairs(16)), (BradleyTerry(1.0), None)):
        assert fall(rater, 10, 20, 1500, 0, pairs) < 1.0
