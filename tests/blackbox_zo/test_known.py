"""Values that somebody else measured: what a search makes of them, in which order, and after a kill."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo._typing import Floats
from blackbox_zo.journal import Known

TARGET = np.array([1.0, -2.0, 0.5])


def bowl(x: Floats) -> float:
    return float(((x - TARGET) ** 2).sum())


def pairs(n: int, seed: int = 0, spread: float = 1.0) -> list[tuple[Floats, float]]:
    points = TARGET + spread * np.random.default_rng(seed).normal(size=(n, 3))
    return [(point, bowl(point)) for point in points]


def asked(**options: Any) -> tuple[Any, list[Floats]]:
    """The result of a run, and the points that it asked."""
    seen: list[Floats] = []

    def fun(x: Floats) -> float:
        seen.append(np.array(x))
        return bowl(x)

    return bz.minimize(fun, **options), seen


def bits(search: bz.Search) -> dict[str, Any]:
    return search.state_dict()


def same(a: bz.Search, b: bz.Search) -> bool:
    one, two = bits(a), bits(b)
    return one.keys() == two.keys() and all(np.array_equal(one[k], two[k], equal_nan=True) for k in one)


def steps(search: bz.Search, n: int) -> bz.Search:
    for _ in range(n):
        proposal = search.ask()
        search.tell(proposal, bz.Values([bowl(x) for x in proposal.points]))
    return search


# -------------------------------------------------------------------------------------------------- what it is good for


def test_known_values_cost_nothing_and_the_search_begins_at_the_best() -> None:
    known = pairs(30)
    best = min(known, key=lambda pair: pair[1])
    result, seen = asked(known=known, budget=40)
    assert result.nfev == len(seen) == 40
    assert np.array_equal(seen[0], best[0]) and not np.array_equal(seen[1], best[0])  # it agrees
    assert result.fun < 1e-12


def test_x0_is_asked_and_the_first_member_begins_at_the_better_known_point() -> None:
    near = TARGET + 1e-3
    result, seen = asked(x0=np.full(3, 9.0), known=[(near, bowl(near))], budget=20)
    assert np.array_equal(seen[0], np.full(3, 9.0)) and np.array_equal(seen[1], seen[0])
    assert max(np.abs(x - TARGET).max() for x in seen[2:]) < 1.01  # the first moves are of one unit
    assert result.fun < 1e-5


def test_a_known_point_that_nothing_beats_is_the_result() -> None:
    result, seen = asked(x0=np.zeros(3), known=[(TARGET, -1.0)], budget=5)
    assert len(seen) == 5 and np.array_equal(result.x, TARGET) and result.fun == -1.0
    assert result.success and result.luckiest.known and result.luckiest.id == -1


def test_before_any_answer_best_is_the_known_one() -> None:
    search = bz.Search(np.zeros(3), bz.RandomVector(0.1, 2))
    assert (search.best.exists, search.best.known) == (False, False)
    search.tell_known([TARGET, np.ones(3)], [math.nan, 2.0])
    assert (search.best.exists, search.best.known) == (True, True)
    assert (search.best.value, search.best.id, search.nfev) == (2.0, -1, 0)


def test_a_target_that_is_known_to_be_reached_ends_the_run_before_a_query() -> None:
    result, seen = asked(x0=np.zeros(3), known=[(TARGET, 0.0)], target=1e-3, budget=50)
    assert not seen and result.status == bz.Ended.TARGET and result.success and result.nfev == 0


def test_the_model_of_an_evolution_strategy_is_of_the_known_points() -> None:
    estimator = bz.EvolutionStrategy(0.3, model=True)
    plain, told = (bz.Search(TARGET + 0.4, estimator, seed=1) for _ in range(2))
    told.tell_known(*zip(*pairs(40), strict=True))
    first = [((search.ask().points - TARGET) ** 2).sum(axis=1).min() for search in (plain, told)]
    assert first[1] < 1e-12 < 1e-2 < first[0]  # the minimum of the fitted quadratic


def test_every_member_of_a_portfolio_has_the_known_points_when_it_begins() -> None:
    told: list[int] = []

    class Listening(bz.Estimator):
        def start(self, variable: bz.Variable) -> tuple[int]:
            return (0,)

        def sample(self, state: Any, variable: Any, key: bz.Key) -> bz.Queries:
            index = np.zeros(1, dtype=np.intp)
            return bz.Queries(bz.Coordinates(variable.blocks, np.arange(1)), index, np.zeros(1), variable.value)

        def estimate(self, state: Any, variable: Any, queries: Any, feedback: Any) -> tuple[Any, bz.Step]:
            return (state[0] + 1,), bz.Step(queries.directions, np.zeros(1))

        def over(self, state: Any, variable: Any) -> str:
            return "enough" if state[0] >= 3 else ""

        def inform(self, state: Any, variable: Any, points: Floats, values: Floats) -> Any:
            told.append(len(values))
            assert np.isfinite(values).all()
            return state

    search = bz.Search(np.zeros(3), bz.Portfolio((Listening(), Listening())), budget=9)
    search.tell_known([TARGET + 1, TARGET + 2, TARGET + 3], [3.0, 12.0, math.nan])
    steps(search, 9)
    assert told[:4] == [1, 2, 1, 2]  # x itself, and then both that did not fail, for each


def test_a_surrogate_points_downhill_in_its_first_step() -> None:
    plain, told = (bz.Search(TARGET + 1.0, bz.Surrogate(0.1, 2, 40), seed=1) for _ in range(2))
    told.tell_known(*zip(*pairs(30), strict=True))
    steps(plain, 6), steps(told, 6)
    assert bowl(told.x) < bowl(plain.x) < 3.0


def test_a_member_that_cannot_take_them_goes_on_without(recwarn: pytest.WarningsRecorder) -> None:
    class Deaf(bz.Estimator):
        inner = bz.EvolutionStrategy(0.3)

        def start(self, variable: bz.Variable) -> Any:
            return self.inner.start(variable)

        def sample(self, state: Any, variable: Any, key: bz.Key) -> bz.Queries:
            return self.inner.sample(state, variable, key)

        def estimate(self, state: Any, variable: Any, queries: Any, feedback: Any) -> tuple[Any, bz.Step]:
            return self.inner.estimate(state, variable, queries, feedback)

        def inform(self, state: Any, variable: Any, points: Floats, values: Floats) -> Any:
            if len(values) > 1 or not np.array_equal(points[0], variable.value):
                raise ZeroDivisionError("no ears")
            return state

    search = bz.Search(np.zeros(3), bz.Portfolio((Deaf(),)), budget=100)
    steps(search, 4).tell_known(*zip(*pairs(3), strict=True))
    assert str(recwarn.pop().message) == "`Deaf` goes on without known values: ZeroDivisionError: no ears"
    assert steps(search, 4).best.value < bowl(np.zeros(3))


def test_a_better_point_that_comes_later_is_where_the_next_restart_begins() -> None:
    portfolio = bz.Portfolio((bz.QuasiNewton(0.2),))
    search = bz.Search(np.array([2.2, 2.2]), portfolio, seed=0, budget=400)

    def rastrigin(x: Floats) -> float:
        return float(20 + (x**2 - 10 * np.cos(2 * np.pi * x)).sum())

    for _ in range(10):
        proposal = search.ask()
        search.tell(proposal, bz.Values([rastrigin(x) for x in proposal.points]))
    search.tell_known([[0.1, 0.1]], [rastrigin(np.array([0.1, 0.1]))])
    list(search.run(bz.FunctionOracle(rastrigin)))
    trace = portfolio.trace(search.state)
    assert trace[1].member == "QuasiNewton" and trace[1].before == rastrigin(np.array([0.1, 0.1]))
    assert trace[1].after < 1e-10


def test_a_start_that_is_known_to_fail_is_not_asked() -> None:
    _, seen = asked(x0=np.zeros(3), known=[(np.zeros(3), math.nan)], budget=20)
    assert len(seen) == 20 and not any(np.array_equal(x, np.zeros(3)) for x in seen)


def test_known_cells_of_a_grid_are_not_asked() -> None:
    from oracles import CommandOracle

    oracle = CommandOracle("{python} -c 'print({a} * {b})'", ["a=1:3:int", "b=1,2"])
    known = [(oracle.encode({"a": 1, "b": "1"}), 1.0), (oracle.encode({"a": 3, "b": "2"}), 6.0)]
    result = bz.minimize(oracle, oracle.x0, bounds=oracle.bounds, known=known, budget=100)
    assert result.nfev == 4 and result.fun == 1.0
    assert result.message == "All 6 points that there are were asked about or known."


@pytest.mark.parametrize(
    "options", [{"bounds": (-3, 3)}, {"unit": [1.0, 10.0, 0.1]}, {"bounds": [(-3, 3), (-2, -2), (0, 9)]}]
)
def test_bounds_and_units_hold_for_known_points_too(options: dict[str, Any]) -> None:
    known = [(np.array([0.9, -2.0, 0.6]), 0.02), (np.array([0.0, -2.0, 0.0]), 1.25)]
    result, seen = asked(known=known, budget=60, **options)
    assert np.allclose(seen[0], known[0][0], rtol=1e-15) and result.fun < 1e-9
    assert not np.allclose(seen[1], seen[0], rtol=1e-15)  # it was found again, whatever the unit


def test_structured_points_come_in_any_order_of_their_keys() -> None:
    seen: list[dict[str, Any]] = []

    def fun(p: dict[str, Any]) -> float:
        seen.append(p)
        return float((p["a"] - 1) ** 2 + (p["b"] ** 2).sum())

    result = bz.minimize(fun, {"a": 0.0, "b": np.ones(2)}, known=[({"b": [0.0, 0.1], "a": 0.9}, 0.02)], budget=40)
    assert list(seen[0]) == ["a", "b"] and result.fun < 1e-12
    first = bz.minimize(fun, known=[({"b": [0.0, 0.1], "a": 0.9}, 0.02)], budget=1)
    assert first.x["a"] == 0.9 and first.x["b"].tolist() == [0.0, 0.1]


# -------------------------------------------------------------------------------------------------- the journal


def test_the_same_values_are_told_once_and_others_in_order(tmp_path: Path) -> None:
    path, known = tmp_path / "run.jsonl", pairs(4)
    for budget, some in ((10, known[:2]), (20, known[:2]), (30, known), (40, known)):
        bz.minimize(bowl, known=some, budget=budget, journal=path)
    found = [line for line in bz.read_journal(path) if isinstance(line, Known)]
    assert [len(line.values) for line in found] == [2, 2]
    assert found[0].steps == 0 and found[1].steps > 0
    assert np.array_equal(found[0].points[0], known[0][0]) and found[0].values[0] == known[0][1]


def test_x0_is_that_of_the_run_even_if_a_better_point_is_known_by_now(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    bz.minimize(bowl, known=[(np.zeros(3), bowl(np.zeros(3)))], budget=10, journal=path)
    result = bz.minimize(bowl, known=[(TARGET, 0.0)], budget=20, journal=path)
    assert result.nfev == 20 and result.fun == 0.0


@pytest.mark.parametrize("when", range(0, 9))
@pytest.mark.parametrize(
    "estimator",
    [bz.EvolutionStrategy(0.3, model=True), bz.Portfolio((bz.QuasiNewton(0.2), bz.EvolutionStrategy(0.3, model=True)))],
    ids=["evolution", "portfolio"],
)
def test_a_kill_at_any_time_around_known_values_changes_no_bit(
    estimator: bz.Estimator, when: int, tmp_path: Path
) -> None:
    """Values are told after four steps, while the fifth is open; the file is cut after so many lines."""
    path, known = tmp_path / "run.jsonl", pairs(25)

    def go(journal: Path | None, from_step: int = 0) -> bz.Search:
        search = bz.Search(np.zeros(3), estimator, seed=2, journal=journal)
        for step in range(search.steps - len(search.waiting), 12):
            proposal = search.ask()
            if step == 4:
                search.tell_known(*zip(*known, strict=True))
            search.tell(proposal, bz.Values([bowl(x) for x in proposal.points]))
        return search

    whole = go(path)
    whole.close()
    lines = path.read_bytes().splitlines(keepends=True)
    place = next(i for i, line in enumerate(lines) if line.startswith(b'{"known"'))
    keep = place - 4 + when
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(b"".join(lines[:keep]) + lines[keep][: len(lines[keep]) // 2])
    with bz.Search(np.zeros(3), estimator, seed=2, journal=cut) as resumed:
        if keep > place:
            assert len(resumed._engine.past.known) == 25
        for step in range(resumed.steps - len(resumed.waiting), 12):
            proposal = resumed.ask()
            if step == 4:
                resumed.tell_known(*zip(*known, strict=True))  # again, where the line is there: told once
            resumed.tell(proposal, bz.Values([bowl(x) for x in proposal.points]))
        assert same(resumed, whole)
    assert cut.read_bytes() == path.read_bytes()


def test_values_told_at_random_times_with_steps_open_out_of_order_are_replayed(tmp_path: Path) -> None:
    """A random life: ask, tell any open step or a part of it, tell known values, and reopen from the file."""
    estimator = bz.EvolutionStrategy(0.3, model=True)
    for seed in range(6):
        rng, path = np.random.default_rng(seed), tmp_path / f"{seed}.jsonl"
        search, open_ = bz.Search(np.zeros(3), estimator, journal=path), list[bz.Proposal]()
        for _ in range(60):
            what = rng.random()
            if what < 0.4 and len(open_) < 3:
                open_.append(search.ask(repeats=True))
            elif what < 0.8 and open_:
                proposal = open_.pop(int(rng.integers(len(open_))))
                ids = rng.permutation(proposal.ids)
                for part in filter(len, (ids[:2], ids[2:])):
                    where = part - proposal.ids[0]
                    search.tell(proposal, bz.Values([bowl(proposal.points[i]) for i in where]), part)
            elif what < 0.9:
                search.tell_known(*zip(*pairs(3, int(rng.integers(4))), strict=True))
            else:
                before = bits(search)
                search.close()
                search = bz.Search(np.zeros(3), estimator, journal=path)
                waiting = set(search.waiting)
                open_ = [search.ask() for _ in range(len(waiting))]
                assert {p.step for p in open_} == waiting
                after = bits(search)
                shared = {k for k in before if not k.startswith("open/")}
                lost = int(before["step"]) - int(after["step"])  # asked last, and nowhere in the file
                assert lost >= 0
                for key in shared - {"step", "asked"}:
                    assert np.array_equal(before[key], after[key], equal_nan=True), key
        search.close()


def test_a_point_of_a_checkpoint_is_told_once_too() -> None:
    search = bz.Search(np.zeros(3), bz.EvolutionStrategy(0.3, model=True), seed=4)
    search.tell_known(*zip(*pairs(9), strict=True))
    steps(search, 3)
    other = bz.Search(np.zeros(3), bz.EvolutionStrategy(0.3, model=True), seed=4)
    other.load_state_dict(search.state_dict())
    other.tell_known(*zip(*pairs(9), strict=True))
    assert same(steps(search, 3), steps(other, 3))


def test_what_is_known_stays_known_when_answers_are_withdrawn() -> None:
    search = steps(bz.Search(np.zeros(3), bz.EvolutionStrategy(0.3, model=True), seed=4), 2)
    then, answered = search.snapshot(), search.nfev
    search.tell_known([TARGET], [-1.0])
    steps(search, 2)
    search.restore(then)
    assert search.nfev == answered and search.best.known and search.best.value == -1.0


# -------------------------------------------------------------------------------------------------- disagreement


def test_a_known_value_that_the_oracle_contradicts_is_named_once() -> None:
    message = r"The known value 99 disagrees with the answer 0\.25 at the same point, array\(\[ 1\., -2\.,  0\.\]\)"
    with pytest.warns(UserWarning, match=message) as told:
        asked(known=[(TARGET - [0, 0, 0.5], 99.0)], budget=30)
    assert len(told) == 1


def test_agreement_up_to_rounding_and_noise_is_silent() -> None:
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asked(known=[(TARGET, 1e-17), (TARGET + 1, 3.0)], budget=30)
        asked(known=[(TARGET + 1, 3.0 * (1 + 1e-14))], budget=30)
        for _ in range(10):
            bz.minimize(lambda x: bowl(x) + rng.normal(), known=[(TARGET, float(rng.normal()))], budget=60)


def test_a_contradiction_is_seen_through_noise_where_the_standard_error_tells_it() -> None:
    search = bz.Search(np.zeros(3), bz.Portfolio((bz.EvolutionStrategy(0.3),)))
    search.tell_known([np.zeros(3)], [9.0])
    with pytest.warns(UserWarning, match="disagrees"):
        search.tell(search.ask(), bz.Values([5.25], [0.1]))


def test_the_noise_of_a_start_whose_known_value_differs_is_that_of_the_oracle() -> None:
    seen: list[Floats] = []

    def fun(x: Floats) -> float:
        seen.append(np.array(x))
        return bowl(x)

    with pytest.warns(UserWarning, match="disagrees"):
        result = bz.minimize(fun, known=[(np.zeros(3), 70.0)], budget=60)
    assert np.array_equal(seen[0], seen[1])  # asked again: is it noise, or are the known values wrong?
    assert result.stderr == 0.0 and result.fun < 1e-9


# -------------------------------------------------------------------------------------------------- bad input

ONE = (np.ones(3), 1.0)


@pytest.mark.parametrize(
    ("known", "error", "message"),
    [
        ([ONE, (np.ones(2), 1.0)], ValueError, r"`known\[1\]` has shape \(2,\), but `x0` has \(3,\)"),
        ([(1.0, 1.0)], ValueError, r"`known\[0\]` has shape \(\), but `x0`"),
        ([({"a": 1.0}, 1.0)], ValueError, r"`known\[0\]` has 'a', but `x0` has one array"),
        ([(np.array([1.0, 9.0, 1.0]), 1.0)], ValueError, r"`known\[0\]` is outside `bounds` at x\[1\]: 9.0 is not in"),
        ([(np.array([1.0, np.nan, 1.0]), 1.0)], ValueError, r"`known\[0\]` holds nan"),
        ([(np.ones(3), math.inf)], ValueError, r"`known\[0\]` has the value inf; give NaN"),
        ([ONE, (np.ones(3), -math.inf)], ValueError, r"`known\[1\]` has the value -inf"),
        ([(np.ones(3), 1 + 2j)], TypeError, r"`known\[0\]` returned \(1\+2j\).*real number"),
        ([(np.ones(3), "low")], TypeError, r"`known\[0\]`.*number"),
        ([(np.ones(3), 1.0, 2.0)], TypeError, r"`known\[0\]` must be a pair \(x, value\)"),
        ([np.ones(3)], TypeError, r"`known\[0\]` must be a pair"),
        ({"x": 1.0}, TypeError, "`known` must be a list of pairs"),
        (3, TypeError, "`known` must be a list of pairs"),
    ],
)
def test_known_values_that_cannot_be_used_are_named(known: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        bz.minimize(bowl, np.zeros(3), known=known, bounds=(-3, 3), budget=5)


def test_an_element_that_the_bounds_fix_is_named() -> None:
    with pytest.raises(ValueError, match=r"`known\[0\]` is outside `bounds` at x\[0\].*The bounds fix this element"):
        bz.minimize(bowl, np.zeros(3), known=[ONE], bounds=[(0, 0), (-3, 3), (-3, 3)], budget=5)


def test_points_and_values_must_be_as_many() -> None:
    search = bz.Search(np.zeros(3), bz.RandomVector(0.1, 2))
    with pytest.raises(bz.TellError, match="`known` has 2 points but 1 values"):
        search.tell_known([np.ones(3), np.zeros(3)], [1.0])
    with pytest.raises(bz.TellError, match="real numbers"):
        search.tell_known([np.ones(3)], [1j])
    search.tell_known([], [])
    assert not search.best.exists


@pytest.mark.parametrize("known", [None, [], [(np.ones(3), math.nan)]])
def test_without_x0_something_must_be_known_that_has_a_value(known: Any) -> None:
    with pytest.raises(ValueError, match=r"`x0` is None, but .* Give `x0`"):
        bz.minimize(bowl, known=known, budget=5)


def test_known_values_and_rankings_exclude_each_other(tmp_path: Path) -> None:
    ranked = bz.Search(np.zeros(3), bz.RankBased(0.1, 4))
    ranked.tell(ranked.ask(), bz.Ranking([0, 1, 2, 3], 4))
    with pytest.raises(bz.FeedbackError, match=r"the answers so far are rankings\. Leave `known` out"):
        ranked.tell_known([np.ones(3)], [1.0])
    search = bz.Search(np.zeros(3), bz.RankBased(0.1, 4))
    search.tell_known([np.ones(3)], [1.0])
    with pytest.raises(bz.FeedbackError, match="this search has known values, but the oracle answered `Ranking`"):
        search.tell(search.ask(), bz.Ranking([0, 1, 2, 3], 4))
    oracle = bz.RankOnly(bz.FunctionOracle(bowl))
    with pytest.raises(bz.FeedbackError, match="Known values and rankings"):
        bz.minimize(oracle, np.zeros(3), bz.RankBased(0.1, 4), known=[ONE], budget=20)


def test_a_model_has_no_points_that_could_be_known() -> None:
    torch = pytest.importorskip("torch", reason="a Module needs torch")
    search = bz.Search(bz.Module(torch.nn.Linear(2, 1)), bz.RandomVector(0.1, 1))
    with pytest.raises(TypeError, match="The points of a `Module` are never written out"):
        search.tell_known([np.ones(3)], [1.0])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"known": [[[1.0, 2.0, 3.0], 1.0]], "steps": 5}, "Line 2 of the journal does not fit the run: it came"),
        ({"known": [[[1.0], 1.0]], "steps": 0}, "Line 2 of the journal does not fit the run"),
    ],
)
def test_a_line_of_known_values_that_does_not_fit_is_named(line: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with bz.Search(np.zeros(3), bz.RandomVector(0.1, 2), journal=path):
        pass
    path.write_text(path.read_text() + json.dumps(line) + "\n")
    with pytest.raises(bz.JournalError, match=message):
        bz.Search(np.zeros(3), bz.RandomVector(0.1, 2), journal=path)
