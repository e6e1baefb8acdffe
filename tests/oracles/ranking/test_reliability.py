"""Checks, repeated rounds, predictions: what they say of raters, alone and together."""

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

import blackbox_zo as bz
from oracles.ranking import Agreement, Duplicate, Planned, RaterModel, plan
from oracles.ranking.raters import _belief
from oracles.ranking.raters._kendall import adjacent, agreement_of, tally, tally_of
from oracles.ranking.raters._prediction import predicted, scores
from oracles.ranking.raters._rounds import HISTORY

laws = settings(max_examples=30, deadline=None)
few = settings(max_examples=10, deadline=None)
places = st.lists(st.integers(0, 3), min_size=5, max_size=5).map(lambda level: np.unique(level, return_inverse=True)[1])


def order(values: Any) -> bz.Ranking:
    return bz.Values(values).ranking()


def told(kind: str, f: Any, shown: Any, r: np.random.Generator) -> bz.Ranking:
    if kind == "random":
        return order(r.random(len(f)))
    if kind == "lazy":
        return bz.Ranking(list(map(int, shown)), len(f))
    heard = f + 0.1 * r.gumbel(size=len(f))
    return order(-heard if kind == "reversed" else heard)


def study(kinds: str, rounds: int = 15, m: int = 8, seed: int = 0, **without: bool) -> RaterModel:
    """Random candidates in 4 dimensions, of a linear utility with a standard deviation of 0.6."""
    r, model = np.random.default_rng(seed), RaterModel()
    past: dict[int, Any] = {}
    for t in range(rounds):
        planned = plan(t, seed, **without)
        points = past[planned.step][0] if planned.step is not None else r.random((m, 4))
        f = points.sum(axis=1)
        f[-1] += 100 * (planned.kind == "check")
        shown = {f"{kind} {i}": r.permutation(m) for i, kind in enumerate(kinds.split())}
        said = {name: told(name.split()[0], f, at, r) for name, at in shown.items()}
        more: dict[str, Any] = {"points": points}
        if planned.kind == "check":
            more = {"check": bz.Ranking([tuple(range(m - 1))], m)}
        elif planned.step is not None:
            more |= {"repeats": past[planned.step][1]}
        else:
            past[t] = points, said
        model = model.update(said, shown=shown, **more)
    return model


# ------------------------------------------------------------------------------------------------------------ Kendall


@laws
@given(places, places)
def test_tau_b_is_that_of_scipy(a: Any, b: Any) -> None:
    found, n = agreement_of(tally(a, b)), np.ptp(a) > 0 and np.ptp(b) > 0
    expected = kendalltau(a, b).statistic if n else math.nan
    if found.n:
        assert found.tau == pytest.approx(expected)
    else:
        assert math.isnan(found.tau) and math.isnan(found.stderr)


@laws
@given(places, st.permutations(range(4)))
def test_independent_comparisons_follow_from_the_variance_of_all_orders(a: Any, b: list[int]) -> None:
    """The variance over all permutations of one side, by enumeration."""
    a, level = a[:4], np.unique(np.minimum(b, 2), return_inverse=True)[1]
    a = np.unique(a, return_inverse=True)[1]
    all_scores = [tally(a, level[list(p)])[2] for p in itertools.permutations(range(4))]
    same, against, *_ = tally(a, level)
    pairs = sum(a[i] != a[j] and level[i] != level[j] for i, j in itertools.combinations(range(4), 2))
    if pairs:
        assert same + against == pytest.approx(pairs**2 / np.var(all_scores))


@laws
@given(st.permutations(range(5)), places, st.integers(0, 3))
def test_a_tie_counts_half(a: list[int], b: Any, at: int) -> None:
    """Its score is the mean of the two orders it leaves open."""
    before, after, tied = np.array(a), np.array(a), np.array(a)
    i, j = (int(np.flatnonzero(before == place)[0]) for place in (at, at + 1))
    after[[i, j]] = after[[j, i]]
    tied[j] = tied[i]
    tied = np.unique(tied, return_inverse=True)[1]
    assert tally(tied, b)[2] == pytest.approx((tally(before, b)[2] + tally(after, b)[2]) / 2)


@laws
@given(places, places, st.permutations(range(5)))
def test_the_numbering_of_candidates_does_not_matter(a: Any, b: Any, p: list[int]) -> None:
    np.testing.assert_allclose(tally(a, b), tally(a[p], b[p]), atol=1e-12)
    np.testing.assert_allclose(tally(a, b), tally(b, a), atol=1e-12)


def test_pairs_are_independent_and_absent_candidates_are_left_out() -> None:
    ab = bz.Ranking.pairs([0, 1, 2], [1, 2, 0], 3)
    assert tally_of(ab, bz.Ranking([0, 1, 2], 3)).tolist() == [2, 1, 1, 3, 1]
    assert tally(np.array([0, 1, -1]), np.array([1, 2, 0])).tolist() == [1, 0, 1, 1, 1]
    assert tally(np.array([0, 0]), np.array([0, 1])).tolist() == [0.0] * 5


def test_standard_error_is_that_of_chance_and_never_zero() -> None:
    r = np.random.default_rng(0)
    found = [
        agreement_of(np.sum([tally(r.permutation(8), r.permutation(8)) for _ in range(5)], axis=0)) for _ in range(400)
    ]
    taus = np.array([a.tau for a in found])
    assert np.std(taus) == pytest.approx(found[0].stderr, rel=0.1) and abs(taus.mean()) < 0.03
    assert agreement_of(tally(np.arange(8), np.arange(8))).stderr > 0.05


@laws
@given(places)
def test_the_chance_that_duplicates_are_neighbours_is_right(level: Any) -> None:
    near = [abs(level[i] - level[j]) <= 1 for i, j in itertools.permutations(range(5), 2)]
    assert adjacent(bz.Ranking.from_levels(level), Duplicate(1, 3))[1] == pytest.approx(np.mean(near))
    assert adjacent(bz.Ranking.from_levels(level), Duplicate(1, 3))[0] == (abs(level[1] - level[3]) <= 1)


# ------------------------------------------------------------------------------------------------------- predictions


def test_a_smooth_utility_is_predicted_and_chance_is_not() -> None:
    r = np.random.default_rng(0)
    points = [r.random((8, 3)) for _ in range(12)]
    smooth = [scores(order(p.sum(axis=1)).levels[0]) for p in points]
    chance = [scores(r.permutation(8)) for _ in points]
    told = [np.stack(pair, axis=1) for pair in zip(smooth, chance, strict=True)]
    both = predicted(points[:-1], told[:-1], points[-1])
    assert kendalltau(both[:, 0], smooth[-1]).statistic > 0.7
    np.testing.assert_allclose(both[:, :1], predicted(points[:-1], [t[:, :1] for t in told[:-1]], points[-1]))
    assert predicted([np.ones((2, 1))], [np.ones((2, 1))], np.ones((2, 1))).tolist() == [[0.0], [0.0]]


def test_an_answer_is_predicted_from_earlier_ones_only() -> None:
    """Of answers at random nothing is predicted on average, with the variance of chance."""
    found = []
    for seed in range(25):
        model = study("random", 10, seed=seed, checks=False, repeats=False)
        same, against = model.evidence.of("random 0", "foreseen")[:2]
        found.append((same - against) / np.sqrt(same + against))
    assert abs(np.mean(found)) < 0.5 and 0.6 < np.std(found) < 1.4


def test_points_too_old_to_predict_from_are_dropped() -> None:
    model = study("careful", 40, checks=False, repeats=False)
    held = [len(told.points) for told in model.rounds if told.points is not None]
    assert sum(held) <= HISTORY and len(held) == HISTORY // 8


# ----------------------------------------------------------------------------------------------------------- together


def test_the_one_careful_rater_of_three_is_found() -> None:
    """15 rounds of 8, in 20 studies; mutual agreement alone cannot tell, and says so."""
    right = sum(
        max(w := study("careful random random", seed=s).weights, key=w.__getitem__) == "careful 0" for s in range(20)
    )
    assert right >= 19
    for seed in range(3):
        alone = RaterModel()
        for told in study("careful random random", seed=seed, checks=False, repeats=False).rounds:
            alone = alone.update(told.answers)
        open_ = [name for name, standing in alone.standings.items() if standing.careful > 0.1]
        assert len(open_) >= 2 and len({alone.weights[name] for name in open_}) == 1
        assert len([text for text in alone.warnings() if "cannot tell" in text]) >= 2


@pytest.mark.parametrize("m", [8, 2])
def test_fifteen_duels_cannot_tell_and_say_so(m: int) -> None:
    said = study("careful random random", m=m).warnings()
    assert any("random 1: " in text for text in said)
    assert ("a round gives a single comparison" in " ".join(said)) == (m == 2)


@pytest.mark.parametrize("kind", ["random", "lazy", "reversed"])
def test_one_rater_alone_is_checked(kind: str) -> None:
    model = study(kind)
    assert any(text.startswith(f"{kind} 0: ") for text in model.warnings())
    assert model.weights == {f"{kind} 0": 1.0}
    assert study("careful").warnings() == []


def test_who_follows_the_screen_is_named() -> None:
    said = study("careful careful lazy").warnings()
    assert [text for text in said if "put first" in text] == [
        t for t in said if t.startswith("lazy 2: what is shown first")
    ]
    assert study("careful careful lazy").shown("lazy 2").tau == 1.0
    reverse = RaterModel()
    for _ in range(10):
        reverse = reverse.update({"a": bz.Ranking([2, 1, 0], 3)}, shown={"a": [0, 1, 2]})
    assert any("what is shown last is put first" in text for text in reverse.warnings())
    blind = RaterModel()
    for _ in range(10):
        blind = blind.update({"a": bz.Ranking([2, 1, 0], 3)})
    assert reverse.standings["a"].random > 1.2 * blind.standings["a"].random
    duels = RaterModel()
    for t in range(12):  # 9 of 12 times the first: chance
        duels = duels.update({"a": bz.Ranking([int(t % 4 == 0)], 2)}, shown={"a": [0, 1]})
    assert duels.shown("a").tau == 0.5 and not any("put first" in text for text in duels.warnings())


def test_two_who_contradict_each_other_weigh_the_same_until_a_check() -> None:
    model = RaterModel()
    forth, back = bz.Ranking(range(6), 6), bz.Ranking(range(5, -1, -1), 6)
    for _ in range(10):
        model = model.update({"a": forth, "b": back})
    assert model.weights["a"] == pytest.approx(model.weights["b"])
    assert sum("cannot tell" in text for text in model.warnings()) == 2
    for _ in range(3):
        model = model.update({"a": forth, "b": back}, check=forth)
    assert model.weights["b"] == 0.0 and model.standings["b"].contrary > 0.9
    assert [t.partition(" (")[0] for t in model.warnings()] == ["b: the answers run against the known ones"]
    assert model.checks("a") == (3, 3) and model.checks("b") == (0, 3)


def test_duplicates_tell_a_careful_rater_from_a_random_one() -> None:
    r, model = np.random.default_rng(0), RaterModel()
    for _ in range(15):
        twin = order(np.append(f := r.random(7), f[0]))
        model = model.update({"a": twin, "b": order(r.random(8))}, check=Duplicate(0, 7))
    assert model.checks("a") == (15, 15) and model.checks("b")[0] < 8
    assert model.standings["a"].careful > 0.95 > 0.5 > model.standings["b"].careful
    tied = RaterModel().update({"a": bz.Ranking([], 4)}, check=Duplicate(0, 1))  # all tied: that cannot fail
    assert (
        tied.checks("a") == (0, 1)
        and tied.standings["a"] == RaterModel().update({"a": bz.Ranking([], 4)}).standings["a"]
    )


def test_repeated_rounds_are_tallied_by_rater() -> None:
    first = {"a": bz.Ranking([0, 1, 2, 3], 4), "b": bz.Ranking([0, 1, 2, 3], 4)}
    model = RaterModel().update(first).update({"a": first["a"], "b": bz.Ranking([3, 2, 1, 0], 4)}, repeats=first)
    assert model.retest("a")[::2] == (1.0, 1) and model.retest("b")[::2] == (-1.0, 1)
    assert isinstance(model.retest("a"), Agreement) and model.foreseen("a").n == 0
    kinds = [plan(t, 0).kind for t in range(15)]
    whole = study("careful")
    assert whole.retest("careful 0").n == kinds.count("repeat") > 0 and whole.checks("careful 0")[1] == kinds.count(
        "check"
    )
    assert whole.foreseen("careful 0").n == kinds.count("normal") - 1  # what is repeated is remembered, not predicted
    assert model.standings["a"].careful > model.standings["b"].careful
    with pytest.raises(KeyError, match="There is no answer of 'c'; those who answered are a, b"):
        model.retest("c")


def test_a_round_without_answers_says_nothing() -> None:
    model = RaterModel().update({}).update({"a": bz.Ranking([0], 2)}).update({}, points=np.empty((0, 3)))
    assert model.raters == ("a",) and model.weights == {"a": 1.0} and np.isnan(model.disagreement).all()
    assert RaterModel().update({}).warnings() == [] and len(model.rounds) == 3


def test_who_orders_nothing_is_named_and_who_tires_too() -> None:
    model, r = RaterModel(), np.random.default_rng(0)
    for t in range(40):
        f = r.random(8)
        tired = order(f + t / 40 * r.standard_normal(8))
        model = model.update({"a": order(f), "b": order(f), "tired": tired, "mute": bz.Ranking([], 8)})
    said = model.warnings()
    assert [text.partition(":")[0] for text in said] == ["tired", "mute"]
    assert "agreement with the others falls by" in said[0] and "no answer of 40 says" in said[1]


def test_one_round_condemns_nobody_however_many_agree() -> None:
    """A careful rater's order of one round may well be that bad by chance, and all others rest on the same truth."""
    said = {str(i): bz.Ranking(range(8), 8) for i in range(19)} | {"odd": bz.Ranking([3, 5, 0, 7, 1, 6, 2, 4], 8)}
    assert abs(kendalltau([3, 5, 0, 7, 1, 6, 2, 4], range(8)).statistic) < 0.1
    assert 0.03 < RaterModel().update(said).standings["odd"].careful < 0.5


# --------------------------------------------------------------------------------------------------------------- laws


def agreements(rhos: Any, n: float, gamma: float) -> tuple[Any, Any]:
    mu = np.multiply.outer(rhos, rhos) * (1 - np.eye(len(rhos)))
    mutual = n * np.stack([1 + mu, 1 - mu], axis=-1) / 2 * (1 - np.eye(len(rhos)))[..., None]
    own = gamma * np.square(rhos)
    return mutual, n * np.stack([1 + own, 1 - own], axis=-1) / 2


@few
@given(st.lists(st.floats(-0.9, 0.9), min_size=2, max_size=3), st.floats(1, 80), st.floats(0.0, 0.8))
@example([0.7, -0.8, 0.2], 160, 0.0)  # plain belief propagation is 99 % sure, and ought to be 80 %
@example([0.9, -0.6, 0.2], 160, 0.5)
def test_beliefs_are_close_to_the_exact_posterior_and_not_surer(rhos: list[float], n: float, gamma: float) -> None:
    mutual, foreseen = agreements(rhos, n, gamma)
    count, grid, none = len(rhos), _belief.GRID, np.zeros((len(rhos), 2))
    p = _belief.prior(1, 4, 0.1, 0.05)
    found = _belief.beliefs(mutual, none, np.zeros((count, len(grid))), none, foreseen, none, p)
    logs = np.zeros([len(grid)] * count)
    axis = [grid.reshape([-1 if a == r else 1 for a in range(count)]) for r in range(count)]
    for r, s in itertools.combinations(range(count), 2):
        logs = logs + sum(mutual[r, s, k] * np.log((1 + sign * axis[r] * axis[s]) / 2) for k, sign in ((0, 1), (1, -1)))
    total = np.zeros_like(logs)
    top = logs.max()
    for quality in np.linspace(0.0, 0.9, 10):
        more = sum(
            foreseen[r, k] * np.log((1 + sign * quality * axis[r] ** 2) / 2)
            for r in range(count)
            for k, sign in ((0, 1), (1, -1))
        )
        total += np.exp(logs - top + more + foreseen.sum() * np.log(2))
    for r in range(count):
        total = total * p.reshape(axis[r].shape)
    total /= total.sum()
    for r in range(count):
        exact = total.sum(axis=tuple(a for a in range(count) if a != r))
        assert abs(float((found[r] - exact) @ grid)) < 0.2
        for sure in (grid <= -0.2, grid >= 0.2, np.abs(grid) < 0.2):
            assert found[r][sure].sum() < 0.9 or exact[sure].sum() > 0.75


@few
@given(st.permutations(range(3)), st.integers(0, 5))
def test_other_names_permute_the_weights(p: list[int], seed: int) -> None:
    one, other = RaterModel(), RaterModel()
    for told in study("careful random careful", 6, seed=seed).rounds:
        names = list(told.answers)
        one = one.update(told.answers, points=told.points)
        renamed = {names[p[i]]: told.answers[names[i]] for i in range(3)}
        other = other.update(renamed, points=told.points)
    for i, name in enumerate(names):
        assert one.weights[name] == pytest.approx(other.weights[names[p[i]]], abs=1e-6)


@few
@given(st.permutations(range(8)), st.integers(0, 5))
def test_other_numbers_of_candidates_change_nothing(p: list[int], seed: int) -> None:
    one, other = RaterModel(), RaterModel()
    for told in study("careful random", 5, seed=seed).rounds:
        points = told.points
        one = one.update(told.answers, points=points)
        moved = {name: bz.Ranking.from_levels(r.levels[:, p]) for name, r in told.answers.items()}
        other = other.update(moved, points=None if points is None else points[p])
    assert one.weights == pytest.approx(other.weights, abs=1e-6)


def test_saved_and_read_back_it_goes_on_bit_for_bit() -> None:
    model = study("careful random lazy", 12)
    again = RaterModel.from_json(json.loads(json.dumps(model.to_json())))
    assert again.weights == model.weights and again.warnings() == model.warnings()
    r = np.random.default_rng(0)
    points, said = r.random((8, 4)), {"careful 0": order(r.random(8)), "new": order(r.random(8))}
    one, other = (m.update(said, {"new": 2.0}, points=points) for m in (model, again))
    assert one.to_json() == other.to_json() and one.weights == other.weights
    assert study("careful random lazy", 12).to_json() == model.to_json()


def test_the_first_version_is_read_and_a_later_one_is_not() -> None:
    """As `to_json` wrote it: names, how often i < j was put first, and j, and seconds; then error rates."""
    pairs = [["a", "b"], [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0], [1.0, 1.0, 0.0]], [2.0, float("nan")]]
    old = {"wrong": 1.0, "right": 4.0, "rounds": [pairs], "errors": [["a", 0.2], ["b", 0.3]]}
    model = RaterModel.from_json(old)
    expected = RaterModel().update({"a": bz.Ranking([0, 1, 2], 3), "b": bz.Ranking([(1, 2)], 3)}, {"a": 2.0})
    assert model.to_json() == expected.to_json()
    with pytest.raises(ValueError, match="reads versions 1 and 2, got 3: update blackbox-zo"):
        RaterModel.from_json({"version": 3})


# --------------------------------------------------------------------------------------------------------------- plan


@few
@given(st.integers(0, 2**40), st.integers(1, 4), st.integers(2, 6))
def test_a_plan_mixes_in_one_check_and_one_repeat_of_each_block(seed: int, apart: int, more: int) -> None:
    every = apart + more
    planned = [plan(t, seed, every=every, apart=apart) for t in range(5 * every)]
    assert all(p.kind == "normal" for p in planned[:apart])
    for start in range(0, 5 * every, every):
        block = [p.kind for p in planned[start : start + every]]
        assert block.count("check") == 1 and block.count("repeat") <= 1
    repeated = [(t, p.step) for t, p in enumerate(planned) if p.step is not None]
    assert all(planned[s].kind == "normal" and t - s >= apart for t, s in repeated)
    assert len({s for _, s in repeated}) == len(repeated) >= 4
    assert planned[3 * every] == plan(3 * every, seed, every=every, apart=apart)


def test_a_plan_without_checks_or_repeats_and_other_seeds() -> None:
    assert {plan(t, 0, checks=False).kind for t in range(40)} == {"normal", "repeat"}
    assert {plan(t, 0, repeats=False).kind for t in range(40)} == {"normal", "check"}
    assert len({tuple(plan(t, seed) for t in range(16)) for seed in range(10)}) > 5
    assert plan(0, 1) == Planned("normal")
    with pytest.raises(ValueError, match=r"`plan\(every=...\)` must be a whole number of at least 5, got 4"):
        plan(0, 0, every=4)


# ---------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"check": bz.Ranking([0], 2)}, r"update\(check\)` is about 2 candidates, but the round has 3"),
        ({"check": Duplicate(1, 1)}, "needs two positions from 0 to 2"),
        ({"check": Duplicate(0, 3)}, "needs two positions from 0 to 2"),
        ({"repeats": {"a": bz.Ranking([0], 4)}}, r"repeats\['a'\]\)` is about 4 candidates"),
        ({"shown": {"a": [0, 1, 1]}}, "must name each of the positions 0 to 2 once"),
        ({"points": [[1.0], [2.0]]}, r"finite numbers of shape \(3, d\), got \(2, 1\)"),
        ({"points": [[1.0], [2.0], [math.nan]]}, "finite numbers"),
    ],
)
def test_bad_rounds(more: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RaterModel().update({"a": bz.Ranking([0], 3)}, **more)
    with pytest.raises(ValueError, match=r"must sum to less than 1, got 0\.5 and 0\.5"):
        RaterModel(random=0.5, contrary=0.5)
