"""Finitely many points, each asked about once: what the wrapped estimator sees, and how a run ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blackbox_zo as bz
from blackbox_zo.distinct import Distinct, distinct
from blackbox_zo.variables._cells import Between, Cells

GRID = (Cells(1, 8), Cells(1, 8))
METHODS = ["auto", bz.RandomVector(0.2, 3), bz.RankBased(0.2, 6), bz.Coordinatewise(0.2), bz.PGPE(0.3, 4)]


class Table(bz.Oracle):
    """A function of whole numbers, that counts."""

    def __init__(self, grid: tuple[Cells, ...] = GRID, fun: Callable[[tuple[int, ...]], float] | None = None) -> None:
        self.grid, self.seen = grid, list[tuple[int, ...]]()
        self.fun = fun or (lambda v: float((v[0] - 3) ** 2 + (v[1] - 5) ** 2))

    def answer(self, proposal: bz.Proposal) -> bz.Values:
        cells = [tuple(c.at(u) for c, u in zip(self.grid, point, strict=True)) for point in proposal.points]
        self.seen += cells
        return bz.Values([self.fun(cell) for cell in cells])


def run(table: Table, budget: int, method: Any = "auto", **given: Any) -> Any:
    bounds = [Between(cells) for cells in table.grid]
    return bz.minimize(table, np.full(len(bounds), 0.5), method, bounds=bounds, budget=budget, **given)


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_no_point_is_asked_about_twice_and_the_run_ends_with_the_last(method: Any, seed: int) -> None:
    table = Table()
    r = run(table, 60, method, seed=seed)
    assert len(table.seen) == len(set(table.seen)) == r.nfev == 60
    assert r.message == "The budget of 60 queries is spent."
    table = Table()
    r = run(table, 1000, method, seed=seed)
    assert len(table.seen) == len(set(table.seen)) == r.nfev == 64
    assert (r.fun, r.success, r.message) == (0.0, True, "All 64 points that there are were asked about.")


def test_a_failure_is_an_answer_too() -> None:
    table = Table(fun=lambda v: float("nan") if v[0] < 5 else v[0] + v[1])
    r = run(table, 1000)
    assert (r.nfev, r.nfailed, r.fun) == (64, 32, 6.0)
    assert len(set(table.seen)) == 64


def test_the_wrapped_estimator_goes_where_it_goes_when_every_point_is_asked() -> None:
    """It is told what it would have been told, as long as each of its steps has something new."""
    grid = (Cells(0, 2**20), Cells(1, 2**20, log=True))
    for inner in (bz.EvolutionStrategy(0.3, model=True), bz.RandomVector(0.2, 3), bz.PGPE(0.3, 4)):
        free = bz.Vector(np.full(2, 0.5), (0, 1))
        searches = [bz.Search(bz.Vector(np.full(2, 0.5), (0, 1)), e, seed=3) for e in (inner, Distinct(inner, grid))]
        for _ in range(10):
            for s in searches:
                p = s.ask()
                s.tell(p, bz.Values([float(np.sum((point - 0.3) ** 2)) for point in np.round(p.points, 3)]))
        np.testing.assert_allclose(searches[0].x, searches[1].x, rtol=1e-9)
        assert not np.array_equal(searches[0].x, free.x)


def test_a_known_point_is_told_again_at_no_cost() -> None:
    """Eight points in all: the first step asks about some, and the estimate has a value for every query."""
    told = list[int]()

    class Watched(bz.Estimator):
        inner = bz.EvolutionStrategy(0.3, 12)
        start = inner.start
        sample = inner.sample

        def estimate(self, state: Any, variable: Any, queries: Any, feedback: Any) -> Any:
            assert isinstance(feedback, bz.Values)
            told.append(feedback.n - feedback.n_failed)
            return self.inner.estimate(state, variable, queries, feedback)

    estimator = Distinct(Watched(), (Cells(1, 4), Cells(1, 2)))
    search = bz.Search(bz.Vector(np.full(2, 0.5), (0, 1)), estimator, seed=0)
    table = Table(estimator.grid)
    for _ in search.run(table, steps=2):
        pass
    assert told == [12, 12]
    assert len(table.seen) == len(set(table.seen)) < 9


def test_rankings_compare_what_was_asked_together() -> None:
    table = Table()
    search = bz.Search(bz.Vector(np.full(2, 0.5), (0, 1)), Distinct(bz.RankBased(0.2, 6), GRID), seed=0, budget=64)
    assert bz.Run(search, bz.RankOnly(table), patience=None).to_the_end() is bz.Ended.BUDGET
    assert len(set(table.seen)) == 64
    with pytest.raises(bz.FeedbackError, match="needs the value of each query"):
        next(iter(bz.Search(np.zeros(2), Distinct(bz.RandomVector(0.1), GRID)).run(bz.RankOnly(table), steps=1)))


def test_a_killed_run_goes_on_to_the_bit(tmp_path: Path) -> None:
    path, whole = tmp_path / "run.jsonl", Table()
    r = run(whole, 60, seed=5)
    for budget in (7, 20, 41, 60):
        table = Table()
        again = run(table, budget, seed=5, journal=path)
        assert not set(table.seen) & set(whole.seen[: budget - len(table.seen)])
    assert (again.x.tolist(), again.fun) == (r.x.tolist(), r.fun)
    estimator = Distinct(bz.EvolutionStrategy(0.3), GRID)
    searches = [bz.Search(bz.Vector(np.full(2, 0.5), (0, 1)), estimator, seed=0) for _ in range(2)]
    for _ in searches[0].run(Table(), steps=4):
        pass
    searches[1].load_state_dict(searches[0].state_dict())
    assert np.array_equal(searches[0].ask().points, searches[1].ask().points)


def test_many_points_are_not_listed() -> None:
    table = Table((Cells(0, 9),) * 30, lambda v: float(sum((x - 4) ** 2 for x in v)))
    r = run(table, 300)
    assert len(set(table.seen)) == r.nfev == 300
    assert r.fun < 100


def test_only_where_every_free_element_has_values() -> None:
    inner = bz.RandomVector(0.1)
    assert distinct(bz.Vector([0.5, 0.5], [Between(GRID[0]), (0, 1)]), inner) is inner
    assert distinct(bz.Vector([0.5, 0.5]), inner) is inner
    assert distinct(bz.Vector([0.5, 0.5], [Between(GRID[0]), (0.5, 0.5)]), inner) == Distinct(inner, GRID[:1])
    assert distinct(bz.Vector([0.5, 0.5], Between(GRID[0])), inner) == Distinct(inner, GRID)
