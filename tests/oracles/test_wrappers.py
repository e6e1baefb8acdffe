"""Wrappers around oracles: what they answer, when, and what they pass on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo.learning import Learning
from blackbox_zo.testing import check_oracle, check_wrapper
from oracles import Cache, CommandOracle, FunctionOracle, RankOnly, Repeat, Timeout
from tests.oracles.helpers import Scripted, ended, proposal_of, wait_for

NAN = float("nan")

WRAPPERS: list[Callable[[Any], Any]] = [
    lambda oracle: Repeat(oracle, 2),
    RankOnly,
    Cache,
    lambda oracle: Timeout(oracle, 60),
]


def values(answer: bz.Feedback) -> list[float]:
    assert isinstance(answer, bz.Values)
    return [float(value) for value in answer.values]


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_each_wrapper_is_an_oracle(wrap: Callable[[Any], Any]) -> None:
    failing = np.array([7.0, 7.0])
    inner = FunctionOracle(lambda x: NAN if np.array_equal(x, failing) else float(x @ x))
    check_oracle(wrap(inner), [1.0, 2.0], failing=failing)
    check_wrapper(wrap, [1.0, 2.0])


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_calls_and_close_are_passed_on(wrap: Callable[[Any], Any]) -> None:
    inner = Scripted(lambda i, x: float(i))
    outer = wrap(inner)
    for _ in outer.parts(proposal_of([[1.0], [2.0]])) if not isinstance(outer, RankOnly) else ():
        pass
    assert outer.calls == inner.calls
    outer.close()
    assert inner.closed == 1


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_an_oracle_may_be_any_object_that_answers(wrap: Callable[[Any], Any]) -> None:
    class Plain:
        def answer(self, proposal: bz.Proposal) -> bz.Feedback:
            return bz.Values(proposal.points[:, 0])

    outer = wrap(Plain())
    assert not hasattr(outer, "calls")
    outer.close()
    answer = outer.answer(proposal_of([[2.0], [1.0]]))
    assert answer.ranking().groups() == bz.Values([2.0, 1.0]).ranking().groups()


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_what_is_no_oracle_is_refused(wrap: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"needs an oracle, got <function.*`FunctionOracle`"):
        wrap(lambda x: 1.0)


@pytest.mark.parametrize("wrap", [WRAPPERS[0], WRAPPERS[2], WRAPPERS[3]])
def test_rankings_are_refused_where_values_are_needed(wrap: Callable[[Any], Any]) -> None:
    inner = RankOnly(FunctionOracle(lambda x: float(x[0])))
    with pytest.raises(bz.FeedbackError, match=r"Cannot use `(Repeat|Cache|Timeout)`.*answered `Ranking`"):
        wrap(inner).answer(proposal_of([[2.0], [1.0]]))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda oracle: Repeat(oracle, 0), r"`Repeat\(n=...\)` must be a whole number of at least 1, got 0"),
        (lambda oracle: RankOnly(oracle, 0), r"`RankOnly\(n_ranked=...\)`"),
        (lambda oracle: Timeout(oracle, 0.0), r"`Timeout\(seconds=...\)` must be a positive number, got 0"),
    ],
)
def test_bad_arguments(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make(Scripted(lambda i, x: 0.0))


# -------------------------------------------------------------------------------------------------------- Repeat


def test_repeat_answers_the_mean_and_its_error() -> None:
    replies = {0: [1.0, 2.0, 6.0], 1: [4.0, NAN, 8.0], 2: [NAN, NAN, NAN], 3: [NAN, 5.0, NAN]}

    def reply(i: int, x: Any) -> tuple[float, dict[str, Any]]:
        value = replies[i].pop(0)
        return value, {"error": f"bad {i}"} if np.isnan(value) else {"note": value}

    inner = Scripted(reply)
    answer = Repeat(inner, 3).answer(proposal_of([[0.0], [0.0], [0.0], [0.0]]))
    assert inner.calls == 12 and inner.asked == [0, 1, 2, 3] * 3
    assert answer.stderr is not None
    np.testing.assert_allclose(answer.values, np.array([3.0, 6.0, NAN, 5.0]))
    np.testing.assert_allclose(answer.stderr, np.array([np.sqrt(7 / 3), 2.0, NAN, NAN]))
    assert answer.info == (
        {"note": 1.0},
        {"note": 4.0, "failed_repetitions": 1},
        {"error": "bad 2"},
        {"note": 5.0, "failed_repetitions": 2},
    )


def test_repeat_streams_its_last_round() -> None:
    parts = list(Repeat(Scripted(lambda i, x: float(i)), 4).parts(proposal_of([[0.0]] * 3, first_id=5)))
    assert [ids.tolist() for ids, _ in parts] == [[5], [6], [7]]


def test_repeat_lessens_noise() -> None:
    rng = np.random.default_rng(0)
    oracle = Repeat(FunctionOracle(lambda x: float(rng.normal())), 400)
    answer = oracle.answer(proposal_of(np.zeros((5, 1))))
    assert answer.stderr is not None
    assert np.abs(answer.values).max() < 0.25
    np.testing.assert_allclose(answer.stderr, 0.05, rtol=0.2)


# ------------------------------------------------------------------------------------------------------ RankOnly


def test_rank_only() -> None:
    replies = [3.0, NAN, 1.0, 2.0, 1.0]
    answer = RankOnly(FunctionOracle(lambda x: replies[int(x[0])])).answer(proposal_of(np.arange(5.0)[:, None]))
    assert isinstance(answer, bz.Ranking) and answer.groups() == [[2, 4], [3], [0]]
    answer = RankOnly(FunctionOracle(lambda x: replies[int(x[0])]), 2).answer(proposal_of(np.arange(5.0)[:, None]))
    assert answer.groups() == [[2, 4]]
    assert RankOnly(RankOnly(FunctionOracle(lambda x: float(x[0])), 3), 1).answer(
        proposal_of(np.arange(5.0)[:, None])
    ).groups() == [[0]]


def test_rank_only_serves_a_ranking_method() -> None:
    s = bz.Search(np.full(3, 2.0), bz.RankBased(0.1, 6), bz.SGD(0.1))
    for _ in s.run(RankOnly(FunctionOracle(lambda x: float(x @ x))), steps=200):
        pass
    assert float(np.linalg.norm(s.x)) < 0.5


# --------------------------------------------------------------------------------------------------------- Cache


def test_cache_asks_once_within_and_across_proposals() -> None:
    def reply(i: int, x: Any) -> tuple[float, dict[str, Any]]:
        return (NAN if x[0] == 3 else float(x[0])), {"by": i}

    inner = Scripted(reply)
    cache, learning = Cache(inner), Learning()
    answer = cache.answer(first := proposal_of([[5.0], [3.0], [5.0], [1.0]], learning=learning))
    ended(first)
    np.testing.assert_array_equal(answer.values, [5.0, NAN, 5.0, 1.0])
    assert answer.info == ({"by": 0}, {"by": 1}, {"by": 0}, {"by": 3})
    assert inner.asked == [0, 1, 3]
    answer = cache.answer(second := proposal_of([[1.0], [2.0], [3.0]], step=1, first_id=4, learning=learning))
    ended(second)
    np.testing.assert_array_equal(answer.values, [1.0, 2.0, NAN])
    assert inner.asked == [0, 1, 3, 5]
    assert values(cache.answer(proposal_of([[2.0]], step=2, first_id=7, learning=learning))) == [2.0]
    assert cache.calls == 4


def test_cache_tells_points_apart_by_their_bits() -> None:
    inner = Scripted(lambda i, x: float(i))
    points = [[1.0], [np.nextafter(1.0, 2.0)], [0.0], [1.0]]
    assert values(Cache(inner).answer(proposal_of(points))) == [0.0, 1.0, 2.0, 0.0]


def test_cache_streams_the_known_first() -> None:
    class Backwards(Scripted):
        def order(self, n: int) -> range:
            return range(n - 1, -1, -1)

    cache, learning = Cache(Backwards(lambda i, x: float(x[0]))), Learning()
    cache.answer(first := proposal_of([[2.0]], learning=learning))
    ended(first)
    parts = list(cache.parts(proposal_of([[1.0], [2.0], [3.0], [1.0], [2.0]], first_id=10, learning=learning)))
    assert [(ids.tolist(), values(part)) for ids, part in parts] == [
        ([11, 14], [2.0, 2.0]),
        ([12], [3.0]),
        ([10, 13], [1.0, 1.0]),
    ]


def test_cache_keeps_standard_errors() -> None:
    replies = iter([1.0, 3.0])
    cache, learning = Cache(Repeat(FunctionOracle(lambda x: next(replies)), 2)), Learning()
    for step in range(2):
        answer = cache.answer(proposal := proposal_of([[0.0]], step, step, learning))
        ended(proposal)
        assert answer.stderr is not None and (answer.values[0], answer.stderr[0]) == (2.0, 1.0)


# ------------------------------------------------------------------------------------------------------- Timeout


def test_timeout_fails_what_has_not_arrived_and_goes_on() -> None:
    hold, asked = threading.Event(), []

    def reply(i: int, x: Any) -> float:
        asked.append(i)
        if x[0] == 1:
            hold.wait(30)
        return float(x[0])

    oracle = Timeout(Scripted(reply), 0.4)
    begun = time.monotonic()
    parts = list(oracle.parts(proposal_of([[0.0], [1.0], [2.0]])))
    assert 0.4 <= time.monotonic() - begun < 5
    assert [ids.tolist() for ids, _ in parts] == [[0], [1, 2]]
    late = parts[1][1]
    assert isinstance(late, bz.Values) and np.isnan(late.values).all()
    assert late.info == ({"error": "no answer within 0.4 s"},) * 2
    assert values(oracle.answer(proposal_of([[3.0], [4.0]], step=1, first_id=3))) == [3.0, 4.0]  # while it still hangs
    hold.set()
    wait_for(lambda: not any(t.name == "timeout" for t in threading.enumerate()))
    assert asked == [0, 1, 3, 4]  # the abandoned thread stopped at its next answer: 2 is never asked


def test_timeout_counts_failures_in_a_search() -> None:
    def fun(x: Any) -> float:
        time.sleep(0.5 if x[0] > 0 else 0.0)
        return float(x[0] ** 2)

    s = bz.Search(np.zeros(1), bz.RandomVector(0.1, 1), bz.SGD(0.01))
    reports = list(s.run(Timeout(FunctionOracle(fun), 0.2), steps=2))
    assert reports[-1].nfev == 4 and reports[-1].failed >= 2


def test_timeout_streams_and_passes_exceptions_on() -> None:
    def reply(i: int, x: Any) -> float:
        if i == 1:
            raise ZeroDivisionError("one")
        return 0.0

    parts = Timeout(Scripted(reply), 30).parts(proposal_of([[0.0], [0.0]]))
    assert next(parts)[0].tolist() == [0]
    with pytest.raises(ZeroDivisionError, match="one"):
        next(parts)


def test_timeout_leaves_an_unfinished_answer_to_the_search() -> None:
    class Half(bz.Oracle):
        def answer(self, proposal: bz.Proposal) -> bz.Feedback:
            raise NotImplementedError

        def parts(self, proposal: bz.Proposal) -> Iterator[tuple[Any, bz.Feedback]]:
            yield proposal.ids[:1], bz.Values([1.0])

    s = bz.Search(np.zeros(1), bz.RandomVector(0.1, 1), bz.SGD(0.01))
    with pytest.raises(bz.TellError, match="left 1 of 2 queries of step 0 unanswered"):
        list(s.run(Timeout(Half(), 30), steps=1))


def asking() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "timeout"]


def test_timeout_ends_programs_when_time_is_up() -> None:
    inner = CommandOracle(["{python}", "-c", "import time; time.sleep(60)", "{x}"], ["x=0:1"])
    oracle = Timeout(inner, 0.5)
    begun = time.monotonic()
    assert np.isnan(oracle.answer(proposal_of([[0.5]])).values).all()
    assert not inner._running and not asking() and time.monotonic() - begun < 10


@pytest.mark.parametrize("wrap", [lambda oracle: oracle, lambda oracle: Cache(Repeat(oracle, 1))])
def test_timeout_ends_the_hung_call_of_a_worker_and_nothing_else(wrap: Callable[[Any], Any]) -> None:
    """Every step has a call that hangs; the rest of it is answered, and the pool is as good as before."""

    def fun(x: Any) -> float:
        if x[0] == 1.0:
            time.sleep(600)
        return float(x[0])

    inner = FunctionOracle(fun, workers=2)
    try:
        inner.answer(proposal_of([[0.0]] * 40))  # started, and known to be quick
        oracle = Timeout(wrap(inner), 2.0)
        for step in range(2):
            points = np.arange(40.0)[:, None] + 0.5
            points[17] = 1.0
            answer = oracle.answer(proposal_of(points, step, 40 * step))
            assert np.flatnonzero(np.isnan(answer.values)).tolist() == [17]
            good = np.isfinite(answer.values)
            np.testing.assert_array_equal(answer.values[good], points[good, 0])
            assert not asking()
    finally:
        inner.close()


def test_many_quick_answers_of_workers_within_a_timeout() -> None:
    """Each ends while the one that waited is already taking its leave."""
    inner = FunctionOracle(lambda x: float(x[0]), workers=2)
    try:
        oracle = Timeout(inner, 60.0)
        for step in range(400):
            points = np.arange(4.0)[:, None] + step
            assert oracle.answer(proposal_of(points, step, 4 * step)).values.tolist() == points[:, 0].tolist()
    finally:
        inner.close()


def test_closing_a_timeout_ends_what_is_under_way() -> None:
    inner = FunctionOracle(lambda x: time.sleep(600) if x[0] == 1.0 else float(x[0]), workers=2)
    try:
        parts = Timeout(inner, 600.0).parts(proposal_of([[1.0], [2.0], [3.0]]))
        next(parts)
        begun = time.monotonic()
        parts.close()  # type: ignore[attr-defined]
        assert time.monotonic() - begun < 60 and not asking()  # the call takes ten minutes
        assert inner.answer(proposal_of([[4.0]])).values.tolist() == [4.0]
    finally:
        inner.close()


def test_wrappers_nest() -> None:
    inner = Scripted(lambda i, x: float(x[0]))
    oracle = Timeout(Cache(Repeat(inner, 3)), 30)
    assert values(oracle.answer(proposal_of([[2.0], [2.0], [1.0]]))) == [2.0, 2.0, 1.0]
    assert oracle.calls == 6


def test_take_keeps_step_and_ids() -> None:
    whole = proposal_of([[1.0], [2.0], [3.0]], step=4, first_id=7)
    some = whole.take(np.array([2, 0]))
    assert (some.step, some.ids.tolist(), some.points.tolist()) == (4, [9, 7], [[3.0], [1.0]])
