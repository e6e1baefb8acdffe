"""Utilities against known cases and by recovery; raters who can be relied on against those who cannot."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize
from scipy.stats import kendalltau, norm

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from oracles.ranking import (
    BradleyTerry,
    FixedFlip,
    PairwiseOracle,
    PlackettLuce,
    RaterModel,
    SimulatedRater,
    Thurstone,
    utilities,
)
from tests.blackbox_zo.helpers import few, laws
from tests.oracles.helpers import proposal_of

Answers = dict[str, bz.Ranking]
MODELS = [BradleyTerry(0.7), Thurstone(0.7), PlackettLuce(0.7)]


def first(x: Any) -> float:
    return float(x[0])


def line(values: Any, step: int = 0) -> bz.Proposal:
    return proposal_of([[v] for v in values], step)


# ----------------------------------------------------------------------------------------------------------- utilities


@pytest.mark.parametrize(("wins", "losses"), [(3, 1), (5, 5), (7, 0)])
def test_two_candidates_with_a_prior_in_closed_form(wins: int, losses: int) -> None:
    """By symmetry u_0 = -u_1 = a, where the slope of the log posterior in a is 0."""
    pairs = bz.Ranking.pairs([0] * wins + [1] * losses, [1] * wins + [0] * losses, 2)
    for model, slope in (
        (BradleyTerry(1.0), lambda z: 1 / (1 + np.exp(z))),
        (Thurstone(1.0), lambda z: float(norm.pdf(z) / norm.cdf(z))),
    ):
        a = brentq(lambda a: 2 * (wins * slope(2 * a) - losses * slope(-2 * a)) - 2 * a / 1.5**2, -9, 9)  # noqa: B023
        fitted = utilities(pairs, model, prior=1.5)
        np.testing.assert_allclose(fitted.mean, [a, -a], atol=1e-9)


def likelihood(u: Floats, order: list[int], temperature: float) -> float:
    """Plackett-Luce, one stage after another."""
    e = np.exp(u / temperature)
    return float(sum(np.log(e[order[r]] / e[order[r:]].sum()) for r in range(len(order))))


@few
@given(st.lists(st.permutations(range(4)), min_size=1, max_size=4), st.sampled_from([0.5, 1.0, 2.0]))
def test_plackett_luce_is_the_most_probable_point(orders: list[list[int]], temperature: float) -> None:
    parts = bz.Ranking.from_levels(np.concatenate([bz.Ranking(o, 4).levels for o in orders]))
    fitted = utilities(parts, PlackettLuce(temperature), prior=1.0)

    def loss(u: Floats) -> float:
        return 0.5 * float(u @ u) - sum(likelihood(u, o, temperature) for o in orders)

    np.testing.assert_allclose(fitted.mean, minimize(loss, np.zeros(4), tol=1e-10).x, atol=1e-4)
    h, eye = 1e-3, np.eye(4)
    bend = np.array(
        [
            [
                sum(a * b * loss(fitted.mean + h * (a * eye[i] + b * eye[j])) for a in (1, -1) for b in (1, -1))
                for j in range(4)
            ]
            for i in range(4)
        ]
    ) / (4 * h * h)
    np.testing.assert_allclose(fitted.covariance, np.linalg.inv(bend), atol=1e-3)
    np.testing.assert_allclose(fitted.stderr, np.sqrt(np.diagonal(fitted.covariance)))


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_utilities_are_recovered_within_their_standard_errors(model: Any) -> None:
    values = np.linspace(-1.0, 1.0, 6)
    rater = SimulatedRater(first, model)
    if isinstance(model, PlackettLuce):
        told = [rater.answer(line(values, t)) for t in range(60)]
    else:
        told = [PairwiseOracle(rater).answer(line(values, t)) for t in range(20)]
    fitted = utilities(bz.Ranking.from_levels(np.concatenate([r.levels for r in told])), model, prior=3.0)
    errors = (fitted.mean - fitted.mean.mean() + values) / fitted.stderr  # utilities are minus the values
    assert np.abs(errors).max() < 3 and 0.05 < fitted.stderr.max() < 1.5
    assert kendalltau(-fitted.mean, values).statistic > 0.85


@laws
@given(st.permutations(range(5)), st.integers(1, 5), st.sampled_from(MODELS))
def test_one_order_gives_utilities_in_that_order(order: list[int], k: int, model: Any) -> None:
    mean = utilities(bz.Ranking(order[:k], 5), model).mean
    assert (np.diff(mean[order[:k]]) < 0).all()
    rest = mean[order[k:]]
    assert k == 5 or (np.ptp(rest) < 1e-9 and rest[0] < mean[order[k - 1]])
    np.testing.assert_allclose(mean.sum(), 0.0, atol=1e-9)


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_weights_count_like_repetitions_and_ties_like_half_wins(model: Any) -> None:
    twice = utilities(bz.Ranking.pairs([0, 0, 1], [1, 1, 2], 3), model)
    weighted = utilities(bz.Ranking.pairs([0, 1], [1, 2], 3, [2.0, 1.0]), model)
    np.testing.assert_allclose(twice.mean, weighted.mean, atol=1e-9)
    tied = bz.Ranking.from_levels(np.array([[0, 0, 1]]))
    halves = [bz.Ranking.pairs([0, 1, 0, 1], [1, 0, 2, 2], 3, [0.5, 0.5, 1.0, 1.0]), tied]
    a, b = (utilities(r, model).covariance for r in halves)
    np.testing.assert_allclose(a, b, atol=1e-9)


def test_nothing_said_is_the_prior() -> None:
    for nothing in (bz.Ranking([], 3), bz.Ranking.pairs([], [], 3)):
        fitted = utilities(nothing, prior=2.0)
        assert fitted.mean.tolist() == [0.0] * 3
        np.testing.assert_allclose(fitted.stderr, 2.0)


def test_an_overwhelming_answer_is_fitted() -> None:
    """Newton's full step is too far here."""
    pairs = bz.Ranking.pairs([0, 1, 2], [1, 2, 3], 4, [1e6] * 3)
    for model in (BradleyTerry(1e-2), Thurstone(1e-2), PlackettLuce(1e-2)):
        mean = utilities(pairs, model, prior=10.0).mean
        assert np.isfinite(mean).all() and (np.diff(mean) < 0).all()


# -------------------------------------------------------------------------------------------------------- reliability


def rounds_of(flips: dict[str, float], rounds: int, n: int = 8) -> list[Answers]:
    """Every rater compares all pairs, with a chance of their own to be wrong."""
    oracles = {
        name: PairwiseOracle(SimulatedRater(first, FixedFlip(p), seed=s)) for s, (name, p) in enumerate(flips.items())
    }
    shown = [np.random.default_rng(t).permutation(n) for t in range(rounds)]
    return [{name: o.answer(line(values, t)) for name, o in oracles.items()} for t, values in enumerate(shown)]


def test_shares_of_errors_are_found() -> None:
    flips = {"a": 0.05, "b": 0.2, "c": 0.3, "spam": 0.5}
    model = RaterModel()
    for answers in rounds_of(flips, 40):
        model = model.update(answers)
    for name, e in model.errors:
        assert abs(e - flips[name]) < 0.05
    w = model.weights
    assert w["a"] > w["b"] > w["c"] > w["spam"] and w["spam"] < 0.1 * w["c"]
    assert np.mean(list(w.values())) == pytest.approx(1.0)
    assert model.raters == ("a", "b", "c", "spam")


def test_who_is_always_wrong_has_no_weight_and_is_left_out() -> None:
    model = RaterModel()
    answers = {"a": bz.Ranking(range(5), 5), "b": bz.Ranking(range(5), 5), "liar": bz.Ranking(range(4, -1, -1), 5)}
    for _ in range(10):
        model = model.update(answers)
    assert model.weights["liar"] == 0.0
    merged = model.merge(answers)
    assert len(merged.levels) == 2 and merged.merged().groups() == [[0], [1], [2], [3]]


def test_merged_by_weight_is_better_than_the_best_rater_and_than_equal_votes() -> None:
    """Kendall's tau with the truth, over rounds that the model has not seen."""
    told = rounds_of({"a": 0.2, "b": 0.25, "c": 0.3, "d": 0.5, "e": 0.5}, 60)
    model = RaterModel()
    for answers in told[:30]:
        model = model.update(answers)

    def tau(choose: Callable[[Answers], bz.Ranking]) -> float:
        truth = [np.random.default_rng(t).permutation(8) for t in range(30, 60)]
        pairs = zip(truth, told[30:], strict=True)
        return float(np.mean([kendalltau(choose(a).net_losses(), v).statistic for v, a in pairs]))

    equal = RaterModel()
    assert tau(model.merge) > 0.03 + max(tau(lambda a: a["a"]), tau(equal.merge))


def test_someone_never_met_keeps_the_weight_of_the_prior() -> None:
    model = RaterModel(1.0, 3.0, random=1e-9, contrary=1e-9)
    for answers in rounds_of({"a": 0.1, "b": 0.1}, 10):
        model = model.update(answers)
    model = model.update({"alone": bz.Ranking([1, 0], 2)})
    assert dict(model.errors)["alone"] == pytest.approx(0.25, abs=0.01)
    unknown = model.merge({"new": bz.Ranking([0], 3), "a": bz.Ranking([1], 3)})
    assert unknown.weights is not None and unknown.weights[0] == 1.0


def test_disagreement_is_counted_by_pairs_of_raters() -> None:
    abc = bz.Ranking([0, 1, 2], 3)
    model = RaterModel().update({"x": abc, "y": bz.Ranking([0, 2, 1], 3)})  # 1 of 3 pairs
    model = model.update({"x": abc, "y": abc, "z": bz.Ranking([2, 1, 0], 3)})  # z against both: 2 of 3 pairs of raters
    model = model.update({"x": abc})
    np.testing.assert_allclose(model.disagreement, [1 / 3, 2 / 3, np.nan])
    np.testing.assert_allclose(model.agreement("x"), [2 / 3, 1.0, np.nan])


def test_fatigue_is_a_trend() -> None:
    flips = np.linspace(0.0, 0.5, 50)
    model = RaterModel()
    for t, p in enumerate(flips):
        one = [PairwiseOracle(SimulatedRater(first, FixedFlip(p_), seed=s)) for s, p_ in enumerate((0.05, 0.05, p))]
        values = np.random.default_rng(t).permutation(8)
        answers = {name: o.answer(line(values, t)) for name, o in zip("abt", one, strict=True)}
        model = model.update(answers, {"t": 5.0 * 1.02**t, "a": 4.0})
    tired, fresh = model.fatigue("t"), model.fatigue("a")
    assert tired.seconds.slope == pytest.approx(np.log(1.02)) and tired.seconds.stderr < 1e-9
    assert abs(tired.agreement.slope + 0.45 / 49) < 4 * tired.agreement.stderr < 0.01  # of right comparisons: -p
    assert abs(fresh.seconds.slope) < 1e-12 and abs(fresh.agreement.slope) < 4 * fresh.agreement.stderr
    assert np.isnan(model.fatigue("b").seconds.slope)
    assert np.isnan(RaterModel().update({"a": bz.Ranking([0], 2)}).fatigue("a").agreement.slope)


@laws
@given(st.permutations(["a", "b", "c"]), st.integers(0, 3))
def test_the_order_in_which_raters_are_told_does_not_matter(names: list[str], seed: int) -> None:
    told = rounds_of({"a": 0.1, "b": 0.3, "c": 0.4}, 3, n=4)
    one = two = RaterModel()
    for answers in told:
        one, two = one.update(answers), two.update({name: answers[name] for name in names})
    assert one.weights == pytest.approx(two.weights)


def test_a_model_is_not_changed_by_an_update() -> None:
    before = RaterModel()
    after = before.update({"a": bz.Ranking([0], 2)})
    assert before.rounds == () and len(after.rounds) == 1


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"`utilities\(prior=...\)` must be a positive number, got 0\."):
        utilities(bz.Ranking([0], 2), prior=0)
    with pytest.raises(ValueError, match=r"`RaterModel\(wrong=...\)` must be a positive number, got 0\."):
        RaterModel(wrong=0)
    with pytest.raises(ValueError, match="needs at least one answer"):
        RaterModel().merge({})


def test_two_who_disagree_are_believed_alike() -> None:
    model = RaterModel()
    for order in itertools.islice(itertools.permutations(range(4)), 12):
        model = model.update({"a": bz.Ranking(range(4), 4), "b": bz.Ranking(order, 4)})
    e = dict(model.errors)
    assert e["a"] == pytest.approx(e["b"])
