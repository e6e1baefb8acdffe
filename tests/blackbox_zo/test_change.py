"""Another method in the middle of a run: from the best point, with all that is known, the same bits after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo._replay import points_of, trace_of
from blackbox_zo._typing import Floats
from blackbox_zo.journal import Changed

TARGET = np.array([1.0, -2.0, 0.5])
FIRST, SECOND = bz.EvolutionStrategy(0.3), bz.EvolutionStrategy(0.1, model=True)


def bowl(x: Floats) -> float:
    return float(((x - TARGET) ** 2).sum())


def steps(search: bz.Search, n: int) -> bz.Search:
    for _ in range(n):
        proposal = search.ask()
        search.tell(proposal, bz.Values([bowl(x) for x in proposal.points]))
    return search


def same(a: bz.Search, b: bz.Search) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(np.array_equal(one[k], two[k], equal_nan=True) for k in one)


def test_the_new_method_begins_at_the_best_point_with_all_that_is_known() -> None:
    search = steps(bz.Search(np.zeros(3), FIRST, seed=1), 2)
    search.tell_known([np.ones(3)], [10.0])
    best, moves, answered = search.best, search.moves, search.nfev
    assert not np.array_equal(search.x, best.x)
    search.change(SECOND)
    assert np.array_equal(search.x, best.x) and search.best.value == best.value
    assert (search.moves, search.nfev) == (moves, answered)
    state = search.state
    assert len(state.surrogate.values) == answered + 1  # the known one too
    assert 10.0 in state.surrogate.values and search.estimator is SECOND and search.rule == bz.SGD(1.0)


def test_the_value_at_x_is_known_to_the_bit_and_not_asked_again() -> None:
    for seed in range(12):  # x times its unit, divided by it, is not always x
        search = bz.Search(bz.Vector(np.zeros(3), unit=[0.3, 7.0, 1.1]), FIRST, seed=seed)
        steps(search, 8).change(bz.QuasiNewton(0.1))
        assert search.state.value == search.best.value and np.array_equal(search.x, search.best.x)
        assert not (search.ask().points == search.best.x).all(axis=1).any()


def test_a_known_point_can_be_where_it_begins() -> None:
    search = steps(bz.Search(np.zeros(3), FIRST), 2)
    search.tell_known([TARGET], [0.0])
    search.change(bz.QuasiNewton(0.1))
    assert np.array_equal(search.x, TARGET) and search.state.value == 0.0


def test_open_steps_are_answered_as_asked_and_tell_the_new_method() -> None:
    search = steps(bz.Search(np.zeros(3), FIRST, seed=1), 3)
    half, late = search.ask(), search.ask()
    search.tell(half, bz.Values([100.0]), ids=half.ids[:1])
    search.change(SECOND)
    moves, x = search.moves, search.x
    rest = bz.Values([bowl(p) for p in half.points[1:]])
    search.tell(half, rest, ids=half.ids[1:])
    search.tell(late, bz.Values([bowl(p) for p in late.points]))
    values = [100.0, *rest.values, *(bowl(p) for p in late.points)]
    assert search.state.surrogate.values[-len(values) :].tolist() == values
    assert search.moves == moves and np.array_equal(search.x, x) and search.nfev == 5 * half.n
    with pytest.raises(ValueError, match="was asked by an earlier method and cannot be saved"):
        search.ask()
        search.change(FIRST)
        search.state_dict()


def test_a_variable_without_points_goes_on_from_where_it_stands() -> None:
    torch = pytest.importorskip("torch", reason="a Module needs torch")
    model = torch.nn.Linear(2, 1)
    search = bz.Search(bz.Module(model), bz.RandomVector(0.1, 1), bz.SGD(0.1), seed=0)
    search.tell(search.ask(), bz.Values([1.0, 0.5]))
    before = model.weight.detach().clone()
    search.change(bz.RandomVector(0.1, 2), bz.SGD(0.01))
    assert torch.equal(model.weight, before) and search.ask().n == 4
    with pytest.raises(TypeError, match="Cannot use `EvolutionStrategy` with a `Module`"):
        search.change(SECOND)


def test_going_back_to_before_a_change_is_going_back_to_the_method_of_then() -> None:
    search = steps(bz.Search(np.zeros(3), FIRST, seed=1), 3)
    then, plain = search.snapshot(), steps(bz.Search(np.zeros(3), FIRST, seed=1), 5)
    steps(search, 1).change(SECOND)
    steps(search, 2).restore(then)
    assert search.estimator is FIRST and same(steps(search, 2), plain)
    search.change(SECOND)
    plain.change(SECOND)
    assert same(steps(search, 2), steps(plain, 2))  # what was withdrawn informs nobody


# -------------------------------------------------------------------------------------------------- the journal


@pytest.mark.parametrize("keep", range(1, 12))
def test_a_kill_at_any_time_around_the_change_changes_no_bit(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    whole = steps(bz.Search(np.zeros(3), FIRST, seed=1, journal=path), 3)
    whole.change(SECOND)
    steps(whole, 2)
    whole.tell_known([TARGET + 1], [3.0])
    steps(whole, 5).close()
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 13 and b"change" in lines[4]
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(b"".join(lines[:keep]) + lines[keep][:20])
    again = bz.Search(np.zeros(3), FIRST if keep <= 4 else SECOND, seed=1, journal=cut)
    if keep <= 4:
        steps(again, 3 - again.steps).change(SECOND)
    if keep <= 7:
        steps(again, 5 - again.steps).tell_known([TARGET + 1], [3.0])
    steps(again, 10 - again.steps)
    assert same(again, whole)
    again.close()
    assert cut.read_bytes() == path.read_bytes()


def test_a_random_life_with_changes_and_known_values_is_replayed(tmp_path: Path) -> None:
    """Ask, tell any open step whole or in parts, tell known values, change the method, and reopen from the file."""
    methods = [FIRST, SECOND, bz.QuasiNewton(0.2), bz.RandomVector(0.1, 2), bz.Portfolio((bz.QuasiNewton(0.2), SECOND))]
    for seed in range(8):
        rng, path = np.random.default_rng(seed), tmp_path / f"{seed}.jsonl"
        now: bz.Estimator = methods[0]
        search, open_ = bz.Search(np.zeros(3), now, journal=path), list[bz.Proposal]()
        for _ in range(60):
            what = rng.random()
            if what < 0.4 and len(open_) < 3:
                open_.append(search.ask(repeats=True))
            elif what < 0.75 and open_:
                proposal = open_.pop(int(rng.integers(len(open_))))
                for ids in filter(len, np.array_split(rng.permutation(proposal.ids), 2)):
                    points = proposal.points[ids - proposal.ids[0]]
                    search.tell(proposal, bz.Values([bowl(x) for x in points]), ids)
            elif what < 0.8:
                point = TARGET + float(rng.integers(1, 4))
                search.tell_known([point], [bowl(point)])
            elif what < 0.87:
                now = methods[int(rng.integers(len(methods)))]
                search.change(now)
            else:
                held = {p.step: p.points for p in open_}
                before = search.x, search.best, search.nfev, search.moves, search.estimator
                search.close()
                search = bz.Search(np.zeros(3), now, journal=path)
                after = search.x, search.best, search.nfev, search.moves, search.estimator
                assert np.array_equal(before[0], after[0]) and before[2:] == after[2:]
                assert before[1].id == after[1].id and np.array_equal(before[1].x, after[1].x)
                open_ = [search.ask() for _ in search.waiting]
                assert all(np.array_equal(p.points, held[p.step]) for p in open_)
        search.close()


def test_a_run_is_changed_by_minimize_only_when_told_and_then_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    first = bz.minimize(bowl, np.zeros(3), FIRST, budget=28, journal=path)
    with pytest.raises(bz.JournalError, match=r"its estimator is EvolutionStrategy\(radius=0.3.*`change=True`"):
        bz.minimize(bowl, np.zeros(3), SECOND, budget=60, journal=path)
    second = bz.minimize(bowl, np.zeros(3), SECOND, budget=60, journal=path, change=True)
    assert second.nfev == 60 and second.fun < first.fun
    third = bz.minimize(bowl, np.zeros(3), SECOND, budget=80, journal=path)  # the method that it goes by now
    assert third.nfev == 80
    same_again = bz.minimize(bowl, np.zeros(3), SECOND, budget=90, journal=path, change=True)  # no second change
    assert same_again.nfev == 90
    assert sum(isinstance(line, Changed) for line in bz.read_journal(path)) == 1
    with pytest.raises(bz.JournalError, match=r"goes by another method: its is EvolutionStrategy\(radius=0.1"):
        bz.minimize(bowl, np.zeros(3), FIRST, budget=100, journal=path)
    bz.minimize(bowl, np.zeros(3), FIRST, budget=100, journal=path, change=True)
    assert sum(isinstance(line, Changed) for line in bz.read_journal(path)) == 2


@pytest.mark.parametrize("bounds", [None, (-4.0, 6.0), [(-4.0, 6.0), (None, None), (0.0, 3.0)]])
def test_from_auto_to_another_and_back_the_units_stay(bounds: Any, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    bz.minimize(bowl, np.zeros(3), bounds=bounds, budget=5, journal=path)
    bz.minimize(bowl, np.zeros(3), SECOND, bounds=bounds, budget=30, journal=path, change=True)
    bz.minimize(bowl, np.zeros(3), SECOND, bounds=bounds, budget=40, journal=path)
    result = bz.minimize(bowl, np.zeros(3), bounds=bounds, budget=70, journal=path, change=True)
    assert result.nfev == 70 and result.trace[0].member == "CoordinateSearch"
    assert bz.minimize(bowl, np.zeros(3), bounds=bounds, budget=90, journal=path).nfev == 90


def test_the_unit_of_a_start_that_is_too_large_for_the_header_stays_too(tmp_path: Path) -> None:
    path, d = tmp_path / "run.jsonl", 5000

    def square(x: Floats) -> float:
        return float(x @ x)

    bz.minimize(square, np.ones(d), bounds=(-4, 6), budget=5, journal=path)
    assert "variable" not in bz.read_journal(path).header
    method = bz.RandomVector(0.1, 2)
    bz.minimize(square, np.ones(d), method, bounds=(-4, 6), budget=20, journal=path, change=True)
    assert bz.minimize(square, np.ones(d), method, bounds=(-4, 6), budget=30, journal=path).nfev == 30


def test_another_problem_is_refused_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    bz.minimize(bowl, np.zeros(3), FIRST, budget=28, journal=path)
    before = path.read_bytes()
    refused: list[tuple[dict[str, Any], str]] = [
        ({"x0": np.ones(3)}, "its variable's x0 is"),
        ({"seed": 5}, "its seed is 0, here it is 5"),
        ({"bounds": (-9, 9)}, "its variable's lower is"),
        ({"x0": np.zeros(2)}, "its dimension is 3, here it is 2"),
    ]
    for options, message in refused:
        with pytest.raises(bz.JournalError, match=message):
            given = {"x0": np.zeros(3), "method": SECOND, "budget": 60, **options}
            bz.minimize(bowl, **given, journal=path, change=True)
    assert path.read_bytes() == before


def test_readers_replay_through_the_change(tmp_path: Path) -> None:
    path, seen = tmp_path / "run.jsonl", list[Floats]()

    def fun(x: Floats) -> float:
        seen.append(np.array(x))
        return bowl(x)

    bz.minimize(fun, np.zeros(3), FIRST, budget=28, journal=path, known=[(np.ones(3), 9.0)])
    result = bz.minimize(fun, np.zeros(3), budget=60, journal=path, change=True)
    reader = bz.read_journal(path)
    assert np.array_equal(np.concatenate([points for _, points in points_of(reader)]), seen)
    found, told = trace_of(reader)[0], result.trace[0]
    assert (found.member, found.before) == (told.member, told.before) == ("CoordinateSearch", told.before)


def test_the_file_says_what_the_method_was_changed_to(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    search = steps(bz.Search(np.zeros(3), FIRST, journal=path), 2)
    open_, _ = search.ask(), search.ask()
    search.change(bz.RandomVector(0.1, 1), bz.Adam(0.05))
    search.tell(open_, bz.Values([bowl(x) for x in open_.points]))
    search.close()
    line, after = map(json.loads, path.read_text().splitlines()[-2:])
    assert "asked" not in after  # it has been said
    assert line["change"]["estimator"]["name"] == "RandomVector" and line["change"]["rule"]["name"] == "Adam"
    assert line["steps"] == 4 and line["asked"] == [[2, 2, 2], [3, 2, 2]]


def test_a_method_of_ones_own_can_be_changed_to_but_not_from_without_it(tmp_path: Path) -> None:
    class Mine(bz.Estimator):
        inner = bz.EvolutionStrategy(0.2)

        def start(self, variable: bz.Variable) -> Any:
            return self.inner.start(variable)

        def sample(self, state: Any, variable: Any, key: bz.Key) -> bz.Queries:
            return self.inner.sample(state, variable, key)

        def estimate(self, state: Any, variable: Any, queries: Any, feedback: Any) -> tuple[Any, bz.Step]:
            return self.inner.estimate(state, variable, queries, feedback)

    path, mine = tmp_path / "run.jsonl", Mine()
    bz.minimize(bowl, np.zeros(3), FIRST, budget=14, journal=path)
    bz.minimize(bowl, np.zeros(3), mine, budget=20, journal=path, change=True)
    assert bz.minimize(bowl, np.zeros(3), mine, budget=24, journal=path).nfev == 24
    with pytest.raises(bz.JournalError, match=r"Mine.* is not part of blackbox_zo"):
        bz.minimize(bowl, np.zeros(3), FIRST, budget=30, journal=path, change=True)


SCRIPT = """
import os, signal, sys, numpy as np, blackbox_zo as bz
n = 0
def fun(x):
    global n
    n += 1
    if n == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return float(((x - 1) ** 2).sum())
result = bz.minimize(fun, np.zeros(3), budget=60, journal=sys.argv[1], change=True)
print(result.fun.hex(), result.x.tobytes().hex())
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_kill_9_after_the_change_and_the_same_bits(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(SCRIPT))

    def go(journal: Path, kill: int) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, str(script), str(journal), str(kill)]
        return subprocess.run(words, capture_output=True, text=True, check=False, env=dict(os.environ), timeout=300)

    paths = [tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"]
    for path in paths:
        bz.minimize(lambda x: float(((x - 1) ** 2).sum()), np.zeros(3), FIRST, budget=21, journal=path)
    whole = go(paths[0], -1)
    assert go(paths[1], 9).returncode == -signal.SIGKILL
    assert b"change" in paths[1].read_bytes()
    killed = go(paths[1], -1)
    assert whole.stdout == killed.stdout and whole.returncode == killed.returncode == 0
    assert paths[0].read_bytes() == paths[1].read_bytes()


# -------------------------------------------------------------------------------------------------- bad input


def test_methods_that_cannot_go_on_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    search = bz.Search(np.zeros(3), bz.RankBased(0.1, 4), journal=path)
    search.tell(search.ask(), bz.Ranking([0, 1, 2, 3], 4))
    before = path.read_bytes()
    with pytest.raises(bz.FeedbackError, match="Cannot use `RandomVector` with this oracle: it needs the value"):
        search.change(bz.RandomVector(0.1, 2))
    with pytest.raises(TypeError, match="`estimator` must be an estimator"):
        search.change("cma")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`rule` must be a rule"):
        search.change(bz.RankBased(0.1, 4), 0.1)  # type: ignore[arg-type]
    assert path.read_bytes() == before and search.estimator == bz.RankBased(0.1, 4)
    search.change(bz.EvolutionStrategy(0.1))
    assert search.ask().n == 7
    search.close()


@pytest.mark.parametrize(
    "line",
    [
        {"change": {"estimator": {"name": "Nothing"}, "rule": {"name": "SGD", "learning_rate": 1.0}}, "steps": 0},
        {"change": {"estimator": {"name": "RandomVector"}, "rule": None}, "steps": 0},
        {"change": {"estimator": {"name": "QuasiNewton", "radius": 0.1}, "rule": None}, "steps": 4},
        {"change": {"estimator": None}, "steps": 0},
    ],
)
def test_a_line_of_a_change_that_does_not_fit_is_named(line: Any, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with bz.Search(np.zeros(3), FIRST, journal=path):
        pass
    path.write_text(path.read_text() + json.dumps(line) + "\n" + '{"measure": "m", "step": 0, "values": {}}\n')
    with pytest.raises(bz.JournalError):
        bz.Search(np.zeros(3), FIRST, journal=path, change=True)


def test_where_a_line_cannot_be_written_nothing_has_happened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.jsonl"
    search = steps(bz.Search(np.zeros(3), FIRST, journal=path), 2)
    before, said = search.state_dict(), path.read_bytes()

    def full(self: bz.Journal, lines: str) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(bz.Journal, "write", full)
        with pytest.raises(OSError, match="No space"):
            search.tell_known([TARGET], [0.0])
        with pytest.raises(OSError, match="No space"):
            search.change(SECOND)
    after = search.state_dict()
    assert all(np.array_equal(before[k], after[k]) for k in before) and search.estimator is FIRST
    assert path.read_bytes() == said
    search.tell_known([TARGET], [0.0])
    search.change(SECOND)
    search.close()
    with bz.Search(np.zeros(3), SECOND, journal=path) as again:
        assert same(again, search)


def test_of_many_points_the_newest_are_kept_within_their_share_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blackbox_zo._past.MEMORY", 3000)
    search = steps(bz.Search(np.zeros(3), FIRST, seed=1), 40)
    points, values = search._engine.past.all()
    assert len(points) == len(values) < 40 * 7 and search._engine.past._size <= 3000
    search.change(bz.EvolutionStrategy(0.1))
    assert np.array_equal(search.x, search.best.x)
    monkeypatch.setattr("blackbox_zo._past.MEMORY", 10)  # not one step
    steps(search, 2).change(bz.QuasiNewton(0.1))
    assert len(search._engine.past.all()[1]) == 0
    assert np.allclose(search.x, search.best.x, rtol=1e-15)
