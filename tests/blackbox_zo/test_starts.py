"""Several starts: all are asked first, the search begins at the best, restarts begin at the others."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo._replay import engine_of, points_of
from blackbox_zo._typing import Floats


def bowl(x: Floats) -> float:
    return float((x**2).sum())


def asked(x0: Any, fun: Any = bowl, **options: Any) -> tuple[Any, list[Floats]]:
    seen: list[Floats] = []

    def counted(x: Floats) -> float:
        seen.append(np.array(x))
        return float(fun(x))

    return bz.minimize(counted, x0, **options), seen


POINTS = [np.array([3.0, 1.1]), np.array([0.3, -0.2]), np.array([7.0, 0.1])]


@pytest.mark.parametrize("method", ["auto", bz.EvolutionStrategy(0.3), (bz.RandomVector(1e-3, 2), bz.Adam(0.05))])
def test_all_starts_are_asked_first_and_the_search_goes_on_from_the_best(method: Any) -> None:
    result, seen = asked(bz.Starts(POINTS), method=method, budget=40)
    assert all(np.array_equal(a, b) for a, b in zip(seen, POINTS, strict=False)) and len(seen) == 40 == result.nfev
    near = [np.linalg.norm(x - POINTS[1]) for x in seen[3:9]]
    assert max(near) < 2.0


def test_the_best_start_is_asked_once_more_to_tell_noise() -> None:
    _, seen = asked(bz.Starts(POINTS), budget=20)
    assert np.array_equal(seen[3], POINTS[1]) and not np.array_equal(seen[4], POINTS[1])


def test_restarts_begin_at_the_other_starts_in_the_order_of_their_values() -> None:
    def rastrigin(x: Floats) -> float:
        return float(20 + (x**2 - 10 * np.cos(2 * np.pi * x)).sum())

    starts = [[2.1, 2.2], [5.2, 5.1], [3.1, 0.2], [1.1, 1.1]]
    portfolio = bz.Portfolio((bz.QuasiNewton(0.1),))
    result, _ = asked(bz.Starts(starts), rastrigin, method=portfolio, budget=600)
    values = sorted(rastrigin(np.array(x)) for x in starts)
    best = result.trace[0].before
    assert best == values[0]

    search = bz.Search(bz.Starts(starts), portfolio, seed=0, budget=600)
    begun: list[float] = []
    for _ in search.run(bz.FunctionOracle(rastrigin)):
        runs = len(portfolio.trace(search.state))
        if runs > len(begun) and runs > 1:
            begun += [rastrigin(search.x)]
        elif runs > len(begun):
            begun += [values[0]]
    assert begun[:4] == values and len(begun) > 4  # and then random places


def test_fails_and_noise_among_the_starts() -> None:
    def half(x: Floats) -> float:
        return math.nan if x[0] > 2 else bowl(x)

    result, seen = asked(bz.Starts(POINTS), half, budget=30)
    assert result.nfailed >= 2 and result.fun < 1e-8 and len(seen) == 30
    everywhere, _ = asked(bz.Starts(POINTS), lambda x: math.nan, budget=20)
    assert everywhere.status == bz.Ended.FAILED


def test_rankings_choose_among_the_starts() -> None:
    oracle = bz.RankOnly(bz.FunctionOracle(bowl))
    search = bz.Search(bz.Starts(POINTS), bz.RankBased(0.1, 4))
    search.tell(proposal := search.ask(), oracle.answer(proposal))
    assert np.array_equal(search.x, POINTS[1]) and search.moves == 1


def test_a_budget_below_the_number_of_starts_is_kept() -> None:
    result, seen = asked(bz.Starts(POINTS), budget=2)
    assert len(seen) == 2 and np.array_equal(result.x, POINTS[1])


def test_one_start_in_a_list_is_one_start() -> None:
    alone, seen = asked(bz.Starts([POINTS[0]]), budget=30)
    plain, too = asked(POINTS[0], budget=30)
    assert np.array_equal(seen, too) and alone.fun == plain.fun


def test_structured_starts_bounds_units_and_fixed_elements() -> None:
    seen: list[Any] = []

    def fun(p: dict[str, Any]) -> float:
        seen.append(p)
        return float((p["a"] - 1) ** 2 + (p["b"] ** 2).sum())

    starts = bz.Starts([{"a": 0.0, "b": [1.0, 2.0]}, {"b": [0.5, 2.0], "a": 1.5}])
    result = bz.minimize(fun, starts, bounds={"a": (-2, 2), "b": [(-4, 4), (2, 2)]}, budget=60)
    assert (seen[1]["a"], seen[1]["b"].tolist()) == (1.5, [0.5, 2.0])
    assert result.fun == pytest.approx(4.0) and result.x["b"][1] == 2.0


def test_a_kill_after_any_answer_changes_no_bit(tmp_path: Path) -> None:
    path, starts = tmp_path / "run.jsonl", bz.Starts(POINTS)
    whole = bz.minimize(bowl, starts, budget=30, journal=path)
    lines = path.read_bytes().splitlines(keepends=True)
    for keep in (1, 2, 3, 4, 6, 12):
        cut = tmp_path / f"{keep}.jsonl"
        cut.write_bytes(b"".join(lines[:keep]))
        again = bz.minimize(bowl, starts, budget=30, journal=cut)
        assert cut.read_bytes() == path.read_bytes()
        assert np.array_equal(again.x, whole.x) and again.fun == whole.fun


def test_the_starts_are_in_the_header_and_replayed_from_it(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    _, seen = asked(bz.Starts(POINTS), budget=25, journal=path, bounds=(-8, 8))
    reader = bz.read_journal(path)
    assert len(reader.header["variable"]["starts"]) == 3
    variable = engine_of(reader.header).variable
    assert isinstance(variable, bz.Vector) and len(variable.starts) == 3
    assert np.allclose(np.concatenate([points for _, points in points_of(reader)]), seen, atol=1e-14)
    with pytest.raises(bz.JournalError, match="its variable's starts is"):
        bz.minimize(bowl, bz.Starts([*POINTS[:2], [1.0, 1.0]]), bounds=(-8, 8), budget=30, journal=path)


def test_a_checkpoint_in_the_middle_of_the_starts() -> None:
    def made() -> bz.Search:
        return bz.Search(bz.Starts(POINTS), bz.EvolutionStrategy(0.3), seed=3)

    search = made()
    proposal = search.ask()
    search.tell(proposal, bz.Values([bowl(POINTS[1])]), ids=[1])
    other = made()
    other.load_state_dict(search.state_dict())
    search.give_back([proposal])
    for s in (search, other):
        for _ in range(3):
            p = s.ask()
            s.tell(p, bz.Values([bowl(x) for x in p.points]))
    one, two = search.state_dict(), other.state_dict()
    assert all(np.array_equal(one[k], two[k], equal_nan=True) for k in one) and other.nfev == 15


def test_a_step_that_was_asked_ahead_of_the_starts_tells_the_method_its_values() -> None:
    search = bz.Search(bz.Starts(POINTS), bz.EvolutionStrategy(0.3, model=True), seed=3)
    starts, ahead = search.ask(), search.ask()
    search.tell(starts, bz.Values([bowl(x) for x in starts.points]))
    moves, before = search.moves, len(search.state.surrogate.values)
    search.tell(ahead, bz.Values([bowl(x) for x in ahead.points]))
    assert search.moves == moves == 1 and len(search.state.surrogate.values) == before + ahead.n
    assert search.nfev == 3 + ahead.n


# -------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("starts", "error", "message"),
    [
        (lambda: bz.Starts([]), ValueError, r"`Starts\(points\)` is empty; give at least one start"),
        (lambda: bz.Starts(3.0), TypeError, r"needs a list of starts, got 3\.0.*Write `Starts\(\[\.\.\.\]\)`"),  # type: ignore[arg-type]
        (lambda: bz.Starts({"a": 1.0}), TypeError, "needs a list of starts"),
        (lambda: bz.Starts([[1.0, 2.0], [1.0]]), ValueError, r"`x0\[1\]` has shape \(1,\), but `x0` has \(2,\)"),
        (lambda: bz.Starts([{"a": 1.0}, {"b": 1.0}]), ValueError, r"`x0\[1\]` has 'b', but `x0` has 'a'"),
        (lambda: bz.Starts([[1.0, 2.0], [1.0, 9.0]]), ValueError, r"`x0\[1\]` is outside `bounds` at x\[1\]: 9.0"),
        (lambda: bz.Starts([[1.0, 9.0], [1.0, 2.0]]), ValueError, r"`x0` is outside `bounds`"),
        (lambda: bz.Starts([[1.0, 2.0], [1.0, math.nan]]), ValueError, r"`x0\[1\]` holds nan"),
        (lambda: bz.Starts([[1.0, 2.0], "a"]), TypeError, r"`x0\[1\]` is 'a'"),
    ],
)
def test_starts_that_cannot_be_used_are_named(starts: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        bz.minimize(lambda x: 0.0, starts(), bounds=(-4, 4), budget=5)


def test_a_list_of_arrays_is_one_start_and_the_message_says_how_to_give_several() -> None:
    with pytest.raises(ValueError, match=r"4 of them.*for several write `Starts\(\[\.\.\.\]\)`"):
        bz.minimize(bowl, [np.ones(2), np.zeros(2)], bounds=[(-1, 1)] * 2 + [(0, 2)], budget=5)
