"""The instrument: counted queries, known optima, true values under noise, and trials."""

from __future__ import annotations

import numpy as np
import pytest

from blackbox_zo._typing import Floats
from oracles.bench._coco import optimum
from oracles.bench.problem import TARGETS, Counted, Problem, Spent
from oracles.bench.solvers import OURS, SOLVERS, Solver, solve
from oracles.bench.suites import SUITES
from oracles.bench.table import table
from oracles.bench.trials import Task, measured, tasks, trial

MEND = "pip install 'blackbox-zo[bbob]'"


def sphere(d: int = 2, f_opt: float = 5.0) -> Problem:
    return Problem("plain", 1, d, 1, lambda x: float(x @ x) + f_opt, f_opt, np.full(d, 3.0))


# ----------------------------------------------------------------------------------------------- counted functions


def test_run_lengths_are_the_queries_at_which_each_target_was_first_reached() -> None:
    f = Counted(sphere(), 10)
    f(np.array([30.0, 0.0]))  # 900 above the optimum: no target
    f(np.array([10.0, 0.0]))  # 100: the first
    f(np.array([20.0, 0.0]))
    f(np.array([1.0, 0.0]))  # 1: down to the eleventh
    assert f.hits == [2] + [4] * 10
    f(np.zeros(2))
    assert f.hits == [2] + [4] * 10 + [5] * 40 and f.queries == 5
    assert f.best == 5.0 and (f.best_x == 0).all()


def test_a_target_is_reached_at_equality() -> None:
    assert TARGETS[20] == 1e-2 and TARGETS[0] == 100 and TARGETS[50] == 1e-8
    f = Counted(sphere(1, 0.0), 1)
    f(np.array([0.1]))
    assert len(f.hits) == 20 + (0.1 * 0.1 <= 1e-2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_query_that_is_no_point_is_counted_and_has_no_value(bad: float) -> None:
    f = Counted(Problem("plain", 1, 2, 1, lambda x: 5.0, 5.0, np.zeros(2)), 3)
    assert np.isnan(f(np.array([0.0, bad])))
    assert f.queries == 1 and f.hits == [] and f.best == np.inf


def test_the_budget_is_hard_even_for_a_solver_that_forgives_everything() -> None:
    def stubborn(f: Counted, budget: int, seed: int) -> None:
        for _ in range(100):
            try:
                f(np.array([1.0, 1.0]) / (1 + f.queries))
            except Exception:  # what some solvers do
                continue

    f = Counted(sphere(), 7)
    x = solve(Solver("stubborn", stubborn, "", ""), f, 0)
    assert f.queries == 7 and f.refused == 1
    assert x == pytest.approx(np.full(2, 1 / 7))
    with pytest.raises(Spent):
        f(np.zeros(2))


def test_the_point_kept_does_not_change_with_the_solvers_own_array() -> None:
    f, x = Counted(sphere(), 5), np.ones(2)
    f(x)
    x += 7
    assert (f.best_x == 1).all()
    start = f.x0
    start += 1
    assert (f.x0 == 3).all()


# ---------------------------------------------------------------------------------------------------------- suites


def test_optima_are_those_of_another_implementation() -> None:
    ioh = pytest.importorskip("ioh", reason=MEND)
    for function in range(1, 25):
        for instance in (1, 2, 3, 15, 71, 110):
            assert optimum(function, instance) == pytest.approx(ioh.get_problem(function, instance, 2).optimum.y)


def test_values_are_those_of_another_implementation() -> None:
    pytest.importorskip("cocoex", reason=MEND)
    ioh, rng = pytest.importorskip("ioh", reason=MEND), np.random.default_rng(0)
    for function in range(1, 25):
        ours, theirs = SUITES["bbob"].problem(function, 5, 3), ioh.get_problem(function, 3, 5)
        x = rng.uniform(-6, 6, 5)
        assert ours.f(x) == pytest.approx(theirs(x), rel=1e-9)
        assert ours.f(np.array(theirs.optimum.x)) == pytest.approx(ours.f_opt, abs=1e-9)


def test_large_functions_have_the_optima_of_the_small_ones() -> None:
    pytest.importorskip("cocoex", reason=MEND)
    sphere = SUITES["bbob-largescale"].problem(1, 160, 2)
    origin = sphere.f(np.zeros(160))
    gradient = np.array([sphere.f(h) - sphere.f(-h) for h in np.eye(160) / 2])  # of a (x - x_opt)^2: -2 a x_opt
    curved = np.array([sphere.f(h) + sphere.f(-h) - 2 * origin for h in np.eye(160) / 2]) * 2  # a
    assert sphere.f(-gradient / curved / 2) == pytest.approx(sphere.f_opt, abs=1e-6)


@pytest.mark.parametrize("function", [1, 2, 3, 4, 7, 9, 12, 14, 17, 20, 23, 25, 29])
def test_the_value_without_noise_is_what_noisy_values_scatter_about(function: int) -> None:
    """By gaussian noise, which is exp(strength N): the mean of the logarithms. Of others: by what lies under them."""
    pytest.importorskip("cocoex", reason=MEND)
    ioh = pytest.importorskip("ioh", reason=MEND)
    problem, x = SUITES["bbob-noisy"].problem(function, 5, 2), np.full(5, 0.7)
    assert problem.true is not None
    true = problem.true(x) - problem.f_opt
    if function % 3 == 1:
        logs = np.log([problem.f(x) - problem.f_opt for _ in range(4000)])
        assert abs(logs.mean() - np.log(true)) < 5 * logs.std() / 4000**0.5
    under = (1, 8, 1, 8, 7, None, 14, None, None, 21)[
        (function - 1) // 3
    ]  # the others differ from bbob's by a constant
    if under is not None:
        assert true == pytest.approx(ioh.get_problem(under, 2, 5)(x) - problem.f_opt, abs=1e-9)


def test_normal_noise_is_added_to_values_and_not_to_results() -> None:
    pytest.importorskip("cocoex", reason=MEND)
    problem = SUITES["bbob-gaussian"].problem(1, 5, 1)
    values = np.array([problem.f(problem.x0) for _ in range(2000)])
    assert problem.true is not None
    assert abs(values.mean() - problem.true(problem.x0)) < 0.1 and abs(values.std() - 1) < 0.1


def test_affine_combinations_know_their_optimum() -> None:
    ioh = pytest.importorskip("ioh", reason=MEND)
    problem = SUITES["ma-bbob"].problem(3, 5, 2)
    at = np.array(ioh.problem.ManyAffine(27, 5).optimum.x)
    assert problem.f(at) == pytest.approx(problem.f_opt, abs=1e-9) and problem.f(at + 0.1) > problem.f_opt


@pytest.mark.parametrize("function", [1, 2, 3])
def test_plain_functions_have_their_optimum_at_zero(function: int) -> None:
    problem = SUITES["plain"].problem(function, 50, 1)
    f = Counted(problem, 10**6)
    f(problem.x0)
    assert f.hits == [1]  # targets are relative to the start
    solve(SOLVERS["l-bfgs-b"], Counted(problem, 20_000), 0)
    g = Counted(problem, 20_000)
    solve(SOLVERS["l-bfgs-b"], g, 0)
    assert 0 <= g.best < 1e-3 * f.best


@pytest.mark.parametrize("name, d", [("bbob", 7), ("bbob-largescale", 10), ("bbob-noisy", 50)])
def test_a_dimension_that_a_suite_lacks_is_refused(name: str, d: int) -> None:
    pytest.importorskip("cocoex", reason=MEND)
    with pytest.raises(ValueError, match=f"{name} has no function 2 in {d} dimensions"):
        SUITES[name].problem(2, d, 1)


# ---------------------------------------------------------------------------------------------------------- trials


def task(solver: str, budget: int = 20, function: int = 1, instance: int = 1, suite: str = "plain") -> Task:
    return Task(suite, solver, 3, budget, function, instance, 0)


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_spends_its_budget_and_nothing_more(name: str) -> None:
    if SOLVERS[name].package not in ("blackbox-zo", "scipy"):
        pytest.importorskip(SOLVERS[name].package, reason=MEND)
    done = trial(task(name, 20))
    assert done.error == "" and done.queries == 60
    assert done.hits == tuple(sorted(done.hits)) and done.hits[-1] <= 60
    assert trial(task(name, 20))[:3] == done[:3], "the same seed, another run"


def test_a_solver_that_raises_keeps_what_it_had_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(f: Counted, budget: int, seed: int) -> Floats:
        f(f.x0)
        raise RuntimeError("no more")

    monkeypatch.setitem(SOLVERS, "breaks", Solver("breaks", breaks, "", "scipy"))
    done = trial(task("breaks"))
    assert done.error == "RuntimeError: no more" and done.queries == 1 and done.hits == (1,)
    assert "breaks f1 i1 d3: RuntimeError: no more" in table([done])


def test_queries_beyond_the_budget_are_a_fault_of_ours_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(f: Counted, budget: int, seed: int) -> None:
        while True:
            f(f.x0)

    for name, told in ((OURS, "1 queries beyond the budget"), ("powell", "")):
        monkeypatch.setitem(SOLVERS, name, Solver(name, greedy, "", "scipy"))
        assert trial(task(name)).error == told


def test_under_noise_the_recommended_point_is_judged_without_noise() -> None:
    pytest.importorskip("cocoex", reason=MEND)
    done = trial(Task("bbob-gaussian", "powell", 5, 20, 1, 1, 0))
    assert done.gap > 0 and done.hits == (100,) * int((done.gap <= TARGETS).sum())


def test_processes_give_the_same_trials_in_the_same_order() -> None:
    plan = [task(name, 10, function) for name in ("powell", "slsqp") for function in (1, 2, 3)]
    alone, together = ([done[:3] for done in measured(plan, n)] for n in (1, 2))
    assert alone == together and [done[0] for done in together] == plan


def test_dear_solvers_are_given_less() -> None:
    plan = tasks(SUITES["bbob"], ["slsqp", "lq-cma", "cobyqa"], [5, 10], 1000, [1], [1])
    found = {(t.solver, t.d): t.budget for t in plan}
    assert found == {
        ("slsqp", 5): 1000,
        ("lq-cma", 5): 100,
        ("cobyqa", 5): 100,
        ("slsqp", 10): 1000,
        ("lq-cma", 10): 100,
    }
