"""`Trial`: what is kept of one solver on one problem; and many of them, in a process for each CPU."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np

from blackbox_zo.workers._outcomes import Lost, Raised
from blackbox_zo.workers._pool import Pool
from oracles.bench.problem import TARGETS, Counted, Problem
from oracles.bench.solvers import OURS, SOLVERS, solve
from oracles.bench.suites import SUITES, Suite

__all__ = ["Task", "Trial", "measured", "tasks", "trial"]


class Task(NamedTuple):
    """One solver on one problem; `budget` is in queries per dimension."""

    suite: str
    solver: str
    d: int
    budget: int
    function: int
    instance: int
    seed: int


class Trial(NamedTuple):
    """How it went.

    Attributes:
        task: What was run.
        queries: Queries made.
        gap: f - f_opt at the best query; under noise at the point that the solver recommends, without noise. In units
            of the problem's scale.
        micros: CPU microseconds a query, without the function's own time.
        hits: The number of queries after which each target was first reached, in order; as many as were. Under noise
            they are all at the end: the targets that the recommended point is within.
        error: What the solver raised, or "".
    """

    task: Task
    queries: int
    gap: float
    micros: float
    hits: tuple[int, ...]
    error: str = ""


def tasks(
    suite: Suite,
    solvers: Sequence[str],
    dimensions: Sequence[int],
    budget: int,
    functions: Sequence[int],
    instances: Sequence[int],
    seed: int = 0,
) -> list[Task]:
    """All combinations, a solver and a dimension after the other, without what a solver is not made for.

    The budget of a solver that is dear is its own limit, if that is less.
    """
    out = []
    for d, name in product(dimensions, solvers):
        solver = SOLVERS[name]
        if solver.largest is None or d <= solver.largest:
            most = min(budget, solver.most or budget)
            out += [Task(suite.name, name, d, most, f, i, seed) for f, i in product(functions, instances)]
    return out


def trial(task: Task) -> Trial:
    """Run one solver on one problem."""
    suite, solver = SUITES[task.suite], SOLVERS[task.solver]
    problem = suite.problem(task.function, task.d, task.instance)
    f, error = Counted(problem, task.budget * task.d), ""
    seed = int(np.random.SeedSequence([task.seed, task.function, task.d, task.instance]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of overflows and small populations: the peers' own affair
        _warm(task.solver)
        began = time.process_time()
        try:
            x = solve(solver, f, seed)
        except Exception as failure:  # a solver may raise anything; what it had found by then counts
            x, error = f.best_x, f"{type(failure).__name__}: {failure}"
        if f.refused and task.solver == OURS:
            error = f"{f.refused} queries beyond the budget"
        spent = time.process_time() - began
    gap, hits = f.best - problem.f_opt, tuple(f.hits)
    if suite.noisy:
        gap = (problem.true or problem.f)(x) - problem.f_opt
        hits = (f.queries,) * int((gap <= problem.scale * TARGETS).sum())
    micros = 1e6 * (spent / max(1, f.queries) - _cost(problem))
    return Trial(task, f.queries, gap / problem.scale, micros, hits, error)


def measured(tasks: Sequence[Task], processes: int = 1) -> Iterator[Trial]:
    """The trials, in the order of the tasks.

    Args:
        tasks: What to run.
        processes: Number of worker processes; with 1 all is run in this one.
    """
    if processes == 1:
        yield from map(trial, tasks)
        return
    pool, early, at = Pool(lambda: trial, processes, ahead=1), dict[int, Trial](), 0
    try:
        for some in pool.run(len(tasks), tasks.__getitem__):
            for i, outcome in some:
                if isinstance(outcome, Raised):
                    raise outcome.error
                died = isinstance(outcome, Lost)
                early[i] = Trial(tasks[i], 0, float("inf"), 0.0, (), outcome.reason) if died else outcome
            while at in early:
                yield early.pop(at)
                at += 1
    finally:
        pool.close()


@cache
def _warm(name: str) -> None:
    """Have a solver import what it needs before it is timed."""
    with suppress(Exception):  # which it will raise again
        solve(SOLVERS[name], Counted(SUITES["plain"].problem(1, 2, 1), 20), 0)


def _cost(problem: Problem) -> float:
    """CPU seconds of one query itself."""
    f, x, began = Counted(problem, 100), problem.x0, time.process_time()
    while f.left and time.process_time() - began < 0.1:
        f(x)
    return (time.process_time() - began) / f.queries
