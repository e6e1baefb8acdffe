"""`Portfolio`: x0 first, members in turn, restarts, noise, failures, and members that break."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo._typing import Floats, override
from blackbox_zo.estimators._portfolio_state import AGAIN

from ..helpers import sphere


def bowl(x: Floats) -> float:
    return float(sphere(x - 1.0))


ES = bz.EvolutionStrategy(0.3)


class Seen:
    """A function that keeps what it was asked."""

    def __init__(self, fun: Any) -> None:
        self.fun, self.x, self.values = fun, list[Floats](), list[float]()

    def __call__(self, x: Floats) -> float:
        self.x.append(np.array(x))
        self.values.append(float(self.fun(x)))
        return self.values[-1]


def rastrigin(x: Floats) -> float:
    return float(10 * x.size + (x**2 - 10 * np.cos(2 * np.pi * x)).sum())


@pytest.mark.parametrize("d", [1, 5, 150, 1500])
@pytest.mark.parametrize("budget", [1, 2, 3, 20])
def test_x0_comes_first_and_the_result_is_never_worse(d: int, budget: int) -> None:
    f = Seen(lambda x: np.abs(x).sum() + 3 * np.abs(np.sin(5 * x)).sum())  # x0 is the best there is
    r = bz.minimize(f, np.zeros(d), budget=budget)
    assert not f.x[0].any()
    assert (r.fun, r.nfev, len(f.x)) == (0.0, budget, budget)


@pytest.mark.parametrize("d", [1000, 10_000, 100_000])
@pytest.mark.parametrize("bounds", [None, (-1.0, 1.0)])
def test_many_variables_gain_what_their_queries_can_tell(d: int, bounds: Any) -> None:
    # n differences tell of n coordinates, so a sphere can lose the share n / d of its value
    n = 300
    r = bz.minimize(lambda x: float(((x - 0.3) ** 2).sum()), np.zeros(d), budget=n, bounds=bounds)
    gained = 0.09 * d - r.fun
    assert r.success
    assert gained > 0.7 * 0.09 * n


def test_members_run_in_order_then_the_one_that_spent_least_restarts() -> None:
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    r = bz.minimize(lambda x: rastrigin(turn @ x), np.full(3, 2.2), budget=6000, bounds=(-5, 5), seed=1)
    names = [run.member for run in r.trace]
    assert names[:4] == ["CoordinateSearch", "TrustRegion", "EvolutionStrategy", "EvolutionStrategy"]
    assert "TrustRegion" in names[4:] and "CoordinateSearch" not in names[4:]
    assert sum(run.queries for run in r.trace) + names[4:].__len__() + 2 + 3 == 6000  # a jump each, x0 twice, x thrice
    assert all(run.ended for run in r.trace[:-1])
    assert not r.trace[-1].ended
    for before, after in zip(r.trace, r.trace[1:], strict=False):
        assert after.before == pytest.approx(before.after, rel=1e-12)  # x is asked again, where rounding has moved it
        assert after.after <= after.before
    assert r.fun == min(run.after for run in r.trace) < 3.0  # the global minimum or a local one beside it


def test_the_end_of_a_budget_is_not_spent_at_one_point() -> None:
    f = Seen(rastrigin)
    bz.minimize(f, np.full(5, 3.1), budget=5000, bounds=(-5, 5))
    assert np.ptp(np.array(f.x[2500:]), axis=0).min() > 1.0


@pytest.mark.parametrize("value", [math.nan, 50.0])
@pytest.mark.parametrize("bounds", [None, (-5, 5)])
def test_a_start_in_a_region_that_fails_or_is_flat_is_left(value: float, bounds: Any) -> None:
    r = bz.minimize(
        lambda x: value if np.linalg.norm(x - 3) < 2 else float(x @ x), np.full(5, 3.0), budget=2000, bounds=bounds
    )
    assert r.fun < 1e-9


def test_a_function_that_always_fails_says_so() -> None:
    r = bz.minimize(lambda x: math.nan, np.zeros(3), budget=50)
    assert (r.status, r.success, r.nfev) == (bz.Ended.FAILED, False, 50)


def test_under_noise_the_result_is_where_the_search_stands_and_its_error_is_right() -> None:
    found = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        r = bz.minimize(lambda x, rng=rng: bowl(x) + rng.normal(), np.full(5, 3.0), budget=1500, seed=seed)
        assert {run.member for run in r.trace} == {"NoisyQuasiNewton", "EvolutionStrategy"}
        assert r.luckiest.value < r.fun - 1
        assert bowl(r.x) < 2.0
        found.append((r.fun - bowl(r.x)) / r.stderr)
    assert np.abs(found).max() < 5
    assert np.median(np.abs(found)) < 1.5


def test_a_sum_in_another_order_is_no_noise() -> None:
    rng = np.random.default_rng(0)
    r = bz.minimize(lambda x: bowl(x) * (1 + 1e-14 * rng.standard_normal()), np.full(4, 3.0), budget=400)
    assert [run.member for run in r.trace[:2]] == ["CoordinateSearch", "TrustRegion"]  # which noise would leave out
    assert (r.stderr, r.fun < 1e-9) == (0.0, True)


def test_standard_errors_are_noise() -> None:
    class Told(bz.Oracle):
        @override
        def answer(self, proposal: bz.Proposal) -> bz.Values:
            return bz.Values((proposal.points**2).sum(axis=1), stderr=np.full(proposal.n, 0.1))

    assert {run.member for run in bz.minimize(Told(), np.ones(3), budget=100).trace} == {
        "NoisyQuasiNewton",
        "EvolutionStrategy",
    }


def noisy(f: Any, size: float = 1.0, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return lambda x: f(x) + size * rng.standard_normal()


TURNS = bz.Portfolio((bz.NoisyQuasiNewton(0.5), bz.EvolutionStrategy(0.5)))


def test_under_noise_members_take_turns_each_as_long_as_all_before() -> None:
    r = bz.minimize(noisy(bowl, 0.1), np.full(5, 3.0), TURNS, budget=3000)
    turns = [run.queries for run in r.trace]
    assert [run.member for run in r.trace][:2] == ["NoisyQuasiNewton", "EvolutionStrategy"]
    assert {run.ended for run in r.trace[:-1]} == {"its turn was over"}
    for i, n in enumerate(turns[:-1]):
        least = max(25 * 5, sum(turns[:i]))
        assert least <= n < least + 30
    spent = [
        sum(run.queries for run in r.trace if run.member == name) for name in (r.trace[0].member, r.trace[1].member)
    ]
    assert min(spent) > 0.2 * max(spent)


def test_a_member_goes_on_from_where_it_stood() -> None:
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((10, 10)))[0]
    scales = np.logspace(0, 6, 10)
    r = bz.minimize(noisy(lambda x: float(scales @ (turn @ x) ** 2)), np.full(10, 1.0), TURNS, budget=8000)
    assert float(scales @ (turn @ r.x) ** 2) < 5.0  # which the CMA-ES, begun here with radius 0.5, cannot
    assert not np.array_equal(r.x, r.luckiest.x)


def test_under_noise_a_member_that_is_over_is_left_out() -> None:
    over = []
    for seed in range(10):
        r = bz.minimize(noisy(bowl, 1e3, seed), np.full(5, 3.0), TURNS, budget=2000)
        over.append([run.ended for run in r.trace] == ["noise hides the differences around the start", ""])
    assert sum(over) >= 8  # the standard deviation is of four values


def test_noise_that_shows_only_later_is_noticed_when_the_next_member_begins() -> None:
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((5, 5)))[0]

    def f(x: Floats) -> float:  # exact far from the optimum
        value = rastrigin(turn @ x)
        return value + (0.1 * rng.standard_normal() if value < 60 else 0.0)

    r = bz.minimize(f, np.full(5, 3.1), budget=3000, bounds=(-5, 5))
    assert r.trace[0].member == "CoordinateSearch"
    assert r.stderr > 0
    assert "NoisyQuasiNewton" in {run.member for run in r.trace}


@pytest.mark.parametrize(("gap", "noisy"), [(0.0, False), (1e-8, False), (1e-6, True)])
def test_rounding_on_the_way_back_to_the_best_point_is_no_noise(gap: float, noisy: bool) -> None:
    """The first run went from 46 to 1; then the best point is asked again."""
    variable = bz.Vector(np.full(3, 2.0))
    state = TURNS.start(variable)._replace(phase=AGAIN, before=1.0, best=1.0, ledger=np.array([[0.0, 10.0, 46.0, 1.0]]))
    queries = TURNS.sample(state, variable, bz.Key(0, 5))
    state, _ = TURNS.estimate(state, variable, queries, bz.Values([1.0 + gap]))
    assert (state.noise > 0) == noisy


def test_noise_is_measured_where_answers_may_fail_for_good() -> None:
    rng, calls = np.random.default_rng(0), [0]

    def f(x: Floats) -> float:
        calls[0] += 1
        at_x0 = bool((x == 3.0).all())
        return math.nan if at_x0 and calls[0] > 2 else bowl(x) + 0.1 * rng.standard_normal()

    r = bz.minimize(f, np.full(4, 3.0), budget=400)
    assert bowl(r.x) < 1.0


def test_what_is_meant_for_noise_works_without_if_there_is_nothing_else() -> None:
    assert bz.minimize(bowl, np.full(3, 2.0), bz.Portfolio((bz.NoisyQuasiNewton(),)), budget=400).fun < 1e-6
    exact = bz.Portfolio((bz.QuasiNewton(), bz.NoisyQuasiNewton()))
    trace = bz.minimize(bowl, np.full(3, 2.0), exact, budget=400).trace
    assert {run.member for run in trace} == {"QuasiNewton"}


def test_rankings_go_to_a_member_that_takes_them() -> None:
    oracle = bz.RankOnly(bz.FunctionOracle(bowl))
    r = bz.minimize(oracle, np.full(4, 3.0), budget=1000)
    assert bowl(r.center) < 1e-3
    assert {run.member for run in r.trace if run.queries > 1} <= {"OrdinalCoordinateSearch", "OrdinalSurrogate"}


def test_a_member_that_needs_rankings_is_left_out_of_values() -> None:
    r = bz.minimize(bowl, np.full(4, 3.0), bz.Portfolio((bz.OrdinalSurrogate(0.3), bz.EvolutionStrategy(0.3))), 600)
    assert {run.member for run in r.trace} == {"EvolutionStrategy"}


# ------------------------------------------------------------------------------------------- members that break


@final
@dataclass(frozen=True)
class Broken(bz.Estimator):
    """Fails in one way."""

    how: str

    @override
    def start(self, variable: bz.Variable) -> tuple[()]:
        if self.how == "start" and variable.x[0] != 3.0:  # not at x0
            raise KeyError("no way to begin here")
        return ()

    @override
    def over(self, state: tuple[()], variable: bz.Variable) -> str:
        if self.how == "over":
            raise LookupError("who knows")
        return ""

    @override
    def sample(self, state: tuple[()], variable: Any, key: bz.Key) -> bz.Queries:
        if self.how == "sample":
            raise RuntimeError("out of ideas")
        scale = np.full(2, math.nan if self.how == "points" else 0.1)
        if self.how == "rows":
            rows = np.full((2, variable.size), math.inf)
            return bz.Queries(bz.Dense(variable.blocks, rows), np.arange(2), scale, variable.origin)
        return bz.Queries(bz.Gaussian(variable.blocks, 2, key), np.arange(2), scale, variable.origin)

    @override
    def estimate(
        self, state: tuple[()], variable: Any, queries: bz.Queries, feedback: Any
    ) -> tuple[tuple[()], bz.Step]:
        if self.how == "estimate":
            raise ZeroDivisionError("by itself")
        if self.how == "far":
            far = bz.Dense(variable.blocks, np.full((1, variable.size), math.nan))
            return (), bz.Step(far, np.ones(1))
        return (), bz.Step(queries.directions, np.full(2, math.nan if self.how == "move" else 0.0))


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("sample", "RuntimeError: out of ideas"),
        ("estimate", "ZeroDivisionError: by itself"),
        ("move", "its move is not finite"),
        ("far", "its move is not finite"),
        ("points", "its points are not finite"),
        ("rows", "its points are not finite"),
        ("over", "LookupError: who knows"),
    ],
)
def test_a_member_that_breaks_is_dropped_by_name_and_the_others_go_on(how: str, why: str) -> None:
    f = Seen(bowl)
    with pytest.warns(UserWarning, match=f"`Broken` was dropped from the portfolio, and the others go on: .*{why}"):
        r = bz.minimize(f, np.full(3, 3.0), bz.Portfolio((Broken(how), ES)), budget=600)
    assert r.fun < 1e-6
    assert [run.member for run in r.trace].count("Broken") == 1
    assert why in r.trace[0].ended
    assert np.isfinite(f.x).all()


def test_a_member_that_cannot_begin_elsewhere_is_dropped() -> None:
    with pytest.warns(UserWarning, match="`Broken` was dropped.*no way to begin here"):
        r = bz.minimize(bowl, np.full(3, 3.0), bz.Portfolio((ES, Broken("start"))), budget=3000)
    assert [run.member for run in r.trace].count("Broken") == 1
    assert len(r.trace) > 3


def test_under_rankings_a_member_that_breaks_is_dropped_too() -> None:
    @final
    @dataclass(frozen=True)
    class Ranks(bz.Estimator):
        accepts = (bz.Values, bz.Ranking)

        @override
        def start(self, variable: bz.Variable) -> tuple[()]:
            return ()

        @override
        def sample(self, state: tuple[()], variable: Any, key: bz.Key) -> bz.Queries:
            raise RuntimeError("no ideas")

        @override
        def estimate(self, *args: Any) -> Any: ...

    with pytest.warns(UserWarning, match="`Ranks` was dropped"):
        r = bz.minimize(bz.RankOnly(bz.FunctionOracle(bowl)), np.full(3, 3.0), bz.Portfolio((Ranks(), ES)), budget=900)
    assert bowl(r.center) < 1e-3


def test_if_no_member_is_left_the_run_ends_and_says_why() -> None:
    with pytest.warns(UserWarning), pytest.raises(RuntimeError, match=r"No member .* is left.*by itself"):
        bz.minimize(bowl, np.ones(3), bz.Portfolio((Broken("estimate"),)), budget=100)


# ------------------------------------------------------------------------------------------- restarts


def test_one_member_is_restarted_with_growing_populations() -> None:
    f = Seen(lambda x: 0.0 if np.abs(x).max() < 1e-3 else 1.0 + bowl(x))
    r = bz.minimize(
        f, np.full(2, 2.0), bz.Portfolio((bz.EvolutionStrategy(0.3, 6),), (2.0,)), budget=4000, bounds=(-5, 5)
    )
    assert len(r.trace) >= 3


def test_one_member_needs_no_tuple() -> None:
    assert bz.Portfolio(ES) == bz.Portfolio((ES,)) == bz.Portfolio([ES])  # type: ignore[arg-type]


def test_late_answers_of_a_run_that_is_over_move_nothing() -> None:
    search = bz.Search(np.full(3, 2.0), bz.Portfolio((bz.QuasiNewton(), ES)), seed=0)
    first, second = search.ask(), search.ask(repeats=True)
    for proposal in (first, second):
        search.tell(proposal, bz.Values([bowl(x) for x in proposal.points]))
    third = search.ask()
    x = search.x.copy()
    search.tell(third, bz.Values([bowl(y) for y in third.points]))
    assert search.state.runs[0] == 1
    assert np.isfinite(x).all()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"members": ()}, "must be at least one estimator, got none"),
        ({"members": (3,)}, "must be estimators, such as `QuasiNewton\\(\\)`, got 3"),
        ({"members": bz.QuasiNewton}, "must be estimators, such as `QuasiNewton\\(\\)`, got <class"),
        ({"members": (bz.RandomVector(0.1),)}, "`RandomVector` estimates a gradient, which Adam"),
        ({"members": (bz.RankBased(0.1, 8),)}, "`RankBased` estimates a gradient, which ClipUp"),
        ({"members": (ES,), "growth": (1.0, 2.0)}, "has 2 numbers for 1 members"),
        ({"members": (ES,), "growth": (-1.0,)}, "must be numbers of at least 0, got -1.0"),
        (
            {"members": (bz.ConsensusBased(1.0, 9), bz.QuasiNewton()), "growth": 2.0},
            "2 for `QuasiNewton`, .* no `n_queries`",
        ),
        ({"members": (Broken(""),), "growth": (0.0,)}, "is 0 for `Broken`, which has no `radius`; give 1"),
        ({"members": (ES,), "spread": 0.0}, r"`Portfolio\(spread=...\)` must be a positive number"),
    ],
)
def test_bad_portfolios(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        bz.Portfolio(**given)


def test_what_looks_everywhere_restarts_where_nothing_else_is_left() -> None:
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    members = (Broken("sample"), bz.CoordinateSearch())
    with pytest.warns(UserWarning, match="dropped") as caught:
        r = bz.minimize(lambda x: rastrigin(turn @ x), np.full(3, 2.2), bz.Portfolio(members), 200, (-5, 5))
    assert len(caught) == 1
    assert [run.member for run in r.trace[1:]] == ["CoordinateSearch"] * (len(r.trace) - 1)
    assert len(r.trace) > 5
