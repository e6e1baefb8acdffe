"""The one interface: ask, tell, any order, parts, budget, staleness, saving."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from oracles import FunctionOracle, RankOnly, Repeat, Timeout


def sphere(points: Floats) -> Floats:
    out: Floats = ((points - 1.0) ** 2).sum(axis=1)
    return out


def search(**options: Any) -> bz.Search:
    return bz.Search(np.zeros(3), bz.RandomVector(0.1, 4), bz.SGD(0.05), **options)


def state_equal(a: bz.Search, b: bz.Search) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(np.array_equal(one[k], two[k], equal_nan=True) for k in one)


def run(s: bz.Search, steps: int) -> bz.Search:
    for _ in range(steps):
        p = s.ask()
        s.tell(p, bz.Values(sphere(p.points)))
    return s


# ---------------------------------------------------------------------------------------------------- asking


def test_points_are_read_only_and_are_x_plus_c_u() -> None:
    p = search().ask()
    expected = p.queries.origin + p.queries.matrix @ p.queries.directions.rows
    np.testing.assert_allclose(p.points, expected, rtol=0, atol=1e-15)
    assert p.points.shape == (8, 3)
    with pytest.raises(ValueError, match="read-only"):
        p.points[0, 0] = 1.0


def test_steps_and_ids_count_up() -> None:
    s = search()
    first, second = s.ask(), s.ask()
    assert (first.step, second.step) == (0, 1)
    assert first.ids.tolist() == list(range(8))
    assert second.ids.tolist() == list(range(8, 16))


def test_two_searches_with_one_seed_are_the_same_and_another_seed_is_not() -> None:
    assert state_equal(run(search(seed=5), 3), run(search(seed=5), 3))
    assert not np.array_equal(run(search(seed=5), 3).x, run(search(seed=6), 3).x)


@pytest.mark.parametrize("d", [3, 20_000])
def test_single_rows_equal_the_points_and_are_copies(d: int) -> None:
    box, unit = (-0.05, 0.05), np.linspace(0.5, 2.0, d)
    p = bz.Search(bz.Vector(np.zeros(d), box, unit), bz.RandomVector(0.1, 4)).ask()
    rows = [p.row(i) for i in range(p.n)]  # before the points have been asked for
    np.testing.assert_array_equal(rows, p.points)
    rows[0][0] = 7.0
    assert p.points[0, 0] != 7.0


def test_one_row_of_many_large_points_is_computed_alone() -> None:
    p = bz.Search(np.zeros(4000), bz.Coordinatewise(0.1)).ask()  # all points together are 256 MB
    tracemalloc.start()
    p.row(0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6


# ---------------------------------------------------------------------------------------------------- telling


@pytest.mark.parametrize(
    "estimator", [bz.RandomVector(0.1, 4), bz.EvolutionStrategy(0.3, 8, model=True), bz.ConsensusBased(1.0, 8)]
)
def test_parts_in_any_order_give_the_same_bits(estimator: bz.Estimator) -> None:
    whole, parts = bz.Search(np.zeros(3), estimator), bz.Search(np.zeros(3), estimator)
    shuffle = np.random.default_rng(0)
    for _ in range(6):
        p, q = whole.ask(), parts.ask()
        whole.tell(p, bz.Values(sphere(p.points)))
        ids = shuffle.permutation(q.ids)
        for some in filter(len, np.array_split(ids, 3)):
            parts.tell(q, bz.Values(sphere(q.points[some - q.ids[0]])), ids=some)
    assert state_equal(whole, parts)


def test_a_step_moves_only_with_its_last_answer() -> None:
    s = search()
    p = s.ask()
    values = sphere(p.points)
    s.tell(p, bz.Values(values[:7]), ids=p.ids[:7])
    assert np.array_equal(s.x, np.zeros(3))
    assert s.nfev == 7
    s.tell(p, bz.Values(values[7:]), ids=[7])
    assert not np.array_equal(s.x, np.zeros(3))


def test_several_open_proposals_answered_backwards() -> None:
    s = search()
    asked = [s.ask() for _ in range(4)]
    for p in reversed(asked):
        s.tell(p, bz.Values(sphere(p.points)))
    assert s.nfev == 32
    assert s.variable.version == 4


def test_an_estimate_staler_than_the_bound_moves_nothing_but_counts() -> None:
    s = search(max_staleness=2)
    late = s.ask()
    run(s, 3)
    before = s.x
    s.tell(late, bz.Values(np.full(8, -1.0)))
    assert np.array_equal(s.x, before)
    assert s.nfev == 32
    assert s.best.value == -1.0


def test_an_estimate_at_the_bound_still_moves() -> None:
    s = search(max_staleness=2)
    late = s.ask()
    run(s, 2)
    before = s.x
    s.tell(late, bz.Values(sphere(late.points)))
    assert not np.array_equal(s.x, before)


def test_best_is_the_best_point_asked_about_not_where_the_search_stands() -> None:
    s = search()
    assert np.isnan(s.best.value)
    assert s.best.id == -1
    p = s.ask()
    values = sphere(p.points)
    s.tell(p, bz.Values(values))
    winner = int(values.argmin())
    assert s.best.value == values[winner]
    assert s.best.id == p.ids[winner]
    np.testing.assert_array_equal(s.best.x, p.points[winner])


def test_equal_bests_keep_the_first_asked_whatever_the_order_of_answers() -> None:
    s = search()
    p = s.ask()
    s.tell(p, bz.Values([0.5] * 4), ids=[7, 6, 5, 4])
    s.tell(p, bz.Values([0.5] * 4), ids=[3, 1, 2, 0])
    assert s.best.id == 0


def test_best_is_known_after_each_part_of_steps_that_are_open() -> None:
    s = search()
    p, q = s.ask(), s.ask()
    s.tell(p, bz.Values([3.0, np.nan]), ids=[0, 1])
    assert (s.best.value, s.best.id) == (3.0, 0)
    s.tell(q, bz.Values([np.nan]), ids=[8])
    assert (s.best.value, s.best.id) == (3.0, 0)
    s.tell(q, bz.Values([2.0]), ids=[15])
    s.tell(p, bz.Values([2.5]), ids=[7])
    assert (s.best.value, s.best.id) == (2.0, 15)
    np.testing.assert_array_equal(s.best.x, q.points[7])
    s.tell(p, bz.Values([9.0] * 5), ids=[2, 3, 4, 5, 6])
    assert (s.best.value, s.best.id) == (2.0, 15)


def test_a_step_that_was_answered_in_parts_is_not_kept() -> None:
    s = search()
    p = s.ask()
    for i in range(8):
        s.tell(p, bz.Values([1.0]), ids=[i])
    ids = weakref.ref(p.ids)
    del p
    gc.collect()
    assert ids() is None


def test_failed_queries_are_counted_and_never_best() -> None:
    s = search()
    p = s.ask()
    values = sphere(p.points)
    values[values.argmin()] = -np.inf  # infinite: a failure, not a triumph
    s.tell(p, bz.Values(values))
    assert s.failed == 1
    assert s.nfev == 8
    assert np.isfinite(s.best.value)


def test_a_ranking_told_in_parts_adds_its_edges_up() -> None:
    s = bz.Search(np.zeros(3), bz.RankBased(0.1, 6), bz.SGD(1.0))
    p = s.ask()
    s.tell(p, bz.Ranking([1, 0, 2], 3), ids=[0, 1, 2])
    s.tell(p, bz.Ranking([(0, 1)], 3), ids=[5, 3, 4])
    net, edges = np.array([0, -2, 2, -1, 2, -1]), 5
    np.testing.assert_allclose(s.x, -(net / edges) @ p.queries.directions.rows, atol=1e-15)


def test_the_winner_of_the_newest_ranking_is_the_best() -> None:
    s = bz.Search(np.zeros(3), bz.RankBased(0.1, 4), bz.SGD(1.0))
    p = s.ask()
    s.tell(p, bz.Ranking([2, 0], 4))
    np.testing.assert_array_equal(s.best.x, p.points[2])
    assert np.isnan(s.best.value)


@pytest.mark.parametrize(
    "rule", [bz.chain(bz.WeightDecay(0.1), bz.SGD(0.05)), bz.Momentum(0.05), bz.Adam(0.05), bz.ClipUp(0.05)], ids=repr
)
def test_a_step_of_which_nothing_is_known_moves_nothing(rule: bz.Rule) -> None:
    """No decay and no momentum either, and the next steps go on as if it had not been there, but for the counts."""
    s = run(bz.Search(np.full(3, 2.0), bz.RandomVector(0.1, 4), rule, seed=2), 3)
    before = s.state_dict()
    p = s.ask()
    s.tell(p, bz.Values(np.full(p.n, np.nan)))
    after = s.state_dict()
    kept = [name for name in before if name.startswith(("x/", "rule/", "best"))]
    assert len(kept) > 2
    for name in kept:
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)
    assert (s.moves, s.nfev, s.failed, s.barren) == (4, 32, 8, 1)


# ---------------------------------------------------------------------------------------------------- refusals


def test_telling_twice_is_refused() -> None:
    s = search()
    p = s.ask()
    s.tell(p, bz.Values(sphere(p.points)))
    with pytest.raises(bz.TellError, match="Step 0 has been told already"):
        s.tell(p, bz.Values(sphere(p.points)))


def test_telling_a_part_twice_is_refused_and_changes_nothing() -> None:
    s = search()
    p = s.ask()
    s.tell(p, bz.Values([1.0, 2.0]), ids=[0, 3])
    with pytest.raises(bz.TellError, match="Query 3 has been told already"):
        s.tell(p, bz.Values([1.0, 2.0]), ids=[2, 3])
    assert s.nfev == 2


def test_an_id_named_twice_is_refused() -> None:
    s = search()
    p = s.ask()
    with pytest.raises(bz.TellError, match="names an id twice"):
        s.tell(p, bz.Values([1.0, 2.0]), ids=[2, 2])


def test_anothers_proposal_is_refused() -> None:
    s, other = search(seed=1), search(seed=2)
    s.ask()
    with pytest.raises(bz.TellError, match="was not asked by this search"):
        s.tell(other.ask(), bz.Values(np.zeros(8)))


def test_anothers_ids_are_refused() -> None:
    s = search()
    p = s.ask()
    with pytest.raises(bz.TellError, match=r"names 99, which is not an id of step 0: those are 0 to 7"):
        s.tell(p, bz.Values([1.0]), ids=[99])


def test_a_proposal_never_asked_is_refused() -> None:
    other = run(search(), 3)
    with pytest.raises(bz.TellError, match="was not asked by this search"):
        search().tell(other.ask(), bz.Values(np.zeros(8)))


@pytest.mark.parametrize("wrong", [bz.Values(np.zeros(7)), bz.Values(np.zeros(9))])
def test_the_wrong_number_of_answers_is_refused(wrong: bz.Values) -> None:
    s = search()
    with pytest.raises(bz.TellError, match=f"got {wrong.n} answers for 8 queries"):
        s.tell(s.ask(), wrong)


def test_a_ranking_is_refused_by_an_estimator_that_needs_values() -> None:
    s = search()
    with pytest.raises(
        bz.FeedbackError,
        match=r"^Cannot use `RandomVector` with.*: it needs the value.* answered `Ranking`\. Use `RankBased`\.$",
    ):
        s.tell(s.ask(), bz.Ranking(range(8), 8))


def test_values_and_rankings_of_one_step_do_not_mix() -> None:
    s = bz.Search(np.zeros(3), bz.RankBased(0.1, 4), bz.SGD(1.0))
    p = s.ask()
    s.tell(p, bz.Values([1.0, 2.0]), ids=[0, 1])
    with pytest.raises(bz.TellError, match="was told Values before"):
        s.tell(p, bz.Ranking([0, 1], 2), ids=[2, 3])


def test_what_is_not_a_proposal_is_refused() -> None:
    with pytest.raises(bz.TellError, match="needs a proposal that `ask` handed out, got 7"):
        search().tell(7, bz.Values([1.0]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"estimator": "es"}, "`estimator` must be an estimator such as .* got 'es'"),
        ({"rule": 0.1}, "`rule` must be a rule such as .* got 0.1"),
        ({"seed": 0.5}, "`seed` must be a whole number, got 0.5"),
        ({"budget": 0}, r"`Search\(budget=...\)` must be a whole number of at least 1, got 0"),
        ({"max_staleness": -1}, r"`Search\(max_staleness=...\)` .* got -1"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    given = {"x0": np.zeros(2), "estimator": bz.RandomVector(0.1), "rule": bz.SGD(0.1), **arguments}
    with pytest.raises((TypeError, ValueError), match=message):
        bz.Search(**given)


# ---------------------------------------------------------------------------------------------------- budget


@pytest.mark.parametrize("budget", [1, 7, 8, 9, 30])
@pytest.mark.parametrize(
    "estimator",
    [
        bz.RandomVector(0.1, 4),
        bz.RankBased(0.1, 5),
        bz.EvolutionStrategy(0.3),
        bz.ConsensusBased(1.0, 6),
        bz.Surrogate(0.1, 3, 10),
        bz.Coordinatewise(0.1),
    ],
)
def test_exactly_the_budget_is_asked(budget: int, estimator: bz.Estimator) -> None:
    s = bz.Search(np.zeros(3), estimator, budget=budget)
    total = 0
    while not s.exhausted:
        p = s.ask()
        total += p.n
        s.tell(p, bz.Values(sphere(p.points)))
    assert total == s.nfev == budget
    with pytest.raises(bz.BudgetExhausted, match=f"All {budget} queries"):
        s.ask()
    assert np.isfinite(s.x).all()


def test_run_needs_an_end() -> None:
    with pytest.raises(ValueError, match=r"`run\(steps=...\)` is needed"):
        next(search().run(_Sphere()))


class _Sphere:
    """The least an oracle can be: not even a subclass."""

    def answer(self, proposal: bz.Proposal) -> bz.Values:
        return bz.Values(sphere(proposal.points))


def test_run_reports_each_step() -> None:
    reports = list(search(budget=20).run(_Sphere()))
    assert [r.nfev for r in reports] == [8, 16, 20]
    assert [r.step for r in reports] == [0, 1, 2]
    assert reports[-1].best == min(r.best for r in reports)


def test_run_stops_after_the_steps_it_was_given_and_can_go_on() -> None:
    s, unbroken = search(), search()
    assert len(list(s.run(_Sphere(), steps=2))) == 2
    list(s.run(_Sphere(), steps=3))
    list(unbroken.run(_Sphere(), steps=5))
    assert state_equal(s, unbroken)


@pytest.mark.parametrize("ahead", [0, 2])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_run_that_an_exception_ended_goes_on_where_it_was(ahead: int, error: type[BaseException]) -> None:
    """Also in the middle of a step, and with the same search; nothing is asked twice."""
    asked: list[Floats] = []

    def fun(x: Floats) -> float:
        asked.append(x)
        if len(asked) == 21:
            raise error
        return float(((x - 1.0) ** 2).sum())

    broken, unbroken = search(budget=60), search(budget=60)
    oracle = FunctionOracle(fun)
    with pytest.raises(error):
        list(broken.run(oracle, ahead=ahead))
    assert broken.nfev == 20 and len(broken.waiting) == 1 + ahead
    list(broken.run(oracle, ahead=ahead))
    list(unbroken.run(FunctionOracle(lambda x: float(((x - 1.0) ** 2).sum())), ahead=ahead))
    assert broken.exhausted and len(asked) == 61
    assert state_equal(broken, unbroken)


def test_what_is_given_back_is_handed_out_again_and_once() -> None:
    s = search()
    first, second = s.ask(), s.ask()
    s.tell(second, bz.Values([1.0, 2.0]), ids=[9, 14])
    s.give_back([second])
    s.give_back([second, second])
    again = s.ask()
    assert (again.step, again.ids.tolist()) == (1, [8, 10, 11, 12, 13, 15])
    s.tell(again, bz.Values(sphere(again.points)))
    s.give_back([second, first])
    assert [s.ask().step, s.ask().step] == [0, 2]


# ---------------------------------------------------------------------------------------------------- saving

RULES = [
    bz.SGD(0.05),
    bz.Momentum(0.01),
    bz.Adam(0.05),
    bz.SignSGD(0.01),
    bz.ClipUp(0.05),
    bz.chain(bz.ClipNorm(1.0), bz.WeightDecay(0.1), bz.Adam(0.02)),
]


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_saved_search_goes_on_bit_for_bit(rule: bz.Rule, tmp_path: Path) -> None:
    def fresh() -> bz.Search:
        return bz.Search({"a": np.zeros(3), "b": 0.5}, bz.EvolutionStrategy(0.3, model=True), rule, seed=3)

    unbroken, broken = run(fresh(), 12), run(fresh(), 7)
    np.savez(tmp_path / "state.npz", **broken.state_dict())
    loaded = fresh()
    loaded.load_state_dict(dict(np.load(tmp_path / "state.npz")))
    assert state_equal(run(loaded, 5), unbroken)


def test_open_proposals_are_saved_with_the_answers_they_have(tmp_path: Path) -> None:
    def half_way() -> tuple[bz.Search, list[bz.Proposal]]:
        s = run(search(), 2)
        asked = [s.ask(), s.ask()]
        s.tell(asked[1], bz.Values(sphere(asked[1].points)[:5]), ids=asked[1].ids[:5])
        run(s, 1)
        return s, asked

    unbroken, asked = half_way()
    for p, which in ((asked[0], np.arange(8)), (asked[1], np.arange(5, 8))):
        unbroken.tell(p, bz.Values(sphere(p.points[which])), ids=p.ids[which])

    saved, asked = half_way()
    np.savez(tmp_path / "state.npz", **saved.state_dict())
    loaded = search()
    loaded.load_state_dict(dict(np.load(tmp_path / "state.npz")))
    rest = [loaded.ask(), loaded.ask()]
    assert [p.step for p in rest] == [2, 3]
    assert rest[1].ids.tolist() == asked[1].ids[5:].tolist()
    for p in rest:
        loaded.tell(p, bz.Values(sphere(p.points)))
    assert state_equal(loaded, unbroken)


@dataclass(frozen=True)
class Weighted(bz.Estimator):
    """Trusts answers with a small standard error more."""

    radius: float = 0.1

    def start(self, variable: Any) -> tuple[()]:
        return ()

    def sample(self, state: Any, variable: Any, key: bz.Key) -> bz.Queries:
        return bz.Queries(bz.Gaussian(variable.blocks, 4, key), np.arange(4), np.full(4, self.radius), variable.value)

    def estimate(self, state: Any, variable: Any, queries: bz.Queries, feedback: Any) -> tuple[Any, bz.Step]:
        known = np.zeros(feedback.n) if feedback.stderr is None else np.nan_to_num(feedback.stderr)
        return state, bz.Step(queries.directions, feedback.values / (1.0 + known))


@pytest.mark.parametrize("first", [[0.5, 2.0], [0.5, np.nan], None])
def test_standard_errors_of_answers_before_the_save_reach_the_estimator(first: Any, tmp_path: Path) -> None:
    """Through a saved state, and through a journal."""

    def fresh(journal: Path | None = None) -> bz.Search:
        return bz.Search(np.ones(3), Weighted(), bz.SGD(0.1), journal=journal)

    def tell(s: bz.Search, p: bz.Proposal, positions: Any, stderr: Any) -> None:
        some = p.take(np.array(positions))
        s.tell(p, bz.Values(sphere(some.points), stderr), some.ids)

    unbroken, saved, journaled = fresh(), fresh(), fresh(tmp_path / "run.jsonl")
    for s in (unbroken, saved, journaled):
        p = s.ask()
        tell(s, p, [2, 0], first)
        if s is unbroken:
            tell(s, p, [1, 3], [0.25, 1.0])
    np.savez(tmp_path / "state.npz", **saved.state_dict())
    journaled.close()
    loaded, resumed = fresh(), fresh(tmp_path / "run.jsonl")
    loaded.load_state_dict(dict(np.load(tmp_path / "state.npz")))
    for s in (loaded, resumed):
        tell(s, s.ask(), [0, 1], [0.25, 1.0])
        np.testing.assert_array_equal(s.x, unbroken.x)
    resumed.close()


def test_a_proposal_from_before_the_save_can_be_told_after_the_load() -> None:
    s = search()
    p = s.ask()
    loaded = search()
    loaded.load_state_dict(s.state_dict())
    loaded.tell(p, bz.Values(sphere(p.points)))
    assert loaded.nfev == 8


def test_a_state_holds_arrays_and_numbers_alone() -> None:
    s = run(bz.Search(np.zeros(2), bz.Surrogate(0.1, 3, 10), bz.Adam(0.1)), 4)
    s.ask()
    assert all(isinstance(v, np.ndarray | int | float) for v in s.state_dict().values())


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (bz.Search(np.zeros(4), bz.RandomVector(0.1, 4), bz.SGD(0.05)), r"x of shape \(4,\)"),
        (bz.Search(np.zeros(3), bz.RandomVector(0.1, 4), bz.SGD(0.05), seed=9), "seed 9"),
        (bz.Search(np.zeros(3), bz.RankBased(0.1, 4), bz.SGD(0.05)), "no entry 'estimator/previous'"),
    ],
)
def test_a_state_of_another_search_is_refused(other: bz.Search, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        search().load_state_dict(other.state_dict())


class _Bare:
    """A wrapper of a user's own that passes on nothing but the proposal."""

    def __init__(self, inner: bz.Oracle) -> None:
        self.inner = inner

    def answer(self, proposal: bz.Proposal) -> bz.Feedback:
        return self.inner.answer(proposal)


class _Undoing(bz.Oracle):
    """Answers norms, but takes its first answers to some steps back."""

    not_replayable = "it takes answers back"

    def __init__(self, back: dict[int, int]) -> None:
        self.back, self.shown, self.answered = dict(back), [], []  # type: ignore[var-annotated]

    def answer(self, proposal: bz.Proposal) -> bz.Values:
        proposal.state(self)
        self.shown.append([p.step for p in proposal.ahead])
        if proposal.step in self.back:
            raise bz.Rewind(self.back.pop(proposal.step))
        self.answered.append(proposal.step)
        return bz.Values((proposal.points**2).sum(axis=1))


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_a_run_that_is_rewound_ends_as_one_that_was_not(ahead: int) -> None:
    def run(oracle: bz.Oracle) -> tuple[bz.Search, list[int]]:
        s = bz.Search(np.ones(3), bz.RandomVector(1e-3, 2), bz.Momentum(0.1), seed=4)
        return s, [r.step for r in s.run(oracle, steps=6, ahead=ahead)]

    plain, _ = run(_Undoing({}))
    oracle = _Undoing({4: 2, 5: 5})
    undone, steps = run(oracle)
    assert steps == [0, 1, 2, 3, 2, 3, 4, 5]
    np.testing.assert_array_equal(undone.x, plain.x)
    assert undone.nfev == plain.nfev
    assert max(map(len, oracle.shown)) == ahead


@pytest.mark.parametrize("wrap", [lambda o: o, RankOnly, lambda o: Timeout(o, 60)], ids=["bare", "rank", "timeout"])
@pytest.mark.parametrize("says", [True, False])
def test_only_who_may_withdraw_answers_has_snapshots_to_go_back_to(wrap: Any, says: bool) -> None:
    """Through wrappers too. Without the note the run goes back to its start, to the same bits, and keeps nothing."""

    class Says(_Undoing):
        def answer(self, proposal: bz.Proposal) -> bz.Values:
            if says:
                proposal.may_withdraw()
            return super().answer(proposal)

    taken: list[int] = []

    class Watched(bz.Search):
        def snapshot(self) -> Any:
            taken.append(self.steps)
            return super().snapshot()

    def run(oracle: _Undoing) -> bz.Search:
        taken.clear()
        s = Watched(np.ones(3), bz.RankBased(0.1, 4), bz.SGD(0.1), seed=4)
        for _ in s.run(wrap(oracle), steps=6):
            pass
        return s

    plain, oracle = run(_Undoing({})), Says({4: 3})
    assert taken == [0]
    np.testing.assert_array_equal(run(oracle).x, plain.x)
    assert oracle.answered == ([0, 1, 2, 3, 3, 4, 5] if says else [0, 1, 2, 3, 0, 1, 2, 3, 4, 5])
    assert len(taken) == (8 if says else 1)


@pytest.mark.parametrize(
    "wrap",
    [RankOnly, lambda o: Repeat(o, 1), lambda o: Timeout(o, 60), _Bare],
    ids=["rank", "repeat", "timeout", "own"],
)
def test_answers_can_be_taken_back_through_wrappers_and_by_every_driver(wrap: Any) -> None:
    def ends(back: dict[int, int]) -> list[Any]:
        x = []
        s = bz.Search(np.ones(3), bz.RankBased(0.1, 4), bz.SGD(0.1), seed=4)
        for _ in s.run(wrap(_Undoing(back)), steps=5):
            pass
        x.append(s.x)
        estimator = bz.RankBased(0.1, 4), bz.SGD(0.1)
        x.append(bz.minimize(wrap(_Undoing(back)), np.ones(3), estimator, budget=20, seed=4).center)
        return x

    for plain, undone in zip(ends({}), ends({3: 1, 4: 4}), strict=True):
        np.testing.assert_array_equal(plain, undone)


def test_an_answer_of_an_earlier_run_cannot_be_taken_back_in_a_later_one() -> None:
    s = bz.Search(np.ones(3), bz.RandomVector(1e-3, 2), bz.SGD(0.1), seed=4)
    assert [r.step for r in s.run(_Undoing({2: 1}), steps=3)] == [0, 1, 1, 2]
    assert [r.step for r in s.run(_Undoing({4: 3}), steps=2)] == [3, 3, 4]
    with pytest.raises(bz.Rewind) as raised:
        list(s.run(_Undoing({6: 4}), steps=3))
    assert raised.value.step == 4


def test_proposals_ahead_are_asked_before_the_present_one_is_told() -> None:
    s = bz.Search(np.ones(3), bz.RandomVector(1e-3, 2), bz.SGD(0.1), seed=4, budget=16)
    oracle = _Undoing({})
    for _ in s.run(oracle, ahead=2):
        pass
    assert oracle.answered == [0, 1, 2, 3]
    assert oracle.shown == [[1, 2], [2, 3], [3], []]


def test_answers_that_may_be_taken_back_need_no_journal(tmp_path: Path) -> None:
    with bz.Search(np.ones(3), bz.RandomVector(1e-3, 2), journal=tmp_path / "j.jsonl") as s:
        for oracle in (_Undoing({}), RankOnly(_Undoing({})), _Bare(_Undoing({}))):
            with pytest.raises(bz.JournalError, match=r"`_Undoing`: it takes answers back. Search without a journal"):
                next(s.run(oracle, steps=1))
        p = s.ask()
        with pytest.raises(bz.JournalError, match="it takes answers back"):
            s.tell(p, _Undoing({}).answer(p))
    s = bz.Search(np.ones(3), bz.RandomVector(1e-3, 2))
    with pytest.raises(ValueError, match="ahead"):
        next(s.run(_Undoing({}), steps=1, ahead=-1))
