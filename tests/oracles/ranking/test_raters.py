"""Simulated raters and pairwise oracles: they err as often as they should, and the same way when asked again."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import blackbox_zo as bz
from blackbox_zo.testing import check_oracle
from oracles import FunctionOracle
from oracles.ranking import (
    AllPairs,
    BradleyTerry,
    Exact,
    FixedFlip,
    GapDependent,
    Noise,
    Pairs,
    PairwiseOracle,
    PlackettLuce,
    RandomPairs,
    SimulatedRater,
    Swiss,
    Thurstone,
)
from tests.blackbox_zo.helpers import laws
from tests.oracles.helpers import proposal_of

NAN = float("nan")
MODELS: list[Noise] = [
    Exact(),
    FixedFlip(0.2),
    GapDependent(4.0),
    BradleyTerry(0.5),
    PlackettLuce(0.5),
    Thurstone(0.5),
]
PAIRS: list[Pairs] = [AllPairs(), RandomPairs(5), Swiss(2)]


def first(x: Any) -> float:
    return float(x[0])


def line(*values: float, step: int = 0, first_id: int = 0) -> bz.Proposal:
    """A proposal about numbers, whose value `first` gives."""
    return proposal_of([[v] for v in values], step, first_id)


def sphere_or_nan(x: Any) -> float:
    return NAN if x[0] == 7.0 else float(x @ x)


def edges(ranking: bz.Ranking) -> list[tuple[int, int]]:
    """(better, worse) of each part of two."""
    return [(int(np.argmax(level == 0)), int(np.argmax(level == 1))) for level in ranking.levels if (level >= 0).any()]


# ---------------------------------------------------------------------------------------------------------- the models


def test_chances_are_those_of_the_formulas() -> None:
    gaps = (0.01, 0.3, 2.0)
    assert [FixedFlip(0.2).chance(g) for g in gaps] == [0.8] * 3
    assert [GapDependent(1.0, 1.5, 0.5).chance(g) for g in gaps] == [0.5 + min(0.5, math.sqrt(g)) for g in gaps]
    assert [GapDependent(1.0, 1.0, 0.3).chance(g) for g in gaps] == [0.8] * 3
    np.testing.assert_allclose(
        [BradleyTerry(0.5).chance(g) for g in gaps], [np.exp(2 * g) / (1 + np.exp(2 * g)) for g in gaps]
    )
    from scipy.stats import norm

    np.testing.assert_allclose([Thurstone(0.5).chance(g) for g in gaps], norm.cdf(np.array(gaps) / 0.5))
    assert BradleyTerry(1e-300).chance(1e300) == 1.0


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_pairs_are_right_as_often_as_the_model_says(model: Noise) -> None:
    """A thousand answers about two that differ by 0.4, whichever of them comes first."""
    chance = BradleyTerry(0.5).chance(0.4) if isinstance(model, PlackettLuce) else model.chance(0.4)
    for values in ((1.0, 1.4), (1.4, 1.0)):
        rater = SimulatedRater(first, model, seed=3)
        right = sum(rater.answer(line(*values, step=t)).groups()[0] == [np.argmin(values)] for t in range(1000))
        assert abs(right - 1000 * chance) <= 4 * math.sqrt(1000 * chance * (1 - chance))
        assert rater.comparisons == 1000


def test_orders_of_three_are_as_likely_as_plackett_and_luce_say() -> None:
    values, temperature = np.array([0.0, 0.3, 1.0]), 0.6
    rater = SimulatedRater(first, PlackettLuce(temperature))
    orders = [tuple(i for (i,) in rater.answer(line(*values, step=t)).groups()) for t in range(3000)]
    strength = np.exp(-values / temperature)
    for order in ((0, 1), (1, 0), (2, 0), (0, 2)):  # the last place is not among the groups
        i, j = order
        p = strength[i] / strength.sum() * strength[j] / (strength.sum() - strength[i])
        assert abs(orders.count(order) - 3000 * p) < 4 * math.sqrt(3000 * p * (1 - p))


def test_looks_of_plackett_and_luce_never_contradict_each_other() -> None:
    oracle = PairwiseOracle(SimulatedRater(first, PlackettLuce(3.0)))
    for step in range(20):
        net = oracle.answer(line(0.0, 0.5, 1.0, 1.5, 2.0, step=step)).net_losses()
        assert sorted(net.tolist()) == [-4, -2, 0, 2, 4]


# ---------------------------------------------------------------------------------------------------- simulated raters


@laws
@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, NAN]), min_size=1, max_size=8), st.integers(1, 8))
def test_an_exact_rater_gives_the_ranking_of_the_values(values: list[float], k: int) -> None:
    k = min(k, len(values))
    found = SimulatedRater(first, n_ranked=k).answer(line(*values))
    good = int(np.isfinite(values).sum())
    expected = bz.Values(values).ranking(k)
    if good >= k or good == len(values):
        assert found.net_losses().tolist() == expected.net_losses().tolist()


def test_ties_are_seen_below_their_width() -> None:
    rater = SimulatedRater(first, tie=0.5)
    assert rater.answer(line(0.0, 0.4, 1.0, 5.0)).groups() == [[0, 1], [2]]
    assert PairwiseOracle(rater).answer(line(0.0, 0.4)).n_edges == 0


def test_comparisons_are_counted() -> None:
    rater = SimulatedRater(first)
    rater.answer(line(3.0, 1.0, 2.0))  # 1 to place the second; the third among two takes 1 or 2
    assert rater.comparisons == 3
    best = SimulatedRater(first, n_ranked=1)
    best.answer(line(*range(10)))
    assert best.comparisons == 9
    assert best.calls == 10


def test_lapses_are_random_orders() -> None:
    rater = SimulatedRater(first, lapse=0.3, n_ranked=1)
    right = sum(rater.answer(line(0.0, 1.0, 2.0, step=t)).groups() == [[0]] for t in range(1000))
    p = 0.7 + 0.3 / 3
    assert abs(right - 1000 * p) < 4 * math.sqrt(1000 * p * (1 - p))
    pairs = PairwiseOracle(SimulatedRater(first, lapse=0.4))
    right = sum(edges(pairs.answer(line(1.0, 0.0, step=t))) == [(1, 0)] for t in range(1000))
    assert abs(right - 800) < 4 * math.sqrt(1000 * 0.8 * 0.2)


def test_drift_is_a_linear_term_that_walks() -> None:
    rater, points = SimulatedRater(lambda x: 0.0, drift=0.5), np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    seen = np.array([rater.values(proposal_of(points, t)) for t in range(400)])
    np.testing.assert_allclose(seen[:, 2], seen[:, 0] + seen[:, 1])  # linear
    slopes = seen[:, :2]
    assert np.linalg.matrix_rank(slopes) == 1  # along one direction
    moves = np.diff(np.hypot(*slopes.T) * np.sign(slopes[:, 0]))
    assert 0.4 < moves.std() < 0.6


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_raters_are_oracles(model: Noise) -> None:
    check_oracle(SimulatedRater(sphere_or_nan, model, lapse=0.1), [1.0, 2.0], failing=[7.0, 0.0])
    check_oracle(SimulatedRater(sphere_or_nan, model, tie=0.1, drift=0.1), [1.0, 2.0])


@pytest.mark.parametrize("pairs", PAIRS, ids=repr)
@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_pairwise_oracles_are_oracles(pairs: Pairs, model: Noise) -> None:
    oracle = PairwiseOracle(SimulatedRater(sphere_or_nan, model, lapse=0.1), pairs, repeats=2)
    failing = [7.0, 0.0] if isinstance(pairs, AllPairs) and model == Exact() else None
    check_oracle(oracle, [1.0, 2.0], n=5)
    check_oracle(PairwiseOracle(SimulatedRater(sphere_or_nan, model)), [1.0, 2.0], failing=[7.0, 0.0])
    if failing:
        check_oracle(PairwiseOracle(FunctionOracle(sphere_or_nan), pairs), [1.0, 2.0], failing=failing)


# ---------------------------------------------------------------------------------------------------------------- pairs


def test_all_pairs_of_exact_values_are_the_full_ranking() -> None:
    found = PairwiseOracle(FunctionOracle(first)).answer(line(0.3, 0.1, 0.2, 0.9))
    assert found.net_losses().tolist() == [1, -3, -1, 3] and len(found.levels) == 6


def test_flips_of_pairs_and_of_repeats_are_independent() -> None:
    oracle = PairwiseOracle(SimulatedRater(first, FixedFlip(0.2)), repeats=3)
    wrong = np.array([[i > j for i, j in edges(oracle.answer(line(*range(10), step=t)))] for t in range(60)])
    assert wrong.shape == (60, 135) and oracle.comparisons == 60 * 135
    n = wrong.size
    assert abs(wrong.mean() - 0.2) < 4 * math.sqrt(0.16 / n)
    again = wrong.reshape(-1, 3)
    assert abs((again[:, 0] & again[:, 1]).mean() - 0.04) < 4 * math.sqrt(0.04 * 0.96 / len(again))
    assert abs((wrong[:, 0] & wrong[:, 5]).mean() - 0.04) < 4 * math.sqrt(0.04 * 0.96 / 60)


@laws
@given(st.integers(2, 12), st.integers(1, 70), st.integers(0, 9))
def test_random_pairs_are_balanced_and_connected(n: int, n_pairs: int, seed: int) -> None:
    pairs = RandomPairs(n_pairs).next(n, 0, [], np.zeros(n, dtype=np.intp), bz.Key(seed, 0))
    assert len(set(pairs)) == len(pairs) == min(n_pairs, n * (n - 1) // 2)
    assert all(0 <= i < j < n for i, j in pairs)
    met = np.bincount(np.array(pairs).reshape(-1), minlength=n)
    assert met.max() - met.min() <= 2
    reached = {0}
    for _ in range(n):
        reached |= {k for pair in pairs if reached & set(pair) for k in pair}
    assert len(reached) == n or n_pairs < n - 1


@laws
@given(st.integers(2, 12), st.integers(1, 4), st.integers(0, 9))
def test_swiss_rounds_pair_equals_who_have_not_met(n: int, rounds: int, seed: int) -> None:
    oracle = PairwiseOracle(FunctionOracle(first), Swiss(rounds), seed=seed)
    met = edges(oracle.answer(line(*np.random.default_rng(seed).permutation(n))))
    assert len({frozenset(pair) for pair in met}) == len(met) <= rounds * (n // 2)
    assert len(met) >= n // 2


def test_swiss_finds_the_best_with_few_pairs() -> None:
    rng = np.random.default_rng(0)
    found = 0
    for step in range(100):
        values = rng.permutation(16)
        net = PairwiseOracle(FunctionOracle(first), Swiss(4)).answer(line(*values, step=step)).net_losses()
        found += int(values[np.argmin(net)] == 0)
    assert found == 100  # 32 of 120 pairs: only the best has won all four


def test_a_function_of_two_points_compares() -> None:
    seen = []

    def is_better(a: Any, b: Any) -> bool | None:
        seen.append((a[0], b[0]))
        return None if {a[0], b[0]} == {1.0, 2.0} else bool(a[0] < b[0])

    oracle = PairwiseOracle(is_better, repeats=40)
    found = oracle.answer(line(2.0, 1.0, 3.0))
    assert set(edges(found)) == {(0, 2), (1, 2)} and len(found.levels) == 80 and oracle.comparisons == 120
    shown = [seen.count((2.0, 3.0)), seen.count((3.0, 2.0))]
    assert sum(shown) == 40 and min(shown) > 5  # either comes first now and then


def test_other_seeds_err_elsewhere() -> None:
    one, other = (SimulatedRater(first, BradleyTerry(5.0), seed=s).answer(line(*range(9))).groups() for s in (1, 2))
    assert one != other


def test_a_budget_of_pairs_finds_the_minimum() -> None:
    oracle = PairwiseOracle(SimulatedRater(lambda x: float(x @ x), FixedFlip(0.2)))
    search = bz.Search(np.ones(4), bz.EvolutionStrategy(0.3, 10), seed=1)
    for _ in search.run(oracle, steps=60):
        pass
    assert float(search.x @ search.x) < 1e-3


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FixedFlip(0.6), "`FixedFlip(p=...)` must be from 0 to 0.5, got 0.6."),
        (lambda: BradleyTerry(0.0), "`BradleyTerry(temperature=...)` must be a positive number, got 0.0."),
        (lambda: PlackettLuce(-1), "`PlackettLuce(temperature=...)` must be a positive number, got -1."),
        (lambda: Thurstone(0), "`Thurstone(scale=...)` must be a positive number, got 0."),
        (lambda: GapDependent(kappa=0.5), "`GapDependent(kappa=...)` must be at least 1, got 0.5."),
        (lambda: GapDependent(delta=0.7), "`GapDependent(delta=...)` must be at most 0.5, got 0.7."),
        (lambda: SimulatedRater(first, n_ranked=0), "(n_ranked=...)` must be a whole number of at least 1, got 0."),
        (lambda: SimulatedRater(first, tie=-1.0), "`SimulatedRater(tie=...)` must not be negative, got -1.0."),
        (lambda: SimulatedRater(first, lapse=1.0), "(lapse=...)` must be at least 0 and below 1, got 1.0."),
        (
            lambda: PairwiseOracle(FunctionOracle(first), repeats=0),
            "(repeats=...)` must be a whole number of at least 1, got 0.",
        ),
        (lambda: RandomPairs(0), "`RandomPairs(n_pairs=...)` must be a whole number of at least 1, got 0."),
        (lambda: Swiss(0), "`Swiss(rounds=...)` must be a whole number of at least 1, got 0."),
    ],
)
def test_bad_arguments(make: Any, words: str) -> None:
    with pytest.raises(ValueError) as error:
        make()
    assert words in str(error.value)


def test_what_does_not_compare_is_refused() -> None:
    with pytest.raises(TypeError, match="needs an oracle that answers values, or a function, got 3"):
        SimulatedRater(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="needs a function of two points or an oracle, got 3"):
        PairwiseOracle(3)  # type: ignore[arg-type]
    with pytest.raises(bz.FeedbackError, match=r"needs the value of each query.*answered `Ranking`"):
        SimulatedRater(SimulatedRater(first)).answer(line(1.0, 2.0))


def test_neither_a_server_nor_scipy_is_imported() -> None:
    code = "import sys, oracles.ranking; print([m for m in ('starlette', 'jinja2', 'torch') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_all_pairs_is_every_two() -> None:
    none = np.zeros(4, dtype=np.intp)
    assert AllPairs().next(4, 0, [], none, bz.Key(0, 0)) == list(combinations(range(4), 2))
