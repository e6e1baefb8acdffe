"""`minimize`: a search in one call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from blackbox_zo._auto import answered_singly, auto, check_stopping
from blackbox_zo._begin import begun, pairs_of, start_of
from blackbox_zo._checks import check_at_least, check_choice, check_positive
from blackbox_zo._doors.parametrized import from_parametrization, is_parametrization
from blackbox_zo._records import Ended, Report
from blackbox_zo._typing import Tree, override
from blackbox_zo.distinct import Distinct, distinct
from blackbox_zo.errors import FeedbackError, JournalError, MeasureError, TellError, WorkerError
from blackbox_zo.estimators import Estimator, Portfolio
from blackbox_zo.function import FunctionOracle
from blackbox_zo.journal import Journal
from blackbox_zo.measure import Measure
from blackbox_zo.observers import display
from blackbox_zo.oracle import Oracle
from blackbox_zo.rules import Rule
from blackbox_zo.run import Observer, Run
from blackbox_zo.search import Search
from blackbox_zo.stopping import StoppingRule
from blackbox_zo.tally import Tally
from blackbox_zo.variables import Starts, Vector

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["Method", "by_name", "minimize"]

Method = str | Estimator | tuple[Estimator, Rule]


def minimize(
    fun: Callable[..., Any] | Oracle,
    x0: Tree | Starts | None = None,
    method: Method = "auto",
    budget: int | None = 2000,
    bounds: Any = None,
    seed: int = 0,
    vectorized: bool = False,
    workers: int = 1,
    executor: Executor | None = None,
    journal: str | Path | Journal | None = None,
    callback: Callable[..., Any] | None = None,
    progress: bool | Callable[[Report], Any] | Observer | list[Observer] | None = None,
    *,
    on_error: Literal["raise", "fail", "skip"] = "raise",
    time_limit: float | None = None,
    timeout: float | None = None,
    target: float | None = None,
    steps: int | None = None,
    measures: list[Measure] | None = None,
    unit: Any = None,
    args: tuple[Any, ...] = (),
    known: Iterable[tuple[Tree, float]] | None = None,
    retries: int = 0,
    change: bool = False,
    asynchronous: bool = False,
    stopping: StoppingRule | None = None,
) -> OptimizeResult:
    """Minimise a function from its values alone.

    Args:
        fun: From x, in the structure of x0, to one number; lower is better. NaN or infinity is a failed query, which is
            counted. With `vectorized`, from all n points of a step, shape (n, d), to n numbers. Or an `Oracle`.
        x0: The start: a number, an array, or nested dicts, lists and tuples of them. Several as `Starts`. None for the
            best known point. Or a parametrization of nevergrad, such as `ng.p.Instrumentation(...)`; `fun` is then
            called with its `args` and `kwargs`, and `x` is its `value`.
        method: "auto", an estimator, or a pair of estimator and rule. "auto" is a `Portfolio`: a search along
            coordinates, a quasi-Newton method and a CMA-ES in turn, then restarts.
        budget: Most queries: calls of `fun`, without `retries`. The last step is cut short if it would exceed it. None
            for no such limit, if there is another one: `steps` or `time_limit`.
        bounds: None, one (low, high) pair for all elements, or one pair per element; points never leave them.
        seed: Determines all randomness.
        vectorized: See `fun`.
        workers: Number of worker processes.
        executor: A `concurrent.futures.Executor` to use instead of worker processes.
        journal: A file that records every answer. If it holds a run, that run continues, and nothing is asked twice.
        callback: Called after every step with an `OptimizeResult`, by keyword if its only parameter is named
            `intermediate_result`. To stop, raise StopIteration or return True.
        progress: True for a live bar on a terminal and plain lines elsewhere (on stderr); a function of each step's
            `Report`; or observers.
        on_error: What to do on an exception in `fun`: "raise" it, "fail" (stop, and return the best so far), or "skip"
            (count a failed query).
        time_limit: Seconds after which to stop. Queries on workers are ended, and those on an executor abandoned; a
            query in this process is finished first.
        timeout: Seconds that one query may take; a query that takes longer is ended, and has failed. It is asked in a
            worker process then, also with `workers=1`.
        target: Stop once a value as low as this has been found.
        steps: Most steps, those of a resumed run included; each is one move. None for no limit.
        measures: Functions to evaluate between steps; see `Measure`.
        unit: The unit of movement, a positive number or one per element; radii and moves are in it. By default 1; with
            "auto" half the distance of two bounds, else the size of x0 (of large arrays the median) where that is below
            0.01 or above 100.
        args: More arguments for `fun`, after x.
        known: Points that somebody else has measured, as pairs (x, value), x in the structure of x0. They cost no
            budget. A value of NaN is a point that is known to fail. See `Search.tell_known`.
        retries: How often a failed query is asked again before it has failed; see `Retry`. An exception is a failure
            with `on_error="skip"` alone.
        change: Whether a run in the journal may go on with another method than before; see `Search.change`.
        asynchronous: Let no worker wait: each step is one query, a worker that is done gets the next at once, and no
            generation waits for its last answer. "auto" is then a CMA-ES and its restarts. The run does not repeat from
            its seed, as its course depends on time, but its journal resumes it exactly.
        stopping: Ends queries early, by what `fun` says with `report` on the way: `SuccessiveHalving()` or
            `MedianRule()`. "auto" is then a CMA-ES and its restarts, which only compares values.

    Returns:
        `OptimizeResult`: the best point `x` that was asked or known, and its value `fun`, under noise where the search
        stands, and the mean of its newest values, with their standard error `stderr`; the sample of the lowest value,
        `luckiest`, a `Best`; `nfev`, the number of calls made, retries and
        those of a resumed run included; `nit`, the number of moves; `success`; `status`, an `Ended` (0 budget spent, 1
        stopped by the callback, 2 time limit, 3 interrupted, 4 `fun` raised, 5 every query failed, 6 target reached,
        7 steps made); `message`; `nfailed`; `center`, where the search stands; and `trace`, with "auto": which
        method spent how many queries, and what they gained, as a list of `Spent`.

    Raises:
        ValueError: An argument is out of its range.
        TypeError: An argument, or what `fun` returns, is of the wrong type.
        JournalError: The journal is damaged, or of another problem or version.

    Example:
        >>> import blackbox_zo as bz
        >>> r = bz.minimize(lambda x: (x[0] - 1) ** 2 + (x[1] + 2) ** 2, [0.0, 0.0], budget=400)
        >>> r.nfev, bool(r.fun < 1e-6)
        (400, True)
    """
    if is_parametrization(x0):
        return from_parametrization(minimize, dict(locals()))
    for limit, value in (("budget", budget), ("steps", steps)):
        if value is not None:
            check_at_least("minimize", 1, **{limit: value})
    if callback is not None and not callable(callback):
        raise TypeError(f"`callback` must be a function of an `OptimizeResult`, got {callback!r:.60}.")
    check_choice("minimize", ("raise", "fail", "skip"), on_error=on_error)
    if time_limit is not None:
        check_positive("minimize", time_limit=time_limit)
    check_at_least("minimize", 0, retries=retries)
    budget = None if budget is None else int(budget)
    observers = display(progress, Tally(budget))
    oracle: Any = fun
    asked: dict[str, Any] = {
        "vectorized": vectorized,
        "executor": executor,
        "args": args,
        "timeout": timeout,
        "stopping": stopping,
        "retries": retries,
    }
    if not (isinstance(fun, Oracle) or callable(getattr(fun, "answer", None))):
        skip: Literal["skip", "raise"] = "skip" if on_error == "skip" else "raise"
        oracle = FunctionOracle(fun, workers=workers, on_error=skip, **asked)
    elif given := [name for name, value in asked.items() if value] + ["workers"] * (workers != 1):
        raise ValueError(f"`{given[0]}` says how a function is asked, but `fun` is an oracle; give it to that instead.")
    pairs, then = pairs_of(known), begun(journal)
    x0 = start_of(x0, pairs, then)
    start = Vector(x0, bounds, unit)
    if isinstance(method, str) and method != "auto":
        raise ValueError(f'`method` must be "auto", an estimator, or (estimator, rule); got {method!r}.')
    suited, default = auto(start, x0, bounds, unit, asynchronous=asynchronous, stopping=stopping is not None)
    if then is None or not (change or then.changed):
        start = suited if isinstance(method, str) else start
    elif suited.fingerprint() == then.header.get("start"):  # the unit is part of the problem, and stays
        start = suited
    method = default if isinstance(method, str) else method
    estimator, rule = method if isinstance(method, tuple) and len(method) == 2 else (method, None)
    if not isinstance(estimator, Estimator) or not (rule is None or isinstance(rule, Rule)):
        raise TypeError(f'`method` must be "auto", an estimator, or (estimator, rule); got {method!r:.80}.')
    if stopping is not None:
        check_stopping(estimator)
    if asynchronous:
        estimator = answered_singly(start, estimator)
    over = ""
    if start.fixed.all():
        over, budget = "`bounds` fix every element of `x0`, so it was asked about once.", 1
    else:
        estimator = distinct(start, estimator)
    search = Search(start, estimator, rule, seed=seed, budget=budget, journal=journal, change=change)
    try:
        search.tell_known([x for x, _ in pairs], [value for _, value in pairs])
        if isinstance(estimator, Distinct) and search.limit_to(estimator.left(search.state)):
            over = f"All {estimator.n} points that there are were asked about{' or known' * bool(pairs)}."
        before = search.nfev + search.retried - getattr(oracle, "calls", 0)
        limits: dict[str, Any] = {"time_limit": time_limit, "target": target}
        if steps is not None:
            limits["steps"] = max(int(steps) - search.moves, 0)
        run = Run(search, oracle, **limits, measures=measures or (), observers=observers, asynchronous=asynchronous)
        if callback is not None:
            run.observers += (_ScipyCallback(callback, before),)
        _to_the_end(run, on_error)
        if over and run.ended is Ended.BUDGET:
            run.message = over
        return _result(run, before)
    finally:
        search.close()
        if isinstance(oracle, FunctionOracle) and oracle is not fun:
            oracle.close()


def _to_the_end(run: Run, on_error: str) -> None:
    try:
        run.to_the_end()
    except (FeedbackError, TellError, JournalError):
        raise
    except Exception as error:
        if error is run.oracle_error and on_error == "fail":
            run.message = _told(run.oracle, error)
            return
        best = run.search.best
        lost = error is run.oracle_error or run.raised_by or isinstance(error, MeasureError)  # else a journal has it
        if best.exists and lost:
            error.add_note(f"Best so far, after {run.search.nfev} queries: f = {best.value} at {best.x}")
        raise


def _told(oracle: Any, error: Exception) -> str:
    """Who raised an exception while queries were answered: the function, what calls it, or the user's oracle."""
    what = f"{type(error).__name__}: {error}"
    if not isinstance(oracle, FunctionOracle):
        return f"The oracle raised {what}"
    if error is not oracle.raised:
        return str(error) if isinstance(error, WorkerError) else what
    ours = isinstance(error, TypeError) and str(error).startswith("`fun` returned")
    return str(error) if ours else f"`fun` raised {what}"


def _result(run: Run, before: int) -> OptimizeResult:
    """Where things stand."""
    from scipy.optimize import OptimizeResult

    search, best = run.search, run.search.best
    nfev = search.nfev + search.retried
    if isinstance(run.oracle, FunctionOracle):  # calls that were interrupted or raised were calls too
        nfev = before + run.oracle.calls
    x, fun, stderr, portfolio = best.x, best.value, 0.0, search.estimator
    if isinstance(portfolio, Portfolio) and search.state.noise:
        assert isinstance(search.variable, Vector)
        there, fun, stderr = portfolio.recommended(search.state, search.variable)
        x = there.x
    return OptimizeResult(
        x=x,
        fun=fun,
        stderr=stderr,
        luckiest=best,
        nfev=nfev,
        nit=search.moves,
        success=best.exists and run.ended not in (Ended.INTERRUPTED, Ended.RAISED, Ended.FAILED, Ended.BARREN),
        status=int(run.ended or Ended.BUDGET),
        message=run.message or "running",
        nfailed=search.failed,
        center=search.variable.x,
        trace=portfolio.trace(search.state) if isinstance(portfolio, Portfolio) else [],
    )


class _ScipyCallback(Observer):
    """Hands an `OptimizeResult` to a function after each step, as scipy's own methods do."""

    called = "the callback"

    def __init__(self, function: Callable[..., Any], before: int) -> None:
        self.function, self.before = function, before
        self.by_name = by_name(function)

    @override
    def stepped(self, run: Run, report: Report) -> bool:
        so_far = _result(run, self.before)
        try:
            answer = self.function(intermediate_result=so_far) if self.by_name else self.function(so_far)
        except StopIteration:
            return True
        whole = isinstance(answer, bool | np.bool_) or str(getattr(answer, "dtype", "")) in ("bool", "torch.bool")
        return whole and bool(answer)


def by_name(callback: Callable[..., Any]) -> bool:
    """Whether a callback asks for its argument by scipy's name."""
    try:
        return set(inspect.signature(callback).parameters) == {"intermediate_result"}
    except (TypeError, ValueError):  # something built in, which says nothing of its parameters
        return False
